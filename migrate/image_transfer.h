#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "engine/base/fd.h"
#include "migrate/control_channel.h"

namespace godwit::migrate {

// The small images of one dump may have this many files and bytes together; their pages go another way.
inline constexpr size_t kMaxImageFiles = 500'000;
inline constexpr uint64_t kMaxImageBytes = uint64_t{8} << 30;
inline constexpr size_t kImagePartBytes = 1 << 20;

// Whether a file of this name may be sent as a small image: the exact name of a known kind, without a folder,
// and not of pages, which come through the page server.
bool is_small_image_name(std::string_view name);

// Sends every small image of the directory, the inventory last. Returns the number of bytes.
uint64_t send_images(ControlChannel& channel, int directory);

// Takes the parts of small images and puts them into a directory; the inventory completes it.
class ImageReceiver {
 public:
  // `directory` is borrowed.
  explicit ImageReceiver(int directory) : directory_(directory) {}

  // Throws FormatError for what a source would not send: a name that is none of ours, a second file of a
  // name, anything after the inventory, too much.
  void add(const pb::image_part& part);
  // The inventory came, and no file is half done.
  bool complete() const { return complete_; }

 private:
  int directory_;
  std::set<std::string> names_;
  std::string open_name_;
  Fd open_file_;
  uint64_t bytes_ = 0;
  bool complete_ = false;
};

}  // namespace godwit::migrate
