#include "engine/images/record_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <google/protobuf/util/message_differencer.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>

#include "engine/base/bytes.h"
#include "engine/images/record_types.h"
#include "proto/images/core.pb.h"
#include "proto/images/file_data.pb.h"
#include "proto/images/inventory.pb.h"
#include "proto/images/mm.pb.h"
#include "tests/support/sample_message.h"
#include "tests/support/temporary_directory.h"

namespace godwit::images {
namespace {

std::string error_of(auto&& action) {
  try {
    action();
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no FormatError was thrown";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Fd create_file(const std::string& path) {
  return open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
}

RecordReader open_file(const std::string& path, Kind kind) {
  return RecordReader(open_at(AT_FDCWD, path, O_RDONLY), kind, path);
}

void write_file(const std::string& path, const std::string& text) {
  write_all(create_file(path).get(), std::as_bytes(std::span(text)), path.c_str());
}

std::string number(uint32_t value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::unique_ptr<google::protobuf::Message> sample(Kind kind) {
  std::unique_ptr<google::protobuf::Message> message(record_prototype(kind)->New());
  uint32_t next = 0;
  test::fill_message(*message, next);
  return message;
}

TEST_CASE("every kind of record comes back as it was written") {
  test::TemporaryDirectory dir;
  for (const ImageKind& row : all_image_kinds()) {
    CAPTURE(row.name);
    if (row.payload == Payload::kRaw) {
      CHECK(record_prototype(row.kind) == nullptr);
      continue;
    }
    REQUIRE(record_prototype(row.kind) != nullptr);
    auto written = sample(row.kind);
    RecordWriter writer(create_file(dir / "image"), row.kind, "image");
    writer.write(*written);
    writer.write(*written);
    writer.finish();

    RecordReader reader = open_file(dir / "image", row.kind);
    std::unique_ptr<google::protobuf::Message> read(written->New());
    for (int i = 0; i < 2; ++i) {
      REQUIRE(reader.next(*read));
      CHECK(google::protobuf::util::MessageDifferencer::Equals(*written, *read));
    }
    CHECK_FALSE(reader.next(*read));
  }
}

TEST_CASE("the bytes are those of the format") {
  test::TemporaryDirectory dir;
  pb::pipe_data_entry record;
  record.set_pipe_id(5);
  record.set_bytes(3);
  RecordWriter writer(create_file(dir / "image"), Kind::kPipesData, "image");
  writer.write(record);
  writer.write_payload(std::as_bytes(std::span("abc", 3)));
  writer.finish();
  CHECK(read_file(AT_FDCWD, dir / "image") == number(0x54564319) + number(0x56453709) + number(4) +
                                                  std::string("\x08\x05\x10\x03"
                                                              "abc"));
}

TEST_CASE("an image cut off at any length is refused, or is one record shorter") {
  test::TemporaryDirectory dir;
  for (Kind kind : {Kind::kCore, Kind::kMm, Kind::kInventory, Kind::kFiles, Kind::kCgroup}) {
    CAPTURE(image_kind(kind).name);
    RecordWriter writer(create_file(dir / "image"), kind, "image");
    writer.write(*sample(kind));
    writer.finish();
    uint64_t header = image_kind(kind).first_magic != 0 ? 8 : 4;
    uint64_t size = read_file(AT_FDCWD, dir / "image").size();
    for (uint64_t length = size; length-- > 0;) {
      CAPTURE(length);
      REQUIRE(::truncate((dir / "image").c_str(), static_cast<off_t>(length)) == 0);
      std::unique_ptr<google::protobuf::Message> message(record_prototype(kind)->New());
      if (length == header) {
        CHECK_FALSE(open_file(dir / "image", kind).next(*message));
      } else {
        CHECK_THROWS_AS(open_file(dir / "image", kind).next(*message), FormatError);
      }
    }
  }
}

TEST_CASE("magic numbers are checked and named") {
  test::TemporaryDirectory dir;
  std::string path = dir / "core-1.img";
  write_file(path, number(kCommonMagic) + number(image_kind(Kind::kMm).magic));
  std::string error = error_of([&] { open_file(path, Kind::kCore); });
  CHECK(contains(error, path));
  CHECK(contains(error, "MM"));
  CHECK(contains(error, "CORE"));
  write_file(path, number(kServiceMagic) + number(image_kind(Kind::kCore).magic));
  CHECK_THROWS_AS(open_file(path, Kind::kCore), FormatError);
  write_file(path, "");
  CHECK_THROWS_AS(open_file(path, Kind::kCore), FormatError);
}

TEST_CASE("images of version 1 have one magic number") {
  test::TemporaryDirectory dir;
  pb::inventory_entry record;
  record.set_img_version(1);
  write_file(dir / "image", number(image_kind(Kind::kPstree).magic) + number(0));
  RecordReader reader = open_file(dir / "image", Kind::kPstree);
  CHECK(reader.remaining() == 4);
}

TEST_CASE("lengths and contents that cannot be are refused before anything is allocated") {
  test::TemporaryDirectory dir;
  std::string header = number(kCommonMagic) + number(image_kind(Kind::kMm).magic);
  auto error_for = [&](const std::string& rest) {
    write_file(dir / "mm-1.img", header + rest);
    pb::mm_entry record;
    return error_of([&] { open_file(dir / "mm-1.img", Kind::kMm).next(record); });
  };
  CHECK(contains(error_for(number(0xffffffff) + "x"),
                 "record 1: a length of 4294967295 bytes is over the limit"));
  CHECK(contains(error_for(number(1000) + "x"), "record 1: the file ends: 1 of 1000 bytes are there"));
  CHECK(contains(error_for(number(2) + "\xff\xff"), "not a valid godwit.pb.mm_entry"));
  CHECK(contains(error_for(number(0)), "lacks mm_start_code"));
  CHECK(contains(error_for("ab"), "ends in its length"));
}

TEST_CASE("a record of length zero is a message without fields") {
  test::TemporaryDirectory dir;
  write_file(dir / "image", number(kCommonMagic) + number(image_kind(Kind::kCgroup).magic) + number(0));
  auto message = std::unique_ptr<google::protobuf::Message>(record_prototype(Kind::kCgroup)->New());
  RecordReader reader = open_file(dir / "image", Kind::kCgroup);
  CHECK(reader.next(*message));
  CHECK_FALSE(reader.next(*message));
}

TEST_CASE("payloads larger than the buffers, read, skipped and cut off") {
  test::TemporaryDirectory dir;
  std::vector<std::byte> bytes(1'000'000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 >> 3);
  pb::pipe_data_entry record;
  record.set_bytes(static_cast<uint32_t>(bytes.size()));
  RecordWriter writer(create_file(dir / "image"), Kind::kPipesData, "image");
  for (uint32_t id = 1; id <= 3; ++id) {
    record.set_pipe_id(id);
    writer.write(record);
    writer.write_payload(bytes);
  }
  writer.finish();

  RecordReader reader = open_file(dir / "image", Kind::kPipesData);
  CHECK(reader.read_one<pb::pipe_data_entry>().pipe_id() == 1);
  reader.skip_payload(bytes.size());
  CHECK(reader.read_one<pb::pipe_data_entry>().pipe_id() == 2);
  CHECK(reader.read_payload(bytes.size()) == bytes);
  CHECK(reader.read_one<pb::pipe_data_entry>().pipe_id() == 3);
  CHECK(reader.remaining() == bytes.size());
  CHECK_THROWS_AS(reader.read_payload(bytes.size() + 1), FormatError);
  CHECK_THROWS_AS(reader.read_payload(uint64_t{1} << 60), FormatError);
  CHECK_THROWS_AS(reader.skip_payload(bytes.size() + 1), FormatError);
  CHECK(reader.read_payload(bytes.size()) == bytes);
  CHECK_THROWS_AS(reader.read_one<pb::pipe_data_entry>(), FormatError);
}

TEST_CASE("a record without its required fields is not written") {
  test::TemporaryDirectory dir;
  RecordWriter writer(create_file(dir / "image"), Kind::kMm, "image");
  CHECK_THROWS_AS(writer.write(pb::mm_entry()), Error);
}

TEST_CASE("a directory in place of an image is refused") {
  test::TemporaryDirectory dir;
  CHECK_THROWS_AS(open_file(dir.path(), Kind::kMm), FormatError);
}

TEST_CASE("file names and kinds belong together") {
  CHECK(file_name(Kind::kCore, 42) == "core-42.img");
  CHECK(file_name(Kind::kGhostFile, 255) == "ghost-file-ff.img");
  CHECK(file_name(Kind::kFiles, 7) == "files.img");
  CHECK(kind_of_file_name("pagemap-shmem-5.img") == Kind::kShmemPagemap);
  CHECK(kind_of_file_name("pagemap-5.img") == Kind::kPagemap);
  CHECK(kind_of_file_name("netns-ct-9.img") == Kind::kNetnfCt);
  CHECK(kind_of_file_name("tcp-stream-1a.img") == Kind::kTcpStream);
  CHECK_FALSE(kind_of_file_name("core-.img"));
  CHECK_FALSE(kind_of_file_name("core-1x.img"));
  CHECK_FALSE(kind_of_file_name("dump.log"));
  for (const ImageKind& row : all_image_kinds()) {
    CAPTURE(row.name);
    auto kind = kind_of_file_name(file_name(row.kind, 10));
    REQUIRE(kind);
    CHECK(image_kind(*kind).pattern == row.pattern);
  }
}

}  // namespace
}  // namespace godwit::images
