#include "engine/images/print.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/base/bytes.h"
#include "engine/images/pages_writer.h"
#include "engine/images/record_types.h"
#include "proto/images/file_data.pb.h"
#include "proto/images/inventory.pb.h"
#include "proto/images/mm.pb.h"
#include "proto/images/namespaces.pb.h"
#include "proto/images/sockets.pb.h"
#include "tests/support/sample_message.h"
#include "tests/support/temporary_directory.h"

namespace godwit::images {
namespace {

std::string printed(const std::string& path, PrintFormat format, bool contents = false) {
  std::ostringstream out;
  print_image(out, path, format, contents);
  return out.str();
}

nlohmann::json as_json(const std::string& path, bool contents = false) {
  return nlohmann::json::parse(printed(path, PrintFormat::kJson, contents));
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

template <class Record>
Record sample() {
  Record record;
  uint32_t next = 0;
  test::fill_message(record, next);
  return record;
}

std::span<const std::byte> bytes_of_text(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST_CASE("every kind prints as text and as JSON under its magic name") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  for (const ImageKind& row : all_image_kinds()) {
    if (row.payload != Payload::kNone) continue;
    CAPTURE(row.name);
    std::unique_ptr<google::protobuf::Message> record(record_prototype(row.kind)->New());
    uint32_t next = 0;
    test::fill_message(*record, next);
    directory.write_one(row.kind, 5, *record);
    std::string path = dir / file_name(row.kind, 5);
    auto json = as_json(path);
    auto canonical = kind_of_magic(row.magic);
    REQUIRE(canonical);
    CHECK(json["magic"] == image_kind(*canonical).name);
    REQUIRE(json["entries"].size() == 1);
    CHECK(json["entries"][0].size() == static_cast<size_t>(record->GetDescriptor()->field_count()));
    CHECK(contains(printed(path, PrintFormat::kText), record->GetDescriptor()->field(0)->name()));
  }
}

TEST_CASE("text shows addresses in hexadecimal") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  auto mm = sample<pb::mm_entry>();
  mm.mutable_vmas(0)->set_start(0x7f0000001000);
  mm.set_mm_brk(0x5550000);
  directory.write_one(Kind::kMm, 5, mm);
  std::string text = printed(dir / "mm-5.img", PrintFormat::kText);
  CHECK(text.starts_with("MM\n"));
  CHECK(contains(text, "start: 0x7f0000001000"));
  CHECK(contains(text, "mm_brk: 0x5550000"));
  CHECK(contains(text, "exe_file_id: 12"));
  CHECK(as_json(dir / "mm-5.img")["entries"][0]["vmas"][0]["start"] == 0x7f0000001000);
}

TEST_CASE("pagemaps show flags as words, pages files their size or bytes") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  PagesWriter writer(directory);
  writer.open(Kind::kPagemap, 5);
  writer.buffer()[17] = std::byte{0xab};
  writer.write_pages(0x1000, 1, kPagePresent | kPageLazy);
  writer.add_entry(0x2000, 3, kPageInParent);
  writer.close();
  writer.finish();
  std::string text = printed(dir / "pagemap-5.img", PrintFormat::kText);
  CHECK(contains(text, "{pages_id: 1}"));
  CHECK(contains(text, "{vaddr: 0x1000, compat_nr_pages: 1, flags: PE_LAZY | PE_PRESENT, nr_pages: 1}"));
  CHECK(contains(text, "flags: PE_PARENT"));
  auto json = as_json(dir / "pagemap-5.img");
  CHECK(json["magic"] == "PAGEMAP");
  CHECK(json["entries"][2]["nr_pages"] == 3);
  CHECK(json["entries"][1]["flags"] == 6);

  CHECK(printed(dir / "pages-1.img", PrintFormat::kText) == "raw, 4096 bytes\n");
  CHECK(as_json(dir / "pages-1.img")["bytes"] == 4096);
  CHECK(contains(printed(dir / "pages-1.img", PrintFormat::kText, true), "  00000010  00 ab 00"));
}

TEST_CASE("payloads: sizes, or contents as crit has them") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  std::string text(58, 'x');
  auto pipe = sample<pb::pipe_data_entry>();
  pipe.set_bytes(58);
  RecordWriter pipes = directory.create(Kind::kPipesData);
  for (int i = 0; i < 2; ++i) {
    pipes.write(pipe);
    pipes.write_payload(bytes_of_text(text));
  }
  pipes.finish();
  CHECK(as_json(dir / "pipes-data.img")["entries"][1]["extra"] == "... <58B>");
  std::string line;
  for (int i = 0; i < 19; ++i) line += "eHh4";
  CHECK(as_json(dir / "pipes-data.img", true)["entries"][1]["extra"] == line + "\neA==\n");
  CHECK(contains(printed(dir / "pipes-data.img", PrintFormat::kText), "<58 bytes>"));

