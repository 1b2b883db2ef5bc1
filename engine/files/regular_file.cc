#include "engine/files/regular_file.h"

#include "engine/files/path_file.h"

namespace godwit::files {
namespace {

// These live on internal file systems and have no name, though they show one.
bool has_name(const std::string& target) {
  return target.starts_with('/') && !target.starts_with("/memfd:") && !target.starts_with("/secretmem");
}

class RegularFileKind final : public PathFileKind {
 public:
  bool recognises(const kinds::OpenFile& file) const override {
    mode_t mode = file.status.st_mode;
    return (S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode)) && has_name(file.target);
  }
};

}  // namespace

std::unique_ptr<kinds::FileKind> make_regular_file_kind() {
  return std::make_unique<RegularFileKind>();
}

}  // namespace godwit::files
