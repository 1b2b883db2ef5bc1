#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

// What a command line and its configuration files ask for: one plain struct per command, checked when it was
// parsed (numbers in range, required options given), so that a command needs no second look.
namespace godwit::options {

enum class Command {
  kDump,
  kPreDump,
  kRestore,
  kShow,
  kCheck,
  kPageServer,
  kLazyPages,
  kExec,
  kService,
  kSwrk,
  kDedup,
  kCpuinfoDump,
  kCpuinfoCheck,
};

// Options of every command.
struct CommonOptions {
  std::string images_dir = ".";             // -D, relative to the directory that criu was started in
  std::optional<std::string> work_dir;      // -W; the image directory where it is not given
  std::optional<std::string> log_file;      // -o, relative to the work directory; standard error without it
  int verbosity = 2;                        // 0 nothing ... 4 debug; higher acts as 4
  std::optional<std::string> pidfile;       // relative to the work directory
  std::vector<std::string> action_scripts;  // in the order given; relative ones from the work directory
};

struct TlsOptions {
  bool enabled = false;
  // Files in PEM; absent: the defaults of the manual (see tls/).
  std::optional<std::string> ca_certificate, revocations, certificate, key;
  bool verify_name = true;  // compare the server's name with its address; --tls-no-cn-verify turns it off
};

// Which header a page server speaks: 24 bytes before CRIU 4.2, 32 bytes since.
enum class PageServerLayout { kProbe, kShort, kLong };

// A page server as its clients see it, and the address on which one of ours listens.
struct PageServerOptions {
  bool enabled = false;                // --page-server: pages go to (or come from) a page server
  std::optional<std::string> address;  // IP address or host name; absent: loopback to connect, any to listen
  uint16_t port = 0;                   // 0: not given
  std::optional<int> status_fd;        // gets one NUL when requests can be served (command_setup.h)
  PageServerLayout layout = PageServerLayout::kProbe;
  TlsOptions tls;
};

enum class PreDumpMode { kSplice, kRead };

struct PreDumpOptions {
  CommonOptions common;
  pid_t tree = 0;                              // -t, always given
  unsigned timeout_s = 10;                     // time to collect the tasks; 0: no limit
  bool track_mem = false;                      // always true for pre-dump
  std::optional<std::string> prev_images_dir;  // relative to the image directory
  PreDumpMode pre_dump_mode = PreDumpMode::kSplice;
  bool shell_job = false;
  bool display_stats = false;
  PageServerOptions page_server;
};

struct DumpOptions : PreDumpOptions {
  bool leave_running = false;  // never both of these: the one given last counts
  bool leave_stopped = false;
  bool tcp_close = false;
  bool lazy_pages = false;  // page_server.address and .port are then where we listen
};

struct RestoreOptions {
  CommonOptions common;
  std::optional<pid_t> tree;  // -t as in 2012; the image decides, so this can only be compared
  bool detached = false;
  bool sibling = false;  // only together with detached
  bool leave_stopped = false;
  bool shell_job = false;
  bool lazy_pages = false;
  bool tcp_close = false;
  bool display_stats = false;
};

struct PageServerCommandOptions {
  CommonOptions common;
  bool daemon = false;
  bool lazy_pages = false;        // serve the image directory instead of receiving
  PageServerOptions page_server;  // port 0: the kernel chooses one, which is printed
};

struct LazyPagesOptions {
  CommonOptions common;
  bool daemon = false;
  bool display_stats = false;
  std::optional<unsigned> timeout_s;  // how long to try again after a lost connection
  PageServerOptions page_server;      // not enabled: the images hold every page
};

struct CheckOptions {
  CommonOptions common;
  bool extra = false;                  // category 2 too
  bool experimental = false;           // category 3 too
  std::optional<std::string> feature;  // only this one, or "list"
};

struct ShowOptions {
  CommonOptions common;
  std::optional<std::string> file;       // -f; a relative one is looked up in `directory` when that is given
  std::optional<std::string> directory;  // -D when it was given; at least one of the two is there
  bool json = false;
  bool page_contents = false;  // -c: page contents in hex
};

struct HelpRequest {
  std::optional<Command> command;  // criu COMMAND -h
};
struct VersionRequest {};

using Request = std::variant<DumpOptions, PreDumpOptions, RestoreOptions, PageServerCommandOptions,
                             LazyPagesOptions, CheckOptions, ShowOptions, HelpRequest, VersionRequest>;

// The CommonOptions of a command's request; nullptr for help and version.
const CommonOptions* common_options(const Request& request);
CommonOptions* common_options(Request& request);

}  // namespace godwit::options