  auto stream = sample<pb::tcp_stream_entry>();
  stream.set_inq_len(1);
  stream.set_outq_len(2);
  RecordWriter tcp = directory.create(Kind::kTcpStream, 0x1f);
  tcp.write(stream);
  tcp.write_payload(bytes_of_text("abc"));
  tcp.finish();
  auto extra = as_json(dir / "tcp-stream-1f.img", true)["entries"][0]["extra"];
  CHECK(extra["inq"] == "YQ==\n");
  CHECK(extra["outq"] == "YmM=\n");
}

TEST_CASE("payloads of System V objects are padded") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  auto semaphores = sample<pb::ipc_sem_entry>();
  semaphores.set_nsems(3);
  RecordWriter sem = directory.create(Kind::kIpcnsSem, 9);
  for (int i = 0; i < 2; ++i) {
    sem.write(semaphores);
    sem.write_payload(bytes_of_text({"\1\0\2\0\3\1..", 8}));
  }
  sem.finish();
  CHECK(as_json(dir / "ipcns-sem-9.img", true)["entries"][1]["extra"] == nlohmann::json{1, 2, 259});

  auto queue = sample<pb::ipc_msg_entry>();
  queue.set_qnum(2);
  auto message = sample<pb::ipc_msg>();
  message.set_msize(1);
  RecordWriter msg = directory.create(Kind::kIpcnsMsg, 9);
  msg.write(queue);
  for (int i = 0; i < 2; ++i) {
    msg.write(message);
    msg.write_payload(bytes_of_text("a......."));
  }
  msg.finish();
  auto extra = as_json(dir / "ipcns-msg-9.img", true)["entries"][0]["extra"];
  REQUIRE(extra.size() == 4);
  CHECK(extra[2]["msize"] == 1);
  CHECK(extra[3] == "YQ==\n");
}

TEST_CASE("ghost files, whole and in chunks") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  auto ghost = sample<pb::ghost_file_entry>();
  ghost.set_chunks(false);
  RecordWriter whole = directory.create(Kind::kGhostFile, 1);
  whole.write(ghost);
  whole.write_payload(bytes_of_text("abc"));
  whole.finish();
  CHECK(as_json(dir / "ghost-file-1.img", true)["entries"][0]["extra"] == "YWJj\n");

  ghost.set_chunks(true);
  auto chunk = sample<pb::ghost_chunk_entry>();
  chunk.set_len(3);
  RecordWriter sparse = directory.create(Kind::kGhostFile, 2);
  sparse.write(ghost);
  for (int i = 0; i < 2; ++i) {
    sparse.write(chunk);
    sparse.write_payload(bytes_of_text("abc"));
  }
  sparse.finish();
  auto entries = as_json(dir / "ghost-file-2.img", true)["entries"];
  REQUIRE(entries.size() == 3);
  CHECK_FALSE(entries[0].contains("extra"));
  CHECK(entries[2]["extra"] == "YWJj\n");
}

TEST_CASE("names that are not UTF-8 do not break JSON") {
  test::TemporaryDirectory dir;
  auto inventory = sample<pb::inventory_entry>();
  inventory.set_dump_criu_run_id("a\xff\"b\n");
  ImageDirectory::open(dir.path()).write_inventory(inventory);
  CHECK(as_json(dir / "inventory.img")["entries"][0]["dump_criu_run_id"] == "a\xef\xbf\xbd\"b\n");
  CHECK(contains(printed(dir / "inventory.img", PrintFormat::kText), "\\\"b\\x0a"));
}

TEST_CASE("a directory is printed past a damaged file") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  directory.write_inventory(sample<pb::inventory_entry>());
  directory.write_one(Kind::kMm, 5, sample<pb::mm_entry>());
  open_at(AT_FDCWD, dir / "dump.log", O_CREAT | O_WRONLY, 0600);
  std::ostringstream good;
  CHECK(print_directory(good, dir.path(), PrintFormat::kJson, false));
  CHECK(nlohmann::json::parse(good.str()).size() == 2);

  REQUIRE(::truncate((dir / "inventory.img").c_str(), 9) == 0);
  std::ostringstream json, text;
  CHECK_FALSE(print_directory(json, dir.path(), PrintFormat::kJson, false));
  auto parsed = nlohmann::json::parse(json.str());
  CHECK(contains(parsed["inventory.img"]["error"], "inventory.img: record 1: the file ends"));
  CHECK(parsed["mm-5.img"]["magic"] == "MM");
  CHECK_FALSE(print_directory(text, dir.path(), PrintFormat::kText, false));
  CHECK(contains(text.str(), "mm-5.img: MM"));
  CHECK_THROWS_AS(printed(dir / "inventory.img", PrintFormat::kText), FormatError);
}

TEST_CASE("what is no image is refused") {
  test::TemporaryDirectory dir;
  std::string path = dir / "something";
  write_all(open_at(AT_FDCWD, path, O_CREAT | O_WRONLY, 0600).get(), bytes_of_text("#!/bin/sh"), "something");
  CHECK_THROWS_AS(printed(path, PrintFormat::kText), FormatError);
  CHECK_THROWS_AS(printed(dir.path(), PrintFormat::kText), FormatError);
  CHECK_THROWS_AS(printed(dir / "absent", PrintFormat::kText), SystemError);
}

}  // namespace
}  // namespace godwit::images
