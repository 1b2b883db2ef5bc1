#include "engine/images/image_directory.h"

#include <fcntl.h>
#include <google/protobuf/message_lite.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/base/fault_point.h"
#include "engine/base/log.h"
#include "proto/images/inventory.pb.h"

namespace godwit::images {
namespace {

constexpr const char* kParentLink = "parent";
constexpr const char* kUnfinishedInventory = "inventory.img.unfinished";
// Images hold memory contents: passwords, keys.
constexpr mode_t kImageMode = 0600;

bool same_file(int one, int other, const std::string& name) {
  struct stat a, b;
  check(::fstat(one, &a), "fstat({})", name);
  check(::fstat(other, &b), "fstat({})", name);
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

void remove_if_there(int dir, const std::string& name, const std::string& path) {
  if (::unlinkat(dir, name.c_str(), 0) < 0 && errno != ENOENT)
    throw SystemError(errno, "unlink({}/{})", path, name);
}

void sync_fd(int fd, const std::string& name) {
  check(::fsync(fd), "fsync({})", name);
}

}  // namespace

ImageDirectory ImageDirectory::open(const std::string& path) {
  return open_at(AT_FDCWD, path);
}

ImageDirectory ImageDirectory::open_at(int at, const std::string& path) {
  ErrorContext context{"image directory"};
  return ImageDirectory(godwit::open_at(at, path, O_RDONLY | O_DIRECTORY), path);
}

ImageDirectory ImageDirectory::adopt(Fd fd, std::string path) {
  struct stat status;
  check(::fstat(fd.get(), &status), "image directory: fstat({})", path);
  if (!S_ISDIR(status.st_mode)) throw SystemError(ENOTDIR, "image directory: {}", path);
  return ImageDirectory(std::move(fd), std::move(path));
}

std::string ImageDirectory::name_of(Kind kind, uint64_t id) const {
  return path_ + "/" + file_name(kind, id);
}

void ImageDirectory::start_dump(const std::optional<std::string>& parent) {
  remove_if_there(fd(), file_name(Kind::kInventory, 0), path_);
  remove_if_there(fd(), kParentLink, path_);
  if (!parent) return;
  ErrorContext context{"parent images"};
  Fd target = godwit::open_at(fd(), *parent, O_RDONLY | O_DIRECTORY);
  if (same_file(target.get(), fd(), *parent)) throw UsageError("{} is the image directory itself", *parent);
  check(::symlinkat(parent->c_str(), fd(), kParentLink), "symlink({}/{})", path_, kParentLink);
  remember(kParentLink)->finished = true;
}

std::shared_ptr<CreatedFile> ImageDirectory::remember(std::string name) {
  for (auto& file : created_) {
    if (file->name != name) continue;
    file->finished = false;
    return file;
  }
  return created_.emplace_back(std::make_shared<CreatedFile>(CreatedFile{std::move(name)}));
}

RecordWriter ImageDirectory::create(Kind kind, uint64_t id) {
  std::string name = file_name(kind, id);
  Fd file = godwit::open_at(fd(), name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, kImageMode);
  return RecordWriter(std::move(file), kind, path_ + "/" + name, remember(name));
}

Fd ImageDirectory::create_raw(Kind kind, uint64_t id) {
  std::string name = file_name(kind, id);
  Fd file = godwit::open_at(fd(), name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, kImageMode);
  remember(name)->finished = true;
  return file;
}

void ImageDirectory::write_one(Kind kind, uint64_t id, const google::protobuf::MessageLite& message) {
  RecordWriter writer = create(kind, id);
  writer.write(message);
  writer.finish();
}

void ImageDirectory::remove(Kind kind, uint64_t id) {
  std::string name = file_name(kind, id);
  auto is_it = [&](const auto& file) { return file->name == name; };
  auto file = std::find_if(created_.begin(), created_.end(), is_it);
  if (file == created_.end()) return;
  remove_if_there(fd(), name, path_);
  created_.erase(file);
}

RecordReader ImageDirectory::open(Kind kind, uint64_t id) const {
  return RecordReader(open_raw(kind, id), kind, name_of(kind, id));
}

std::optional<RecordReader> ImageDirectory::open_if_exists(Kind kind, uint64_t id) const {
  auto file = open_raw_if_exists(kind, id);
  if (!file) return std::nullopt;
  return RecordReader(std::move(*file), kind, name_of(kind, id));
}

Fd ImageDirectory::open_raw(Kind kind, uint64_t id) const {
  auto file = open_raw_if_exists(kind, id);
  if (!file) throw SystemError(ENOENT, "{}", name_of(kind, id));
  return std::move(*file);
}

std::optional<Fd> ImageDirectory::open_raw_if_exists(Kind kind, uint64_t id) const {
  ErrorContext context{"{}", path_};
  // Non-blocking, as an image that somebody replaced by a FIFO must not hang us; it changes nothing for
  // files.
  return godwit::open_if_exists(fd(), file_name(kind, id), O_RDONLY | O_NONBLOCK);
}

std::optional<ImageDirectory> ImageDirectory::open_parent() const {
  if (!read_link_if_exists(fd(), kParentLink)) return std::nullopt;
  ErrorContext context{"{}", path_};
  ImageDirectory parent(godwit::open_at(fd(), kParentLink, O_RDONLY | O_DIRECTORY),
                        path_ + "/" + kParentLink);
  if (same_file(parent.fd(), fd(), path_)) throw FormatError("the parent link leads to the directory itself");
  return parent;
}

void ImageDirectory::write_inventory(const pb::inventory_entry& inventory) {
  for (const auto& file : created_) {
    if (!file->finished) throw Error("{}/{} was not finished", path_, file->name);
  }
  fsync_all();
  fault_point("before-inventory");
  Fd file =
      godwit::open_at(fd(), kUnfinishedInventory, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, kImageMode);
  Cleanup unlink_unfinished([&] { ::unlinkat(fd(), kUnfinishedInventory, 0); });
  RecordWriter writer(file.duplicate(), Kind::kInventory, name_of(Kind::kInventory));
  writer.write(inventory);
  writer.finish();
  sync_fd(file.get(), name_of(Kind::kInventory));
  std::string name = file_name(Kind::kInventory, 0);
  check(::renameat(fd(), kUnfinishedInventory, fd(), name.c_str()), "rename({}/{})", path_, name);
  unlink_unfinished.dismiss();
  remember(name)->finished = true;
  sync_fd(fd(), path_);
}

pb::inventory_entry ImageDirectory::read_inventory() const {
  auto reader = open_if_exists(Kind::kInventory);
  if (!reader) throw Error("{}: no inventory.img: not an image directory, or the dump did not finish", path_);
  return reader->read_one<pb::inventory_entry>();
}

void ImageDirectory::fsync_all() const {
  for (const auto& created : created_) {
    if (created->name == kParentLink) continue;  // stands in the directory, which comes last
    ErrorContext context{"{}", path_};
    Fd file = godwit::open_at(fd(), created->name, O_RDONLY | O_NOFOLLOW);
    sync_fd(file.get(), created->name);
  }
  sync_fd(fd(), path_);
}

void ImageDirectory::remove_created() noexcept {
  // Last made, first removed: the inventory goes before what it vouches for.
  for (auto file = created_.rbegin(); file != created_.rend(); ++file) {
    if (::unlinkat(fd(), (*file)->name.c_str(), 0) < 0 && errno != ENOENT) {
      log::error("cannot remove {}/{}: {}", path_, (*file)->name, SystemError::errno_text(errno));
    }
  }
  created_.clear();
}

}  // namespace godwit::images
