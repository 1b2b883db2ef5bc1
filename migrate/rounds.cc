#include "migrate/rounds.h"

#include <filesystem>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/units.h"
#include "engine/memory/make_tracker.h"
#include "migrate/image_transfer.h"

namespace godwit::migrate {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

double seconds_of(uint32_t microseconds) {
  return microseconds / 1e6;
}

}  // namespace

Rounds::~Rounds() {
  stop_lazy_server();
  if (committed_) {
    leave_source_stopped();
  } else {
    resume_source();
  }
}

void Rounds::stop_lazy_server() noexcept {
  if (!lazy_server_.joinable()) return;
  lazy_stream_->abort();
  lazy_server_.join();
}

std::vector<std::string> Rounds::check_tracking() {
  try {
    tracker_ = setup_.options.mode == Mode::kPrecopy ? memory::make_tracker() : memory::make_untracked();
    return {};
  } catch (const Error& error) {
    return {fmt::format("here: {} -> use --mode postcopy, or a kernel that tracks writes", error.what())};
  }
}

images::ImageDirectory Rounds::make_directory(unsigned round) const {
  std::string path = round == 0 ? setup_.images + "/final" : fmt::format("{}/round-{}", setup_.images, round);
  std::filesystem::create_directories(path);
  auto images = images::ImageDirectory::open(path);
  images.start_dump(std::nullopt);
  return images;
}

dump::DumpRequest Rounds::request(images::ImageDirectory& images, kinds::PageSink& sink) {
  return {.root = setup_.options.tree,
          .images = images,
          .pages = sink,
          .tracker = *tracker_,
          .hooks = setup_.hooks,
          .policy = {.tcp_close = setup_.options.tcp_close, .shell_job = setup_.options.shell_job},
          .freeze_timeout = setup_.options.timeout};
}

RoundFacts Rounds::pre_copy() {
  unsigned number = rounds_ + 1;
  ErrorContext context{"round {}", number};
  pageserver::Client client(open_pages(setup_.agent, setup_.move_id, number, rounds_, false));
  auto images = make_directory(number);
  auto what = request(images, client);
  what.more_rounds = true;
  auto start = Clock::now();
  auto statistics = dump::pre_dump_tree(what);
  auto end = Clock::now();
  rounds_ = number;
  RoundFacts facts;
  facts.pages = statistics.pages_written();
  facts.seconds = seconds_between(start, end);
  facts.since_last_scan = last_scan_ == Clock::time_point{} ? 0 : seconds_between(last_scan_, start);
  facts.frozen = seconds_of(statistics.freezing_time() + statistics.frozen_time());
  facts.bytes_sent = client.bytes_sent();
  last_scan_ = start;
  return facts;
}

void Rounds::connect_final() {
  client_ = std::make_unique<pageserver::Client>(open_pages(setup_.agent, setup_.move_id, 0, rounds_, false));
  if (setup_.options.mode == Mode::kPostcopy) {
    lazy_stream_ = open_pages(setup_.agent, setup_.move_id, 0, 0, true).stream;
  }
  images_ = make_directory(0);
}

FinalFacts Rounds::final_dump() {
  auto what = request(*images_, *client_);
  what.lazy = setup_.options.mode == Mode::kPostcopy;
  auto start = Clock::now();
  tree_.emplace(dump::dump_tree(what));
  auto end = Clock::now();
  const auto& statistics = tree_->statistics;
  FinalFacts facts;
  facts.dirty_pages = statistics.pages_scanned() - statistics.pages_skipped_parent();
  facts.shipped_pages = client_->bytes_sent() / kPageSize;
  facts.lazy_pages = statistics.pages_lazy();
  facts.bytes_sent = client_->bytes_sent();
  facts.freeze = seconds_of(statistics.freezing_time());
  facts.ship = seconds_between(start, end) - facts.freeze;
  client_.reset();
  if (lazy_stream_) {
    memory_ = tree_->page_source();
    lazy_server_ = std::thread([this] {
      lazy_report_ = pageserver::serve_lazily(*lazy_stream_, *memory_);
      lazy_end_ = Clock::now();
    });
  }
  return facts;
}

uint64_t Rounds::send_images(ControlChannel& channel) {
  return migrate::send_images(channel, images_->fd());
}

std::vector<TaskIdentity> Rounds::task_identities() const {
  return identities_of(*images_);
}

void Rounds::resume_source() noexcept {
  stop_lazy_server();
  try {
    if (tree_) tree_->resume();
  } catch (const std::exception& error) {
    log::error("resuming the tree: {}", error.what());
  }
  tree_.reset();  // lets it run whatever failed above
  client_.reset();
}

void Rounds::end_source() {
  if (tree_) tree_->kill();
  tree_.reset();
}

void Rounds::leave_source_stopped() {
  if (tree_) tree_->leave_stopped();
  tree_.reset();
}

pageserver::LazyReport Rounds::wait_for_postcopy() {
  lazy_server_.join();
  return lazy_report_;
}

}  // namespace godwit::migrate
