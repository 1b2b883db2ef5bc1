#pragma once

#include <optional>
#include <string>

#include "engine/options/option_table.h"

namespace godwit::options {

// Everything that settings can say, before it is sorted into the struct of one command. Fields as in
// commands_options.h.
struct Values {
  CommonOptions common;
  bool images_dir_given = false;
  std::optional<pid_t> tree;
  bool leave_running = false, leave_stopped = false;
  bool shell_job = false;
  std::optional<unsigned> timeout_s;
  bool track_mem = false;
  std::optional<std::string> prev_images_dir;
  PreDumpMode pre_dump_mode = PreDumpMode::kSplice;
  bool tcp_close = false;
  bool lazy_pages = false;
  bool display_stats = false;
  bool detached = false, sibling = false;
  bool daemon = false;
  PageServerOptions page_server;
  bool extra = false, experimental = false;
  std::optional<std::string> feature;
  std::optional<std::string> file;
  bool json = false, page_contents = false;
};

// Checks a setting's argument and stores it; the table's rows point at these. Each throws UsageError as
// "-t: not a process id: abc", with the file and line in front when it came from one.
void store_tree(Values& values, const Setting& setting);
void store_leave_running(Values& values, const Setting& setting);
void store_leave_stopped(Values& values, const Setting& setting);
void store_verbosity(Values& values, const Setting& setting);
void store_images_dir(Values& values, const Setting& setting);
void store_work_dir(Values& values, const Setting& setting);
void store_log_file(Values& values, const Setting& setting);
void store_pidfile(Values& values, const Setting& setting);
void store_action_script(Values& values, const Setting& setting);
void store_timeout(Values& values, const Setting& setting);
void store_pre_dump_mode(Values& values, const Setting& setting);
void store_prev_images_dir(Values& values, const Setting& setting);
void store_address(Values& values, const Setting& setting);
void store_port(Values& values, const Setting& setting);
void store_status_fd(Values& values, const Setting& setting);
void store_layout(Values& values, const Setting& setting);
void store_ca_certificate(Values& values, const Setting& setting);
void store_revocations(Values& values, const Setting& setting);
void store_certificate(Values& values, const Setting& setting);
void store_key(Values& values, const Setting& setting);
void store_no_name_check(Values& values, const Setting& setting);
void store_tls(Values& values, const Setting& setting);
void store_page_server(Values& values, const Setting& setting);
void store_all_categories(Values& values, const Setting& setting);
void store_feature(Values& values, const Setting& setting);
void store_file(Values& values, const Setting& setting);
void store_format(Values& values, const Setting& setting);

// An on/off option: true, or false for its --no- form.
template <bool Values::*Field>
void store_switch(Values& values, const Setting& setting) {
  values.*Field = !setting.negated;
}

// "FILE:LINE: " for a setting from a file, nothing for the command line.
std::string place_of(const Setting& setting);

// The option struct of a command, with what it requires checked: UsageError "dump: -t PID is required".
Request make_request(Command command, const Values& values);

}  // namespace godwit::options
