#include "migrate/image_transfer.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "engine/base/error.h"
#include "engine/images/image_kinds.h"

namespace godwit::migrate {
namespace {

const std::string& inventory_name() {
  static const std::string name = images::file_name(images::Kind::kInventory, 0);
  return name;
}

std::vector<std::string> small_images_in(int directory) {
  Fd copy = open_at(directory, ".", O_RDONLY | O_DIRECTORY);
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy.get()), ::closedir);
  if (!stream) throw SystemError(errno, "fdopendir");
  copy.release();
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream.get())) {
    std::string name = entry->d_name;
    if (is_small_image_name(name) && name != inventory_name()) names.push_back(std::move(name));
  }
  names.push_back(inventory_name());
  return names;
}

uint64_t send_file(ControlChannel& channel, int directory, const std::string& name) {
  Fd file = open_at(directory, name, O_RDONLY);
  std::vector<std::byte> buffer(kImagePartBytes);
  uint64_t sent = 0;
  for (bool last = false; !last;) {
    size_t count = read_up_to(file.get(), buffer, name.c_str());
    last = count < buffer.size();
    pb::control_message message;
    auto& part = *message.mutable_image_part();
    part.set_name(name);
    part.set_contents(buffer.data(), count);
    part.set_last(last);
    channel.send(message);
    sent += count;
  }
  return sent;
}

}  // namespace

bool is_small_image_name(std::string_view name) {
  if (name.find('/') != std::string_view::npos) return false;
  auto kind = images::kind_of_file_name(name);
  if (!kind) return false;
  switch (*kind) {
    case images::Kind::kPages:
    case images::Kind::kPagesOld:
    case images::Kind::kShmPagesOld:
    case images::Kind::kPagemap:
    case images::Kind::kShmemPagemap:
    case images::Kind::kStatsDump:
    case images::Kind::kStatsRestore:
      return false;
    default:
      return true;
  }
}

uint64_t send_images(ControlChannel& channel, int directory) {
  uint64_t bytes = 0;
  for (const auto& name : small_images_in(directory)) bytes += send_file(channel, directory, name);
  return bytes;
}

void ImageReceiver::add(const pb::image_part& part) {
  ErrorContext context{"image {}", part.name()};
  if (complete_) throw FormatError("comes after the inventory");
  if (!is_small_image_name(part.name())) throw FormatError("is not the name of an image that may be sent");
  bytes_ += part.contents().size();
  if (bytes_ > kMaxImageBytes) throw FormatError("the images exceed {} bytes", kMaxImageBytes);
  if (!open_file_) {
    if (names_.size() >= kMaxImageFiles) throw FormatError("there are more than {} files", kMaxImageFiles);
    if (!names_.insert(part.name()).second) throw FormatError("was sent already");
    open_name_ = part.name();
    open_file_ = open_at(directory_, open_name_, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
  } else if (part.name() != open_name_) {
    throw FormatError("begins before {} is complete", open_name_);
  }
  write_all(open_file_.get(), std::as_bytes(std::span(part.contents())), open_name_.c_str());
  if (!part.last()) return;
  open_file_.reset();
  complete_ = part.name() == inventory_name();
}

}  // namespace godwit::migrate
