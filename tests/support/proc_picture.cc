#include "tests/support/proc_picture.h"

#include <signal.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

namespace godwit::test {
namespace {

std::string read_whole(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Fields of stat by their numbers in proc(5): pgrp, session, tty_nr, tpgid, nice, num_threads, the addresses
// of program, stack and heap, rt_priority, policy.
std::string stat_fields(const std::string& text) {
  constexpr std::array kWanted{5, 6, 7, 8, 19, 20, 26, 27, 28, 40, 41, 45, 46, 47, 48, 49, 50, 51};
  std::istringstream words(text.substr(text.rfind(')') + 2));
  std::vector<std::string> fields(3);
  for (std::string word; words >> word;) fields.push_back(word);
  std::string all = text.substr(0, text.rfind(')') + 1) + "\n";
  for (size_t number : kWanted) all += std::to_string(number) + ": " + fields.at(number) + "\n";
  return all;
}

std::string status_fields(const std::string& text) {
  const std::set<std::string> wanted{"Name",        "Umask",   "Tgid",
                                     "Pid",         "Uid",     "Gid",
                                     "Groups",      "NStgid",  "NSpid",
                                     "NSpgid",      "NSsid",   "VmLck",
                                     "VmSize",      "Threads", "SigPnd",
                                     "ShdPnd",      "SigBlk",  "SigIgn",
                                     "SigCgt",      "CapInh",  "CapPrm",
                                     "CapEff",      "CapBnd",  "CapAmb",
                                     "NoNewPrivs",  "Seccomp", "Seccomp_filters",
                                     "THP_enabled", "VmData",  "VmStk",
                                     "VmExe",       "VmLib"};
  std::istringstream lines(text);
  std::string all;
  for (std::string line; std::getline(lines, line);) {
    std::string name = line.substr(0, line.find(':'));
    if (!wanted.contains(name)) continue;
    // A stop leaves a SIGCHLD with the parent when that is stopped itself.
    if (name == "ShdPnd") {
      uint64_t pending = std::stoull(line.substr(line.find(':') + 1), nullptr, 16);
      line = name + ": " + std::to_string(pending & ~(uint64_t{1} << (SIGCHLD - 1)));
    }
    all += line + "\n";
  }
  return all;
}

std::string smaps_flags(const std::string& text) {
  std::istringstream lines(text);
  std::string all;
  for (std::string line; std::getline(lines, line);) {
    bool is_area = (line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f');
    if (!is_area && !line.starts_with("VmFlags")) continue;
    auto erase = [&](const char* flag) {
      if (size_t at = line.find(flag); !is_area && at != std::string::npos) line.erase(at, 3);
    };
    erase(" sd");  // counts writes
    // Code that a debugger, or a dump, has written to is charged when it comes back.
    if (line.find(" wr ") == std::string::npos && line.find(" ex ") != std::string::npos) erase(" ac");
    all += line + "\n";
  }
  return all;
}

}  // namespace

std::map<std::string, std::string> proc_picture(pid_t pid) {
  std::string base = "/proc/" + std::to_string(pid) + "/";
  std::map<std::string, std::string> picture{
      {"maps", read_whole(base + "maps")},
      {"smaps", smaps_flags(read_whole(base + "smaps"))},
      {"limits", read_whole(base + "limits")},
      {"cmdline", read_whole(base + "cmdline")},
      {"environ", read_whole(base + "environ")},
      {"auxv", read_whole(base + "auxv")},
      {"oom_score_adj", read_whole(base + "oom_score_adj")},
      {"personality", read_whole(base + "personality")},
      {"timerslack_ns", read_whole(base + "timerslack_ns")},
      {"coredump_filter", read_whole(base + "coredump_filter")},
      {"exe", std::filesystem::read_symlink(base + "exe")},
      {"cwd", std::filesystem::read_symlink(base + "cwd")},
      {"root", std::filesystem::read_symlink(base + "root")},
  };
  for (const auto& thread : std::filesystem::directory_iterator(base + "task")) {
    std::string task = thread.path().string() + "/", name = "task " + thread.path().filename().string();
    picture[name + " stat"] = stat_fields(read_whole(task + "stat"));
    picture[name + " status"] = status_fields(read_whole(task + "status"));
    picture[name + " comm"] = read_whole(task + "comm");
  }
  for (const auto& file : std::filesystem::directory_iterator(base + "fd")) {
    std::string target = std::filesystem::read_symlink(file.path());
    // Numbers of pipes and sockets are the kernel's.
    if (auto number = target.find(":["); number != std::string::npos) target.resize(number);
    picture["fd " + file.path().filename().string()] = target;
  }
  return picture;
}

std::string difference(const std::map<std::string, std::string>& before,
                       const std::map<std::string, std::string>& after) {
  std::string all;
  auto lines_of = [](const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  };
  auto missing = [&](const auto& from, const auto& in, const char* sign) {
    for (const auto& [name, text] : from) {
      auto other = in.find(name);
      if (other == in.end()) {
        all += std::string(sign) + " " + name + "\n";
        continue;
      }
      if (other->second == text) continue;
      auto theirs = lines_of(other->second);
      std::multiset<std::string> known(theirs.begin(), theirs.end());
      for (const auto& line : lines_of(text)) {
        if (auto same = known.find(line); same != known.end()) {
          known.erase(same);
        } else {
          all += std::string(sign) + " " + name + ": " + line + "\n";
        }
      }
    }
  };
  missing(before, after, "-");
  missing(after, before, "+");
  return all;
}

}  // namespace godwit::test
