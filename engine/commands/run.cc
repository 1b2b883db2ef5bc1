#include "engine/commands/run.h"

#include <signal.h>

#include <cstdio>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/commands/command_setup.h"
#include "engine/commands/commands.h"
#include "engine/commands/show.h"

namespace godwit::commands {
namespace {

struct Dispatch {
  int operator()(const options::DumpOptions& options) const { return dump(options); }
  int operator()(const options::PreDumpOptions& options) const { return pre_dump(options); }
  int operator()(const options::RestoreOptions& options) const { return restore(options); }
  int operator()(const options::PageServerCommandOptions& options) const { return page_server(options); }
  int operator()(const options::LazyPagesOptions& options) const { return lazy_pages(options); }
  int operator()(const options::CheckOptions& options) const { return check(options); }
  int operator()(const options::ShowOptions& options) const { return show(options); }
  int operator()(const options::HelpRequest& request) const { return help(request); }
  int operator()(const options::VersionRequest&) const { return version(); }
};

// Runs `command` and tells the user what it threw: on standard error, and in the log when that is elsewhere.
// Without common options, that is, before they were understood, there is no log yet.
template <class Command>
int report_failure(const options::CommonOptions* common, Command command) {
  std::string text;
  int status = kFailureStatus;
  try {
    return command();
  } catch (const UsageError& error) {
    text = error.what();
    status = kUsageStatus;
  } catch (const std::exception& error) {
    text = error.what();
  }
  if (common == nullptr) {
    std::fprintf(stderr, "Error: %s\n", text.c_str());
    return status;
  }
  log::error("{}", text);
  if (common->log_file && common->verbosity > 0) std::fprintf(stderr, "Error: %s\n", text.c_str());
  return status;
}

int run_command(options::Request& request) {
  options::CommonOptions* common = options::common_options(request);
  if (common == nullptr) return std::visit(Dispatch(), request);
  CommandSetup setup(*common);
  if (auto* show = std::get_if<options::ShowOptions>(&request); show != nullptr && show->directory) {
    show->directory = common->images_dir;
  }
  return report_failure(common, [&] { return std::visit(Dispatch(), request); });
}

}  // namespace

int run(const std::vector<std::string>& arguments, const options::Environment& environment) {
  // A peer or a reader that went away is an error of that write, not our end.
  ::signal(SIGPIPE, SIG_IGN);
  return report_failure(nullptr, [&] {
    options::Request request = options::parse(arguments, environment);
    return run_command(request);
  });
}

}  // namespace godwit::commands
