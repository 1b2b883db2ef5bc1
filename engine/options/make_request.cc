#include "engine/base/error.h"
#include "engine/options/option_values.h"

namespace godwit::options {
namespace {

constexpr unsigned kDefaultTimeoutSeconds = 10;

void require_server_port(Command command, const Values& values) {
  if (values.page_server.enabled && values.page_server.port == 0) {
    throw UsageError("{}: --page-server needs --port", command_name(command));
  }
}

PreDumpOptions make_pre_dump(Command command, const Values& values) {
  if (!values.tree) throw UsageError("{}: -t PID is required", command_name(command));
  require_server_port(command, values);
  PreDumpOptions options;
  options.common = values.common;
  options.tree = *values.tree;
  options.timeout_s = values.timeout_s.value_or(kDefaultTimeoutSeconds);
  options.track_mem = values.track_mem || command == Command::kPreDump;
  options.prev_images_dir = values.prev_images_dir;
  options.pre_dump_mode = values.pre_dump_mode;
  options.shell_job = values.shell_job;
  options.display_stats = values.display_stats;
  options.page_server = values.page_server;
  return options;
}

DumpOptions make_dump(const Values& values) {
  DumpOptions options;
  static_cast<PreDumpOptions&>(options) = make_pre_dump(Command::kDump, values);
  options.leave_running = values.leave_running;
  options.leave_stopped = values.leave_stopped;
  options.tcp_close = values.tcp_close;
  options.lazy_pages = values.lazy_pages;
  if (options.lazy_pages && options.page_server.enabled) {
    throw UsageError("dump: --lazy-pages serves pages itself and cannot be used together with --page-server");
  }
  if (options.lazy_pages && options.page_server.port == 0) {
    throw UsageError("dump: --lazy-pages needs --port, where the lazy-pages daemon will ask for pages");
  }
  return options;
}

RestoreOptions make_restore(const Values& values) {
  if (values.sibling && !values.detached) {
    throw UsageError(
        "restore: -S (--restore-sibling) is only possible together with -d (--restore-detached)");
  }
  RestoreOptions options;
  options.common = values.common;
  options.tree = values.tree;
  options.detached = values.detached;
  options.sibling = values.sibling;
  options.leave_stopped = values.leave_stopped;
  options.shell_job = values.shell_job;
  options.lazy_pages = values.lazy_pages;
  options.tcp_close = values.tcp_close;
  options.display_stats = values.display_stats;
  return options;
}

PageServerCommandOptions make_page_server(const Values& values) {
  return {values.common, values.daemon, values.lazy_pages, values.page_server};
}

LazyPagesOptions make_lazy_pages(const Values& values) {
  require_server_port(Command::kLazyPages, values);
  return {values.common, values.daemon, values.display_stats, values.timeout_s, values.page_server};
}

ShowOptions make_show(const Values& values) {
  if (!values.file && !values.images_dir_given) throw UsageError("show: -f FILE or -D DIR is required");
  ShowOptions options;
  options.common = values.common;
  options.file = values.file;
  if (values.images_dir_given) options.directory = values.common.images_dir;
  options.json = values.json;
  options.page_contents = values.page_contents;
  return options;
}

}  // namespace

Request make_request(Command command, const Values& values) {
  switch (command) {
    case Command::kDump:
      return make_dump(values);
    case Command::kPreDump:
      return make_pre_dump(command, values);
    case Command::kRestore:
      return make_restore(values);
    case Command::kPageServer:
      return make_page_server(values);
    case Command::kLazyPages:
      return make_lazy_pages(values);
    case Command::kCheck:
      return CheckOptions{values.common, values.extra, values.experimental, values.feature};
    case Command::kShow:
      return make_show(values);
    default:
      throw RefusedError("{}: not available yet", command_name(command));
  }
}

CommonOptions* common_options(Request& request) {
  return std::visit(
      [](auto& options) -> CommonOptions* {
        if constexpr (requires { options.common; }) {
          return &options.common;
        } else {
          return nullptr;
        }
      },
      request);
}

const CommonOptions* common_options(const Request& request) {
  return common_options(const_cast<Request&>(request));  // which only looks
}

}  // namespace godwit::options
