#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/dump/dump.h"
#include "engine/images/image_directory.h"
#include "engine/memory/dirty_tracker.h"
#include "migrate/agent_link.h"
#include "migrate/convergence.h"
#include "migrate/run_options.h"
#include "migrate/task_identity.h"
#include "pageserver/client.h"
#include "pageserver/lazy_server.h"

namespace godwit::migrate {

// What the final dump did. Times in seconds.
struct FinalFacts {
  uint64_t dirty_pages = 0, shipped_pages = 0, lazy_pages = 0, bytes_sent = 0;
  double freeze = 0, ship = 0;
};

// The dumps of one move: pre-copy rounds, the final dump, and the frozen tree afterwards. One thread makes
// all calls, as it traces the tree. Destroyed before end_source, it lets the tree run on.
class Rounds {
 public:
  // The references outlive it. `images` is a directory to be made for small images.
  struct Setup {
    const RunOptions& options;
    const AgentAddress& agent;
    std::string move_id;
    std::string images;
    kinds::StageHooks& hooks;
  };
  explicit Rounds(Setup setup) : setup_(std::move(setup)) {}
  ~Rounds();

  // What this host lacks for the rounds; empty when nothing. Makes the tracker.
  std::vector<std::string> check_tracking();

  unsigned next_number() const { return rounds_ + 1; }
  // Ships what is new since the round before.
  RoundFacts pre_copy();

  // Opens the connections of the final dump, which would cost downtime later.
  void connect_final();
  // Freezes the tree for good, ships or announces its pages, and writes the small images.
  FinalFacts final_dump();
  uint64_t send_images(ControlChannel& channel);
  // The frozen tasks.
  std::vector<TaskIdentity> task_identities() const;

  // The tree is the other side's: from now on nothing here lets the copy run, the destructor neither.
  void set_committed() { committed_ = true; }
  void resume_source() noexcept;
  void end_source();
  void leave_source_stopped();
  // Until the other side has every page, or is lost.
  pageserver::LazyReport wait_for_postcopy();
  // When it ended.
  std::chrono::steady_clock::time_point postcopy_end() const { return lazy_end_; }

 private:
  void stop_lazy_server() noexcept;
  images::ImageDirectory make_directory(unsigned round) const;
  dump::DumpRequest request(images::ImageDirectory& images, kinds::PageSink& sink);

  Setup setup_;
  unsigned rounds_ = 0;
  bool committed_ = false;
  std::chrono::steady_clock::time_point last_scan_{};
  std::unique_ptr<memory::DirtyTracker> tracker_;
  std::unique_ptr<pageserver::Client> client_;
  std::unique_ptr<tls::Stream> lazy_stream_;
  std::optional<images::ImageDirectory> images_;
  std::optional<dump::DumpedTree> tree_;
  std::unique_ptr<kinds::PageSource> memory_;
  pageserver::LazyReport lazy_report_;
  std::chrono::steady_clock::time_point lazy_end_{};
  std::thread lazy_server_;
};

}  // namespace godwit::migrate
