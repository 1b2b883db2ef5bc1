// Descriptions and tables out of images, those of older CRIUs too, and images that make no sense.
#include "engine/files/file_entries.h"

#include <doctest/doctest.h>

#include "engine/base/error.h"
#include "engine/files/description_state.h"
#include "tests/support/file_holder.h"

using namespace godwit;
using namespace godwit::files;
using images::Kind;

namespace {

template <class... Messages>
void write(images::ImageDirectory& images, Kind kind, uint64_t id, const Messages&... messages) {
  auto writer = images.create(kind, id);
  (writer.write(messages), ...);
  writer.finish();
}

pb::eventfd_file_entry eventfd(uint32_t id) {
  pb::eventfd_file_entry entry;
  entry.set_id(id);
  entry.set_flags(2);
  entry.set_counter(5);
  *entry.mutable_fown() = no_owner();
  return entry;
}

pb::file_entry file(uint32_t id) {
  pb::file_entry entry;
  entry.set_id(id);
  entry.set_type(pb::EVENTFD);
  *entry.mutable_efd() = eventfd(id);
  return entry;
}

pb::fdinfo_entry row(uint32_t fd, uint32_t id, pb::fd_types type) {
  pb::fdinfo_entry entry;
  entry.set_fd(fd);
  entry.set_id(id);
  entry.set_type(type);
  entry.set_flags(0);
  return entry;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

}  // namespace

TEST_CASE("images per kind are read as if they were files.img") {
  test::TemporaryDirectory directory;
  auto images = images::ImageDirectory::open(directory.path());
  write(images, Kind::kFiles, 0, file(1));
  write(images, Kind::kEventfdFile, 0, eventfd(2));
  pb::eventpoll_file_entry epoll;
  epoll.set_id(3);
  epoll.set_flags(2);
  *epoll.mutable_fown() = no_owner();
  write(images, Kind::kEventpollFile, 0, epoll);
  pb::eventpoll_tfd_entry target;
  target.set_id(3);
  target.set_tfd(7);
  target.set_events(1);
  target.set_data(9);
  write(images, Kind::kEventpollTfd, 0, target);

  auto entries = read_file_entries(images);
  REQUIRE(entries.size() == 3);
  CHECK(entries.at(1).efd().counter() == 5);
  CHECK(entries.at(2).type() == pb::EVENTFD);
  CHECK(entries.at(2).efd().id() == 2);
  CHECK(entries.at(3).type() == pb::EVENTPOLL);
  REQUIRE(entries.at(3).epfd().tfd_size() == 1);
  CHECK(entries.at(3).epfd().tfd(0).tfd() == 7);
}

TEST_CASE("entries that contradict each other are errors") {
  test::TemporaryDirectory directory;
  auto images = images::ImageDirectory::open(directory.path());
  write(images, Kind::kFiles, 0, file(1), file(1));
  CHECK(error_of([&] { read_file_entries(images); }) == directory / "files.img: two open files have id 1");
  auto empty = file(1);
  empty.clear_efd();
  write(images, Kind::kFiles, 0, empty);
  CHECK(error_of([&] { read_file_entries(images); }) ==
        directory / "files.img: the entry with id 1 lacks what its type EVENTFD needs");
}

TEST_CASE("tables that contradict themselves or the files are errors") {
  test::TemporaryDirectory directory;
  auto images = images::ImageDirectory::open(directory.path());
  write(images, Kind::kFiles, 0, file(1));
  auto open = [&] { FileOpener(tree::make_file_kinds(), {}, images, {9}); };
  write(images, Kind::kFdinfo, 9, row(4, 2, pb::EVENTFD));
  CHECK(error_of(open) == "files.img: there is no open file with id 2");
  write(images, Kind::kFdinfo, 9, row(4, 1, pb::PIPE));
  CHECK(error_of(open) ==
        directory / "fdinfo-9.img: descriptor 4 and the open file with id 1 are of different types");
  write(images, Kind::kFdinfo, 9, row(4, 1, pb::EVENTFD), row(4, 1, pb::EVENTFD));
  CHECK(error_of(open) == directory / "fdinfo-9.img: descriptor 4 comes twice or is no number");
  write(images, Kind::kFdinfo, 9, row(0x80000000, 1, pb::EVENTFD));
  CHECK(error_of(open) == directory / "fdinfo-9.img: descriptor 2147483648 comes twice or is no number");
}

TEST_CASE("what cannot be restored is planned as a problem by name") {
  test::TemporaryDirectory directory;
  auto images = images::ImageDirectory::open(directory.path());
  pb::file_entry unix_socket;
  unix_socket.set_id(1);
  unix_socket.set_type(pb::UNIXSK);
  auto epoll = file(2);
  epoll.set_type(pb::EVENTPOLL);
  auto& target = *epoll.mutable_epfd()->add_tfd();
  epoll.mutable_epfd()->set_id(2);
  epoll.mutable_epfd()->set_flags(2);
  *epoll.mutable_epfd()->mutable_fown() = no_owner();
  target.set_id(2);
  target.set_tfd(77);
  target.set_events(1);
  target.set_data(1);
  write(images, Kind::kFiles, 0, unix_socket, epoll);
  write(images, Kind::kFdinfo, 9, row(4, 1, pb::UNIXSK), row(5, 2, pb::EVENTPOLL),
        row(999'999'999, 1, pb::UNIXSK));
  FileOpener files(tree::make_file_kinds(), {}, images, {9});
  kinds::Problems problems;
  files.plan(problems);
  std::string all = test::FileDump::joined(problems);
  CHECK(all.find("open file 1 of type UNIXSK cannot be restored yet") != std::string::npos);
  CHECK(all.find("descriptor 5 (open file 2) refers to descriptors that no process has") !=
        std::string::npos);
  CHECK(all.find("descriptor 999999999 is needed, and the hard limit") != std::string::npos);
}
