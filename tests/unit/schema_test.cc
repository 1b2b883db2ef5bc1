#include <doctest/doctest.h>
#include <google/protobuf/descriptor.h>

#include <string>

#include "proto/images/core.pb.h"
#include "proto/images/fdinfo.pb.h"
#include "proto/images/file_data.pb.h"
#include "proto/images/inventory.pb.h"
#include "proto/images/mm.pb.h"
#include "proto/images/pagemap.pb.h"
#include "proto/images/registers.pb.h"
#include "proto/images/sockets.pb.h"
#include "proto/images/stats.pb.h"
#include "proto/rpc/rpc.pb.h"

// The schemas against facts of CRIU's images that were not taken from the same table.
namespace godwit {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

template <class Message>
int number_of(const std::string& field) {
  const FieldDescriptor* found = Message::descriptor()->FindFieldByName(field);
  return found == nullptr ? -1 : found->number();
}

TEST_CASE("field numbers") {
  CHECK(number_of<pb::core_entry>("mtype") == 1);
  CHECK(number_of<pb::core_entry>("thread_info") == 2);
  CHECK(number_of<pb::core_entry>("tc") == 3);
  CHECK(number_of<pb::core_entry>("thread_core") == 5);
  CHECK(number_of<pb::mm_entry>("vmas") == 14);
  CHECK(number_of<pb::vma_entry>("fd") == 8);
  CHECK(number_of<pb::pagemap_entry>("flags") == 4);
  CHECK(number_of<pb::pagemap_entry>("nr_pages") == 5);
  CHECK(number_of<pb::inventory_entry>("img_version") == 1);
  CHECK(number_of<pb::user_x86_regs_entry>("ip") == 17);
  CHECK(number_of<pb::thread_info_x86>("gpregs") == 2);
  CHECK(number_of<pb::stats_entry>("restore") == 2);
  CHECK(number_of<pb::criu_req>("opts") == 2);
  CHECK(number_of<pb::criu_opts>("images_dir_fd") == 1);
}

TEST_CASE("types and defaults") {
  // A signed field of the zigzag encoding: fd is -1 for anonymous mappings.
  CHECK(pb::vma_entry::descriptor()->FindFieldByName("fd")->type() == FieldDescriptor::TYPE_SINT64);
  CHECK(pb::criu_opts().ghost_limit() == 1048576);
  CHECK(pb::criu_opts().cpu_cap() == 0xffffffff);
  CHECK(pb::reg_file_entry().mnt_id() == -1);
  CHECK(pb::core_entry::X86_64 == 1);
  CHECK(pb::PIDFD == 20);
}

void check_not_packed(const Descriptor& message) {
  for (int i = 0; i < message.field_count(); ++i) {
    CAPTURE(message.field(i)->full_name());
    CHECK_FALSE(message.field(i)->is_packed());
  }
}

TEST_CASE("no repeated field is packed") {
  for (const auto* file :
       {pb::core_entry::descriptor()->file(), pb::mm_entry::descriptor()->file(),
        pb::user_x86_regs_entry::descriptor()->file(), pb::fdinfo_entry::descriptor()->file()}) {
    for (int i = 0; i < file->message_type_count(); ++i) check_not_packed(*file->message_type(i));
  }
  pb::mm_entry mm;
  mm.add_mm_saved_auxv(1);
  mm.add_mm_saved_auxv(2);
  CHECK(mm.SerializePartialAsString() == "\x68\x01\x68\x02");
}

TEST_CASE("bytes of a vma as CRIU writes them") {
  pb::vma_entry vma;
  vma.set_start(0x400000);
  vma.set_end(0x401000);
  vma.set_pgoff(0);
  vma.set_shmid(3);
  vma.set_prot(5);
  vma.set_flags(2);
  vma.set_status(65);
  vma.set_fd(-1);
  using namespace std::string_literals;
  CHECK(vma.SerializeAsString() ==
        "\x08\x80\x80\x80\x02\x10\x80\xa0\x80\x02\x18\x00\x20\x03\x28\x05\x30\x02\x38\x41\x40\x01"s);
}

}  // namespace
}  // namespace godwit
