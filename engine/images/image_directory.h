#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "engine/images/image_kinds.h"
#include "engine/images/record_file.h"

namespace godwit::pb {
class inventory_entry;
}

namespace godwit::images {

// A directory of image files. Move-only. The files of a dump are made with create(); the inventory is written
// last, and only a directory that has one is a dump.
class ImageDirectory {
 public:
  // The directory must exist. `path` is relative to `at` (a descriptor or AT_FDCWD). Throws Error that names
  // it.
  static ImageDirectory open(const std::string& path);
  static ImageDirectory open_at(int at, const std::string& path);
  // Takes over a descriptor of a directory (RPC, inherited); `path` is only for messages.
  static ImageDirectory adopt(Fd fd, std::string path);
  ImageDirectory(ImageDirectory&&) noexcept = default;
  ImageDirectory& operator=(ImageDirectory&&) noexcept = default;

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  // "/srv/images/core-42.img", for messages.
  std::string name_of(Kind kind, uint64_t id = 0) const;

  // Prepares for a new dump: removes the inventory and the parent link of an earlier one, and when `parent`
  // (the argument of --prev-images-dir, relative to this directory or absolute) is given, links to it as
  // `parent`. It must be another existing directory.
  void start_dump(const std::optional<std::string>& parent);

  // Makes the file of this kind and id anew.
  RecordWriter create(Kind kind, uint64_t id = 0);
  // The same for a raw file (pages, archives), open for reading and writing.
  Fd create_raw(Kind kind, uint64_t id = 0);
  // The image of one record.
  void write_one(Kind kind, uint64_t id, const google::protobuf::MessageLite& message);
  // Removes a file that this object created and that turned out not to be needed.
  void remove(Kind kind, uint64_t id);

  // Opens an image. open throws SystemError if it is not there.
  RecordReader open(Kind kind, uint64_t id = 0) const;
  std::optional<RecordReader> open_if_exists(Kind kind, uint64_t id = 0) const;
  Fd open_raw(Kind kind, uint64_t id = 0) const;
  std::optional<Fd> open_raw_if_exists(Kind kind, uint64_t id = 0) const;

  // The directory that `parent` links to; none if there is no link. A link to nowhere, or to this directory
  // itself, is an error.
  std::optional<ImageDirectory> open_parent() const;

  // Writes the inventory after everything that was created has reached the disk. All writers must have
  // finished. It gets its name by a rename, so an interrupted dump never has one.
  void write_inventory(const pb::inventory_entry& inventory);
  // Throws Error if there is none: the directory holds no images, or the dump did not finish.
  pb::inventory_entry read_inventory() const;

  // fsync of every created file and of the directory.
  void fsync_all() const;
  // Removes every file (and the parent link) that this object created: the rollback of a failed dump. Never
  // throws; what cannot be removed is logged. Files of an earlier dump that were overwritten do not come
  // back.
  void remove_created() noexcept;

 private:
  ImageDirectory(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  std::shared_ptr<CreatedFile> remember(std::string name);

  Fd fd_;
  std::string path_;
  std::vector<std::shared_ptr<CreatedFile>> created_;
};

}  // namespace godwit::images
