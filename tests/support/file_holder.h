#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/files/file_collector.h"
#include "engine/files/file_opener.h"
#include "engine/tree/registry.h"
#include "tests/support/child.h"
#include "tests/support/temporary_directory.h"

namespace godwit::test {

// A process that holds the descriptors that `open_files` opens, and no others, and waits.
class FileHolder {
 public:
  explicit FileHolder(const std::function<void()>& open_files)
      : child_([&] {
          ::close_range(0, ~0u, 0);
          try {
            open_files();
            *ready_ = true;
          } catch (const std::exception& error) {
            std::string_view(error.what()).copy(failure_->data(), failure_->size() - 1);
          }
          for (;;) ::pause();
        }) {
    auto failed = [&] { return (*failure_)[0] != 0; };
    eventually([&] { return ready_->load() || failed(); });
    if (!ready_->load()) throw std::runtime_error("the holder: " + std::string(failure_->data()));
  }
  pid_t pid() const { return child_.pid(); }

 private:
  Shared<std::atomic<bool>> ready_;
  Shared<std::array<char, 256>> failure_;
  Child child_;
};

// A dump of the files of such processes into a directory of its own.
class FileDump {
 public:
  explicit FileDump(kinds::Policy policy = {})
      : policy_(policy), collector_(tree::make_file_kinds(), policy) {}

  files::FileCollector& collector() { return collector_; }
  void add(const FileHolder& holder) {
    collector_.collect_process(holder.pid(), static_cast<uint32_t>(tables_.size() + 1));
    tables_.push_back(static_cast<uint32_t>(tables_.size() + 1));
  }
  // The problems of the whole, "; " between them.
  std::string problems() {
    collector_.check_whole();
    return joined(collector_.problems());
  }
  // Writes the images and reads them back.
  std::unique_ptr<files::FileOpener> opener(kinds::Policy policy = {}) {
    auto images = images::ImageDirectory::open(directory_.path());
    collector_.write(images);
    return std::make_unique<files::FileOpener>(tree::make_file_kinds(), policy, images, tables_);
  }
  images::ImageDirectory images() const { return images::ImageDirectory::open(directory_.path()); }
  // The row of a descriptor, after opener().
  pb::fdinfo_entry row(uint32_t table, int number) const {
    for (auto& row : images().open(images::Kind::kFdinfo, table).read_all<pb::fdinfo_entry>()) {
      if (row.fd() == static_cast<uint32_t>(number)) return row;
    }
    throw Error("table {} has no descriptor {}", table, number);
  }

  static std::string joined(const kinds::Problems& problems) {
    std::string all;
    for (const auto& text : problems.texts()) all += (all.empty() ? "" : "; ") + text;
    return all;
  }

 private:
  TemporaryDirectory directory_;
  kinds::Policy policy_;
  files::FileCollector collector_;
  std::vector<uint32_t> tables_;
};

}  // namespace godwit::test
