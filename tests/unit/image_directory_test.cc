#include "engine/images/image_directory.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <set>
#include <string>

#include "engine/images/stats.h"
#include "proto/images/core.pb.h"
#include "proto/images/inventory.pb.h"
#include "tests/support/temporary_directory.h"

namespace godwit::images {
namespace {

std::set<std::string> names_in(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    names.insert(entry.path().filename().string());
  return names;
}

pb::inventory_entry sample_inventory() {
  pb::inventory_entry inventory;
  inventory.set_img_version(2);
  return inventory;
}

pb::task_kobj_ids_entry sample_ids() {
  pb::task_kobj_ids_entry ids;
  ids.set_vm_id(1);
  ids.set_files_id(2);
  ids.set_fs_id(3);
  ids.set_sighand_id(4);
  return ids;
}

std::string error_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_CASE("a directory that is not there, or is none, is named") {
  test::TemporaryDirectory dir;
  CHECK(error_of([&] { ImageDirectory::open(dir / "absent"); }) ==
        "image directory: openat(" + (dir / "absent") + "): No such file or directory");
  open_at(AT_FDCWD, dir / "file", O_CREAT | O_WRONLY, 0600);
  CHECK_THROWS_AS(ImageDirectory::open(dir / "file"), SystemError);
  CHECK_THROWS_AS(ImageDirectory::adopt(open_at(AT_FDCWD, dir / "file", O_RDONLY), "file"), SystemError);
}

TEST_CASE("images are written and read, and are nobody else's to read") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  directory.write_one(Kind::kIds, 42, sample_ids());
  CHECK(directory.open(Kind::kIds, 42).read_one<pb::task_kobj_ids_entry>().fs_id() == 3);
  CHECK_FALSE(directory.open_if_exists(Kind::kIds, 43));
  CHECK_THROWS_AS(directory.open(Kind::kIds, 43), SystemError);
  struct stat status;
  REQUIRE(::stat((dir / "ids-42.img").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("a directory without an inventory is not a dump") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  directory.write_one(Kind::kIds, 1, sample_ids());
  CHECK(error_of([&] { directory.read_inventory(); }) ==
        dir.path() + ": no inventory.img: not an image directory, or the dump did not finish");
  directory.write_inventory(sample_inventory());
  CHECK(directory.read_inventory().img_version() == 2);
  CHECK(names_in(dir.path()) == std::set<std::string>{"ids-1.img", "inventory.img"});
}

TEST_CASE("the inventory is refused while an image is unfinished") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  {
    RecordWriter writer = directory.create(Kind::kIds, 1);
    writer.write(sample_ids());
  }
  CHECK(error_of([&] { directory.write_inventory(sample_inventory()); }) ==
        dir.path() + "/ids-1.img was not finished");
  CHECK_FALSE(names_in(dir.path()).contains("inventory.img"));
}

TEST_CASE("an inventory that cannot be written leaves nothing behind") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  CHECK_THROWS_AS(directory.write_inventory(pb::inventory_entry()), Error);
  CHECK(names_in(dir.path()).empty());
}

TEST_CASE("a new dump removes the inventory and the parent of an earlier one") {
  test::TemporaryDirectory dir;
  std::filesystem::create_directory(dir / "first");
  std::filesystem::create_directory(dir / "second");
  {
    ImageDirectory directory = ImageDirectory::open(dir / "second");
    directory.start_dump("../first");
    directory.write_inventory(sample_inventory());
    auto parent = directory.open_parent();
    REQUIRE(parent);
    CHECK(std::filesystem::equivalent(parent->path(), dir / "first"));
  }
  ImageDirectory directory = ImageDirectory::open(dir / "second");
  directory.start_dump(std::nullopt);
  CHECK(names_in(dir / "second").empty());
  CHECK_FALSE(directory.open_parent());
}

TEST_CASE("a parent must exist and be another directory") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  CHECK_THROWS_AS(directory.start_dump("../no-such-directory"), SystemError);
  CHECK_THROWS_AS(directory.start_dump("."), UsageError);
  CHECK(names_in(dir.path()).empty());
  std::filesystem::create_symlink("nowhere", dir / "parent");
  CHECK_THROWS_AS(directory.open_parent(), SystemError);
  std::filesystem::remove(dir / "parent");
  std::filesystem::create_symlink(".", dir / "parent");
  CHECK_THROWS_AS(directory.open_parent(), FormatError);
}

TEST_CASE("rolling back removes what was created and nothing else") {
  test::TemporaryDirectory dir;
  std::filesystem::create_directory(dir / "parent-images");
  std::filesystem::create_directory(dir / "images");
  open_at(AT_FDCWD, dir / "images/dump.log", O_CREAT | O_WRONLY, 0600);
  ImageDirectory directory = ImageDirectory::open(dir / "images");
  directory.start_dump("../parent-images");
  directory.write_one(Kind::kIds, 1, sample_ids());
  directory.write_one(Kind::kIds, 1, sample_ids());
  directory.create_raw(Kind::kPages, 1);
  RecordWriter unfinished = directory.create(Kind::kCore, 1);
  directory.remove_created();
  CHECK(names_in(dir / "images") == std::set<std::string>{"dump.log"});
  directory.remove_created();
}

TEST_CASE("remove takes only what this object created") {
  test::TemporaryDirectory dir;
  ImageDirectory::open(dir.path()).write_one(Kind::kIds, 1, sample_ids());
  ImageDirectory directory = ImageDirectory::open(dir.path());
  directory.write_one(Kind::kIds, 2, sample_ids());
  directory.remove(Kind::kIds, 1);
  directory.remove(Kind::kIds, 2);
  CHECK(names_in(dir.path()) == std::set<std::string>{"ids-1.img"});
}

TEST_CASE("an image is not written through a symbolic link") {
  test::TemporaryDirectory dir;
  std::filesystem::create_symlink("/nonexistent/elsewhere", dir / "ids-1.img");
  ImageDirectory directory = ImageDirectory::open(dir.path());
  CHECK_THROWS_AS(directory.create(Kind::kIds, 1), SystemError);
}

TEST_CASE("statistics have files of their own") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  pb::dump_stats_entry stats;
  stats.set_freezing_time(1);
  stats.set_frozen_time(2);
  stats.set_memdump_time(3);
  stats.set_memwrite_time(4);
  stats.set_pages_scanned(5);
  stats.set_pages_skipped_parent(6);
  stats.set_pages_written(7);
  stats.set_pages_lazy(8);
  write_dump_stats(directory, stats);
  CHECK(read_dump_stats(directory).frozen_time() == 2);
  CHECK_THROWS_AS(read_restore_stats(directory), SystemError);
  std::filesystem::rename(dir / "stats-dump", dir / "stats-restore");
  CHECK_THROWS_AS(read_restore_stats(directory), FormatError);
  pb::restore_stats_entry restored;
  restored.set_pages_compared(1);
  restored.set_pages_skipped_cow(2);
  restored.set_forking_time(3);
  restored.set_restore_time(4);
  write_restore_stats(directory, restored);
  CHECK(read_restore_stats(directory).restore_time() == 4);
}

}  // namespace
}  // namespace godwit::images
