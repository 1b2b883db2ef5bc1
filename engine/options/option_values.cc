#include "engine/options/option_values.h"

#include <charconv>
#include <limits>

#include "engine/base/error.h"

namespace godwit::options {
namespace {

[[noreturn]] void refuse(const Setting& setting, const std::string& why) {
  throw UsageError("{}{}: {}", place_of(setting), setting.spelling, why);
}

// The argument of an option that requires one, which must not be empty.
const std::string& text_of(const Setting& setting) {
  if (!setting.argument || setting.argument->empty()) refuse(setting, "an argument is required");
  return *setting.argument;
}

// The whole argument as a decimal number from `least` to `most`; `what` says what it should have been.
long number_of(const Setting& setting, long least, long most, const char* what) {
  const std::string& text = text_of(setting);
  long number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < least || number > most) {
    refuse(setting, fmt::format("not {}: {}", what, text));
  }
  return number;
}

}  // namespace

std::string place_of(const Setting& setting) {
  return setting.source.empty() ? "" : setting.source + ": ";
}

void store_tree(Values& values, const Setting& setting) {
  // PID_MAX_LIMIT of the kernel, include/linux/threads.h.
  values.tree = static_cast<pid_t>(number_of(setting, 1, 4 * 1024 * 1024, "a process id"));
}

void store_leave_running(Values& values, const Setting& setting) {
  values.leave_running = !setting.negated;
  if (values.leave_running) values.leave_stopped = false;
}

void store_leave_stopped(Values& values, const Setting& setting) {
  values.leave_stopped = !setting.negated;
  if (values.leave_stopped) values.leave_running = false;
}

void store_verbosity(Values& values, const Setting& setting) {
  if (!setting.argument) {
    ++values.common.verbosity;
    return;
  }
  const std::string& text = *setting.argument;
  if (setting.spelling == "-v" &&
      text.find_first_not_of('v') == std::string::npos) {  // -vvv: the first v is the option
    values.common.verbosity += 1 + static_cast<int>(text.size());
    return;
  }
  values.common.verbosity = static_cast<int>(number_of(setting, 0, 1000, "a verbosity level (0 to 4)"));
}

void store_images_dir(Values& values, const Setting& setting) {
  values.common.images_dir = text_of(setting);
  values.images_dir_given = true;
}
void store_work_dir(Values& values, const Setting& setting) {
  values.common.work_dir = text_of(setting);
}
void store_log_file(Values& values, const Setting& setting) {
  values.common.log_file = text_of(setting);
}
void store_pidfile(Values& values, const Setting& setting) {
  values.common.pidfile = text_of(setting);
}
void store_action_script(Values& values, const Setting& setting) {
  values.common.action_scripts.push_back(text_of(setting));
}

void store_timeout(Values& values, const Setting& setting) {
  values.timeout_s = static_cast<unsigned>(number_of(setting, 0, 1'000'000, "a number of seconds"));
}

void store_pre_dump_mode(Values& values, const Setting& setting) {
  const std::string& mode = text_of(setting);
  if (mode != "splice" && mode != "read") refuse(setting, "not splice or read: " + mode);
  values.pre_dump_mode = mode == "read" ? PreDumpMode::kRead : PreDumpMode::kSplice;
}

void store_prev_images_dir(Values& values, const Setting& setting) {
  values.prev_images_dir = text_of(setting);
}
void store_page_server(Values& values, const Setting& setting) {
  values.page_server.enabled = !setting.negated;
}
void store_address(Values& values, const Setting& setting) {
  values.page_server.address = text_of(setting);
}

void store_port(Values& values, const Setting& setting) {
  values.page_server.port = static_cast<uint16_t>(number_of(setting, 1, 65535, "a port (1 to 65535)"));
}

void store_status_fd(Values& values, const Setting& setting) {
  values.page_server.status_fd =
      static_cast<int>(number_of(setting, 0, std::numeric_limits<int>::max(), "a descriptor number"));
}

void store_layout(Values& values, const Setting& setting) {
  const std::string& layout = text_of(setting);
  if (layout == "short") {
    values.page_server.layout = PageServerLayout::kShort;
  } else if (layout == "long") {
    values.page_server.layout = PageServerLayout::kLong;
  } else if (layout == "probe") {
    values.page_server.layout = PageServerLayout::kProbe;
  } else {
    refuse(setting, "not short, long or probe: " + layout);
  }
}

void store_tls(Values& values, const Setting& setting) {
  values.page_server.tls.enabled = !setting.negated;
}
void store_no_name_check(Values& values, const Setting& setting) {
  values.page_server.tls.verify_name = setting.negated;
}
void store_ca_certificate(Values& values, const Setting& setting) {
  values.page_server.tls.ca_certificate = text_of(setting);
}
void store_revocations(Values& values, const Setting& setting) {
  values.page_server.tls.revocations = text_of(setting);
}
void store_certificate(Values& values, const Setting& setting) {
  values.page_server.tls.certificate = text_of(setting);
}
void store_key(Values& values, const Setting& setting) {
  values.page_server.tls.key = text_of(setting);
}

void store_all_categories(Values& values, const Setting& setting) {
  values.extra = values.experimental = !setting.negated;
}
void store_feature(Values& values, const Setting& setting) {
  values.feature = text_of(setting);
}
void store_file(Values& values, const Setting& setting) {
  values.file = text_of(setting);
}

void store_format(Values& values, const Setting& setting) {
  const std::string& format = text_of(setting);
  if (format != "text" && format != "json") refuse(setting, "not text or json: " + format);
  values.json = format == "json";
}

}  // namespace godwit::options
