#include "engine/options/option_table.h"

#include <algorithm>
#include <array>
#include <vector>

#include "engine/options/option_values.h"

namespace godwit::options {
namespace {

using enum Command;
using enum Argument;
using enum Availability;

constexpr CommandSet kEvery = CommandSet::all();
constexpr CommandSet kDumps{kDump, kPreDump};
constexpr CommandSet kBoth{kDump, kRestore};
constexpr CommandSet kPageClients{kDump, kPreDump, kLazyPages};
constexpr CommandSet kNetworked{kPageServer, kDump, kPreDump, kLazyPages};
constexpr CommandSet kAddressed{kPageServer, kDump, kPreDump, kLazyPages, kService};

constexpr Option on_off(std::string_view name, char letter, CommandSet commands, Group group,
                        std::string_view help, void (*store)(Values&, const Setting&)) {
  return {name, letter, kNone, {}, commands, group, help, kAvailable, true, store};
}
constexpr Option with_value(std::string_view name, char letter, std::string_view placeholder,
                            CommandSet commands, Group group, std::string_view help,
                            void (*store)(Values&, const Setting&)) {
  return {name, letter, kRequired, placeholder, commands, group, help, kAvailable, false, store};
}
constexpr Option later_on_off(std::string_view name, char letter, CommandSet commands, Group group,
                              std::string_view help) {
  return {name, letter, kNone, {}, commands, group, help, kLater, true, nullptr};
}
constexpr Option later(std::string_view name, char letter, Argument argument, std::string_view placeholder,
                       CommandSet commands, Group group, std::string_view help) {
  return {name, letter, argument, placeholder, commands, group, help, kLater, false, nullptr};
}

// clang-format off
constexpr Option kOptions[] = {
    // Common.
    {"help", 'h', kNone, {}, kEvery, Group::kCommon, "show this help; after a command, the command's own", kAvailable, false, nullptr},
    {"version", 'V', kNone, {}, kEvery, Group::kCommon, "show the version", kAvailable, false, nullptr},
    {"verbosity", 'v', kOptional, "N", kEvery, Group::kCommon,
     "0 no output, 1 errors, 2 warnings (default), 3 information with time stamps, 4 debug; "
     "-vN sets it, every plain v adds one", kAvailable, false, store_verbosity},
    with_value("images-dir", 'D', "DIR", kEvery, Group::kCommon, "image directory (default: the current one)", store_images_dir),
    with_value("work-dir", 'W', "DIR", kEvery, Group::kCommon, "logs, pid files and statistics (default: the image directory)", store_work_dir),
    with_value("log-file", 'o', "FILE", kEvery, Group::kCommon, "log file, relative to the work directory (default: standard error)", store_log_file),
    with_value("pidfile", 0, "FILE", kEvery, Group::kCommon, "write the pid of the root task or of the server into FILE", store_pidfile),
    with_value("config", 0, "FILE", kEvery, Group::kCommon, "read FILE in place of the default configuration files", nullptr),
    {"no-default-config", 0, kNone, {}, kEvery, Group::kCommon, "do not read the default configuration files", kAvailable, false, nullptr},
    with_value("action-script", 0, "SCRIPT", kEvery, Group::kCommon, "run SCRIPT at every stage; may be repeated", store_action_script),
    later("close", 0, kRequired, "FD", kEvery, Group::kCommon, "close FD first"),
    later("libdir", 'L', kRequired, "DIR", kEvery, Group::kCommon, "directory of plugins"),
    later("enable-fs", 0, kRequired, "FS[,FS...]", kEvery, Group::kCommon, "file systems to detect automatically, or all"),
    later_on_off("log-pid", 0, kEvery, Group::kCommon, "one log file per process"),
    later_on_off("unprivileged", 0, kEvery, Group::kCommon, "run without root, with CAP_CHECKPOINT_RESTORE"),
    later_on_off("deprecated", 0, kEvery, Group::kCommon, "allow deprecated forms"),

    // The tree and what becomes of it.
    with_value("tree", 't', "PID", {kDump, kPreDump, kRestore, kExec}, Group::kTree, "root of the process tree", store_tree),
    on_off("leave-running", 'R', {kDump}, Group::kTree, "let the tasks run on after the dump", store_leave_running),
    on_off("leave-stopped", 's', kBoth, Group::kTree, "leave the tasks stopped", store_leave_stopped),
    on_off("restore-detached", 'd', {kRestore}, Group::kTree, "end once the tasks run, instead of waiting for them", store_switch<&Values::detached>),
    on_off("restore-sibling", 'S', {kRestore}, Group::kTree, "make the root task our sibling (only with -d)", store_switch<&Values::sibling>),
    on_off("shell-job", 'j', {kDump, kPreDump, kRestore}, Group::kTree, "session and process group come from criu itself; for both dump and restore", store_switch<&Values::shell_job>),
    with_value("timeout", 0, "SECONDS", {kDump, kPreDump, kLazyPages}, Group::kTree, "time to collect the tasks, or to reach a lost page server again (default: 10; 0: no limit)", store_timeout),
    on_off("display-stats", 0, {kDump, kPreDump, kRestore, kLazyPages}, Group::kTree, "print statistics at the end", store_switch<&Values::display_stats>),
    later("exec-cmd", 0, kNone, {}, {kRestore}, Group::kTree, "run the command after -- in place of waiting"),
    later("cpu-cap", 0, kOptional, "CAP[,CAP...]", {kDump, kRestore, kCpuinfoDump, kCpuinfoCheck}, Group::kTree, "CPU capabilities to store or to require: none, fpu, ins, cpu, all"),
    later("lsm-profile", 0, kRequired, "TYPE:NAME", {kRestore}, Group::kTree, "apparmor or selinux profile"),
    later("lsm-mount-context", 0, kRequired, "CONTEXT", {kRestore}, Group::kTree, "context of restored mounts"),
    later_on_off("weak-sysctls", 0, {kRestore}, Group::kTree, "skip sysctls that are missing"),
    later_on_off("allow-uprobes", 0, kBoth, Group::kTree, "allow a uprobes mapping"),

    // Memory.
    on_off("track-mem", 0, kDumps, Group::kMemory, "track memory changes; implied by pre-dump", store_switch<&Values::track_mem>),
    with_value("prev-images-dir", 0, "DIR", kDumps, Group::kMemory, "images of the previous pre-dump, relative to the image directory", store_prev_images_dir),
    with_value("pre-dump-mode", 0, "MODE", {kPreDump}, Group::kMemory, "splice (default) or read: how the pages are read", store_pre_dump_mode),
    on_off("lazy-pages", 0, {kDump, kRestore, kPageServer}, Group::kMemory, "bring memory pages on demand", store_switch<&Values::lazy_pages>),
    later_on_off("auto-dedup", 0, {kDump, kPreDump, kPageServer, kRestore}, Group::kMemory, "punch out of the parent images what is written again"),
    later_on_off("stream", 0, kBoth, Group::kMemory, "images through criu-image-streamer"),

    // Page server.
    on_off("page-server", 0, kPageClients, Group::kPageServer, "use a page server", store_page_server),
    with_value("address", 0, "ADDRESS", kAddressed, Group::kPageServer, "IP address or host name of the page server", store_address),
    with_value("port", 0, "N", kAddressed, Group::kPageServer, "its port", store_port),
    with_value("status-fd", 0, "FD", {kPageServer, kDump, kService, kLazyPages}, Group::kPageServer, "write one NUL byte to FD and close it when ready", store_status_fd),
    on_off("daemon", 0, {kPageServer, kService, kLazyPages}, Group::kPageServer, "run in the background", store_switch<&Values::daemon>),
    with_value("ps-layout", 0, "LAYOUT", kPageClients, Group::kPageServer, "protocol header: short (before CRIU 4.2), long, or probe (default)", store_layout),
    later("ps-socket", 0, kRequired, "FD", {kPageServer, kDump, kPreDump, kLazyPages}, Group::kPageServer, "a connection that is already there"),

    // TLS.
    on_off("tls", 0, kNetworked, Group::kTls, "secure connections with TLS", store_tls),
    with_value("tls-cacert", 0, "FILE", kNetworked, Group::kTls, "trust this CA only (default: the system's and /etc/pki/CA/cacert.pem)", store_ca_certificate),
    with_value("tls-cacrl", 0, "FILE", kNetworked, Group::kTls, "revoked certificates (default: /etc/pki/CA/cacrl.pem)", store_revocations),
    with_value("tls-cert", 0, "FILE", kNetworked, Group::kTls, "our certificate (default: /etc/pki/criu/cert.pem)", store_certificate),
    with_value("tls-key", 0, "FILE", kNetworked, Group::kTls, "our private key (default: /etc/pki/criu/private/key.pem)", store_key),
    on_off("tls-no-cn-verify", 0, kPageClients, Group::kTls, "do not compare the server's name with --address", store_no_name_check),

    // Files and external resources.
    later("external", 0, kRequired, "TYPE[ID]:VALUE", kBoth, Group::kFiles, "a resource from outside the tree: mnt, dev, file, tty, unix, pid, net, veth, macvlan, netdev"),
    later("inherit-fd", 0, kRequired, "fd[N]:RESOURCE", {kRestore}, Group::kFiles, "use our descriptor N for RESOURCE"),
    later_on_off("evasive-devices", 0, kBoth, Group::kFiles, "use any path to a device"),
    later_on_off("force-irmap", 0, kDumps, Group::kFiles, "resolve the names of inotify and fanotify watches"),
    later("irmap-scan-path", 0, kRequired, "PATH", kDumps, Group::kFiles, "more places to look for watched files"),
    later_on_off("file-locks", 'l', kBoth, Group::kFiles, "file locks"),
    later_on_off("link-remap", 0, {kDump}, Group::kFiles, "link unlinked files back until restore"),
    later("ghost-limit", 0, kRequired, "SIZE[K,M,G]", {kDump}, Group::kFiles, "largest deleted file in the images (default: 1M)"),
    later_on_off("ghost-fiemap", 0, {kDump}, Group::kFiles, "find the holes of deleted files with FIEMAP"),
    later("file-validation", 0, kRequired, "MODE", kBoth, Group::kFiles, "filesize or buildid (default): how files are compared"),
    later_on_off("skip-file-rwx-check", 0, {kRestore}, Group::kFiles, "do not compare file modes"),
    later("ext-unix-sk", 'x', kOptional, "INODE[,INODE...]", {kDump}, Group::kFiles, "external unix sockets (old form of --external)"),

    // Network.
    on_off("tcp-close", 0, kBoth, Group::kNetwork, "dump no established TCP connections; restore them closed", store_switch<&Values::tcp_close>),
    later_on_off("tcp-established", 0, kBoth, Group::kNetwork, "established TCP connections"),
    later_on_off("skip-in-flight", 0, {kDump}, Group::kNetwork, "leave out connections that are not yet established"),
    later("network-lock", 0, kRequired, "METHOD", kBoth, Group::kNetwork, "iptables (default), nftables or skip"),
    later("veth-pair", 0, kRequired, "IN=OUT", kBoth, Group::kNetwork, "outside name of a veth (old form of --external)"),

    // Namespaces and mounts.
    later("root", 'r', kRequired, "PATH", kBoth, Group::kNamespaces, "root of the mount namespace"),
    later("namespaces", 'n', kRequired, "NS[,NS...]", {kDump}, Group::kNamespaces, "namespaces to dump (old form; they are found)"),
    later("join-ns", 'J', kRequired, "NS:PID|FILE[,OPTS]", {kRestore}, Group::kNamespaces, "restore into a namespace that exists"),
    later("empty-ns", 0, kRequired, "net", kBoth, Group::kNamespaces, "an empty network namespace"),
    later("skip-mnt", 0, kRequired, "PATH", kBoth, Group::kNamespaces, "leave a mount out"),
    later("ext-mount-map", 'M', kRequired, "KEY:VAL|auto", kBoth, Group::kNamespaces, "external mounts (old form of --external)"),
    later_on_off("enable-external-sharing", 0, kBoth, Group::kNamespaces, "with --ext-mount-map auto: shared mounts too"),
    later_on_off("enable-external-masters", 0, kBoth, Group::kNamespaces, "with --ext-mount-map auto: slave mounts too"),
    later_on_off("mntns-compat-mode", 0, {kRestore}, Group::kNamespaces, "the old mount engine"),

    // Control groups.
    later("freeze-cgroup", 0, kRequired, "PATH", {kDump}, Group::kCgroups, "freeze through this control group"),
    later("manage-cgroups", 0, kOptional, "MODE", kBoth, Group::kCgroups, "none, props, soft (default), full, strict or ignore"),
    later("cgroup-props", 0, kRequired, "SPEC", {kDump}, Group::kCgroups, "controllers and properties to dump"),
    later("cgroup-props-file", 0, kRequired, "FILE", {kDump}, Group::kCgroups, "the same from a file"),
    later("cgroup-dump-controller", 0, kRequired, "NAME", {kDump}, Group::kCgroups, "dump this controller only"),
    later("cgroup-yard", 0, kRequired, "PATH", kBoth, Group::kCgroups, "directory with control groups mounted"),
    later("cgroup-root", 0, kRequired, "[CTRL:]/ROOT", kBoth, Group::kCgroups, "root of what is dumped, or to restore into"),

    // check.
    on_off("extra", 0, {kCheck}, Group::kCheck, "category 2 too: features that only some workloads need", store_switch<&Values::extra>),
    on_off("experimental", 0, {kCheck}, Group::kCheck, "category 3 too: experimental features", store_switch<&Values::experimental>),
    on_off("all", 0, {kCheck}, Group::kCheck, "categories 1, 2 and 3", store_all_categories),
    with_value("feature", 0, "NAME", {kCheck}, Group::kCheck, "check this feature only; list prints the names", store_feature),
    later_on_off("ms", 0, {kCheck}, Group::kCheck, "skip features that are not merged upstream (2013)"),

    // show.
    with_value("file", 'f', "FILE", {kShow}, Group::kShow, "the image file to show", store_file),
    on_off({}, 'c', {kShow}, Group::kShow, "the contents of pages in hex", store_switch<&Values::page_contents>),
    with_value("format", 0, "FORMAT", {kShow}, Group::kShow, "text (default) or json", store_format),
};

constexpr CommandRow kCommands[] = {
    {kDump, "dump", "checkpoint a process tree", kAvailable},
    {kPreDump, "pre-dump", "snapshot the memory of a tree that runs on", kAvailable},
    {kRestore, "restore", "restore a process tree", kAvailable},
    {kPageServer, "page-server", "receive pages over the network, or serve them", kAvailable},
    {kLazyPages, "lazy-pages", "bring memory of restored processes on demand", kAvailable},
    {kCheck, "check", "check what the kernel supports", kAvailable},
    {kShow, "show", "print image files for a person", kAvailable},
    {kDedup, "dedup", "remove from parent images what is stored again", kLater},
    {kService, "service", "serve RPC on a unix socket", kLater},
    {kSwrk, "swrk", "serve RPC on an inherited socket", kLater},
    {kCpuinfoDump, "cpuinfo dump", "write the CPU's features into an image", kLater},
    {kCpuinfoCheck, "cpuinfo check", "compare this CPU with the image", kLater},
    {kExec, "exec", "run one system call in a task", kLater},
};
// clang-format on

}  // namespace

std::string Option::spelling() const {
  return name.empty() ? std::string("-") + letter : "--" + std::string(name);
}

std::span<const Option> option_table() {
  return kOptions;
}
std::span<const CommandRow> command_table() {
  return kCommands;
}

const Option* find_option(std::string_view name) {
  if (name.empty()) return nullptr;
  auto found = std::ranges::find(kOptions, name, &Option::name);
  return found == std::end(kOptions) ? nullptr : found;
}

const Option* find_option(char letter) {
  if (letter == 0) return nullptr;
  auto found = std::ranges::find(kOptions, letter, &Option::letter);
  return found == std::end(kOptions) ? nullptr : found;
}

std::string_view command_name(Command command) {
  return std::ranges::find(kCommands, command, &CommandRow::command)->name;
}

const CommandRow* find_command(std::string_view name) {
  auto found = std::ranges::find(kCommands, name, &CommandRow::name);
  return found == std::end(kCommands) ? nullptr : found;
}

}  // namespace godwit::options
