#include "engine/options/option_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "engine/options/help_text.h"

namespace godwit::options {
namespace {

// Every option of the five manual pages and of CRIU 4.2, by long name.
constexpr std::string_view kOptionsOfTheManuals[] = {
    "verbosity",
    "config",
    "no-default-config",
    "pidfile",
    "log-file",
    "log-pid",
    "display-stats",
    "images-dir",
    "stream",
    "prev-images-dir",
    "work-dir",
    "close",
    "libdir",
    "enable-fs",
    "action-script",
    "version",
    "help",
    "track-mem",
    "pre-dump-mode",
    "tree",
    "leave-running",
    "leave-stopped",
    "external",
    "freeze-cgroup",
    "manage-cgroups",
    "cgroup-props",
    "cgroup-props-file",
    "cgroup-dump-controller",
    "cgroup-yard",
    "cgroup-root",
    "tcp-established",
    "tcp-close",
    "skip-in-flight",
    "evasive-devices",
    "page-server",
    "address",
    "port",
    "ps-socket",
    "daemon",
    "status-fd",
    "tls",
    "tls-cacert",
    "tls-cacrl",
    "tls-cert",
    "tls-key",
    "tls-no-cn-verify",
    "lazy-pages",
    "force-irmap",
    "irmap-scan-path",
    "auto-dedup",
    "file-locks",
    "link-remap",
    "ghost-limit",
    "ghost-fiemap",
    "shell-job",
    "cpu-cap",
    "file-validation",
    "ext-unix-sk",
    "ext-mount-map",
    "enable-external-sharing",
    "enable-external-masters",
    "namespaces",
    "veth-pair",
    "inherit-fd",
    "restore-detached",
    "restore-sibling",
    "root",
    "lsm-profile",
    "lsm-mount-context",
    "weak-sysctls",
    "skip-file-rwx-check",
    "join-ns",
    "empty-ns",
    "mntns-compat-mode",
    "skip-mnt",
    "exec-cmd",
    "timeout",
    "network-lock",
    "allow-uprobes",
    "unprivileged",
    "deprecated",
    "extra",
    "experimental",
    "all",
    "feature",
    "ms",
    "file",
};

TEST_CASE("the table has every option of the manuals") {
  for (std::string_view name : kOptionsOfTheManuals) {
    CAPTURE(name);
    CHECK(find_option(name) != nullptr);
  }
  CHECK(find_option("tree")->letter == 't');
  CHECK(find_option('c')->name.empty());
  CHECK(find_option("") == nullptr);
}

TEST_CASE("every command of the manuals has a row") {
  for (const char* name : {"dump", "pre-dump", "restore", "show", "check", "page-server", "lazy-pages",
                           "exec", "service", "swrk", "dedup", "cpuinfo dump", "cpuinfo check"}) {
    CAPTURE(name);
    REQUIRE(find_command(name) != nullptr);
    CHECK(command_name(find_command(name)->command) == name);
  }
}

TEST_CASE("no name, letter or --no- form is used twice") {
  std::set<std::string> names;
  std::set<char> letters;
  for (const Option& option : option_table()) {
    CAPTURE(option.spelling());
    if (!option.name.empty()) CHECK(names.insert(std::string(option.name)).second);
    if (option.negatable && !option.name.empty())
      CHECK(names.insert("no-" + std::string(option.name)).second);
    if (option.letter != 0) CHECK(letters.insert(option.letter).second);
  }
}

TEST_CASE("every row is complete") {
  constexpr std::string_view kReadBeforeTheOthers[] = {"help", "version", "config", "no-default-config"};
  for (const Option& option : option_table()) {
    CAPTURE(option.spelling());
    CHECK_FALSE(option.help.empty());
    CHECK(option.placeholder.empty() == (option.argument == Argument::kNone));
    CHECK_FALSE((option.negatable && option.argument != Argument::kNone));
    bool stores_nothing =
        option.availability == Availability::kLater ||
        std::ranges::find(kReadBeforeTheOthers, option.name) != std::end(kReadBeforeTheOthers);
    CHECK((option.store == nullptr) == stores_nothing);
  }
}

TEST_CASE("every line of help fits, names its option, and says what is not available yet") {
  std::string help = help_text(std::nullopt);
  size_t longest = 0;
  for (size_t begin = 0; begin < help.size();) {
    size_t end = help.find('\n', begin);
    longest = std::max(longest, end - begin);
    begin = end + 1;
  }
  CHECK(longest <= 100);
  for (const Option& option : option_table()) CHECK(help.find(option.spelling()) != std::string::npos);
  CHECK(help.find("file locks (not available yet)") != std::string::npos);
  CHECK(help.find("secure connections with TLS (not available yet)") == std::string::npos);
}

TEST_CASE("a command's help has its own options and the common ones") {
  std::string help = help_text(Command::kCheck);
  CHECK(help.find("--feature NAME") != std::string::npos);
  CHECK(help.find("--images-dir") != std::string::npos);
  CHECK(help.find("--tcp-close") == std::string::npos);
  CHECK(help_text(Command::kService).find("not available yet") != std::string::npos);
}

TEST_CASE("a slip of the pen finds the option that was meant") {
  CHECK(nearest_option("leave-runing") == "--leave-running");
  CHECK(nearest_option("prot") == "--port");
  CHECK(nearest_option("no-tcp-clsoe") == "--no-tcp-close");
  CHECK_FALSE(nearest_option("a").has_value());
  CHECK_FALSE(nearest_option("completely-different").has_value());
}

}  // namespace
}  // namespace godwit::options
