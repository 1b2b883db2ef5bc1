// The order of forks and setsids that gives every task of a tree its session, tried by playing it: as the
// kernel does, a child is born in the session of its parent, and setsid founds a new one.
#include "engine/tree/births.h"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <string>

namespace godwit::tree {
namespace {

struct Shape {
  pid_t pid, ppid, pgid, sid;
};

ImageTree make_tree(const std::vector<Shape>& shapes) {
  ImageTree tree;
  std::map<pid_t, size_t> index;
  for (const auto& shape : shapes) {
    ImageTask task;
    task.pid = shape.pid;
    task.ppid = shape.ppid;
    task.pgid = shape.pgid;
    task.sid = shape.sid;
    auto parent = index.find(shape.ppid);
    task.parent = parent == index.end() ? 0 : parent->second;
    index[shape.pid] = tree.tasks.size();
    tree.tasks.push_back(std::move(task));
  }
  return tree;
}

// Plays births and groups; returns what is wrong afterwards, or "".
std::string play(const ImageTree& tree, bool shell_job) {
  kinds::Problems problems;
  auto births = plan_births(tree, shell_job, problems);
  auto groups = plan_groups(tree, shell_job, problems);
  if (!problems.texts().empty()) return "refused: " + problems.texts().front();
  const auto& root = tree.tasks.front();
  constexpr pid_t kOurs = 1;
  std::map<size_t, pid_t> session{{0, shell_job && root.sid != root.pid ? root.sid : kOurs}};
  std::map<size_t, pid_t> group{{0, shell_job && root.pgid != root.pid ? root.pgid : kOurs}};
  for (const auto& step : births) {
    pid_t pid = tree.tasks[step.task].pid;
    if (step.kind == BirthStep::Kind::kFork) {
      size_t parent = tree.tasks[step.task].parent;
      if (session.contains(step.task)) return "born twice";
      if (!session.contains(parent)) return "born before its parent";
      session[step.task] = session[parent];
      group[step.task] = group[parent];
    } else {
      if (!session.contains(step.task)) return "setsid of an unborn task";
      if (group[step.task] == pid) return "setsid of a group leader";
      session[step.task] = group[step.task] = pid;
    }
  }
  if (session.size() != tree.tasks.size()) return "not all are born";
  for (const auto& step : groups) {
    const auto& task = tree.tasks[step.task];
    if (task.sid == task.pid && step.pgid != task.pid) return "a session leader changes its group";
    bool exists = step.pgid == task.pid;
    for (size_t i = 0; i < tree.tasks.size(); ++i) {
      exists = exists || (group[i] == step.pgid && session[i] == session[step.task]);
    }
    if (!exists) return "a group that nobody leads in this session";
    group[step.task] = step.pgid;
  }
  for (size_t i = 0; i < tree.tasks.size(); ++i) {
    if (session[i] != tree.tasks[i].sid) return "pid " + std::to_string(tree.tasks[i].pid) + ": session";
    if (group[i] != tree.tasks[i].pgid) return "pid " + std::to_string(tree.tasks[i].pid) + ": group";
  }
  return "";
}

TEST_CASE("a lone session leader, and one with children in its session") {
  CHECK(play(make_tree({{10, 0, 10, 10}}), false) == "");
  CHECK(play(make_tree({{10, 0, 10, 10}, {11, 10, 10, 10}, {12, 11, 10, 10}}), false) == "");
}

TEST_CASE("groups are joined after their leaders have made them, wherever those stand") {
  // A pipeline whose leader is a later child, and a group across generations.
  CHECK(play(make_tree({{10, 0, 10, 10}, {11, 10, 12, 10}, {12, 10, 12, 10}, {13, 12, 12, 10}}), false) ==
        "");
  CHECK(play(make_tree({{10, 0, 10, 10}, {11, 10, 13, 10}, {12, 11, 10, 10}, {13, 12, 13, 10}}), false) ==
        "");
}

TEST_CASE("sessions within sessions") {
  CHECK(play(make_tree({{10, 0, 10, 10},
                        {11, 10, 11, 11},
                        {12, 11, 12, 12},
                        {13, 12, 13, 13},
                        {14, 13, 13, 13},
                        {15, 10, 10, 10}}),
             false) == "");
}

TEST_CASE("a child that was forked before its parent's setsid is born before it again") {
  auto tree = make_tree({{10, 0, 10, 10}, {11, 10, 11, 11}, {12, 11, 10, 10}, {13, 11, 11, 11}});
  CHECK(play(tree, false) == "");
  kinds::Problems problems;
  auto births = plan_births(tree, false, problems);
  using Kind = BirthStep::Kind;
  CHECK(births ==
        std::vector<BirthStep>{
            {Kind::kSetsid, 0}, {Kind::kFork, 1}, {Kind::kFork, 2}, {Kind::kSetsid, 1}, {Kind::kFork, 3}});
}

TEST_CASE("the need to be born early reaches up through several session founders") {
  // 13 is in session 10, below 11 and 12, which both founded sessions later.
  CHECK(play(make_tree({{10, 0, 10, 10}, {11, 10, 11, 11}, {12, 11, 12, 12}, {13, 12, 10, 10}}), false) ==
        "");
  // And at the same time a child of 12 in the session of 11.
  CHECK(play(make_tree({{10, 0, 10, 10}, {11, 10, 11, 11}, {12, 11, 12, 12}, {13, 12, 11, 11}}), false) ==
        "");
}

TEST_CASE("a shell job's root keeps the session that criu is in") {
  auto tree = make_tree({{10, 0, 10, 5}, {11, 10, 10, 5}, {12, 10, 12, 12}});
  CHECK(play(tree, true) == "");
  CHECK(play(tree, false).find("--shell-job") != std::string::npos);
  // Its group may be the shell's too.
  CHECK(play(make_tree({{10, 0, 7, 5}, {11, 10, 7, 5}}), true) == "");
}

TEST_CASE("what no order of forks can give is refused by name") {
  // A session whose leader is gone.
  CHECK(play(make_tree({{10, 0, 10, 10}, {11, 10, 11, 9}}), false).find("pid 11 is in session 9") !=
        std::string::npos);
  // A session that a sibling leads: only its descendants can be born there.
  CHECK(play(make_tree({{10, 0, 10, 10}, {11, 10, 11, 11}, {12, 10, 12, 11}}), false).find("pid 12") !=
        std::string::npos);
  // Children that were born in two sessions of which their parent can have been in only one.
  CHECK(play(make_tree(
                 {{10, 0, 10, 10}, {11, 10, 11, 11}, {12, 11, 12, 12}, {13, 12, 13, 10}, {14, 12, 14, 11}}),
             false)
            .starts_with("refused"));
  // A group whose leader is gone.
  CHECK(play(make_tree({{10, 0, 10, 10}, {11, 10, 9, 10}}), false).find("group 9") != std::string::npos);
}

// Trees that came about by random forks, setsids and setpgids can always be made again.
TEST_CASE("whatever a tree has done by itself is found an order for") {
  std::mt19937 random(7);
  auto below = [&](size_t count) { return random() % count; };
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<Shape> live{{100, 0, 100, 100}};
    for (int step = 0; step < 30; ++step) {
      Shape& actor = live[below(live.size())];
      switch (below(4)) {
        case 0:
          if (actor.pgid != actor.pid) actor.sid = actor.pgid = actor.pid;
          break;
        case 1:
          if (actor.sid != actor.pid) actor.pgid = actor.pid;
          break;
        default:
          live.push_back({static_cast<pid_t>(100 + live.size()), actor.pid, actor.pgid, actor.sid});
      }
    }
    // A group leader that founds nothing may have left groups without a leader behind; those are refused.
    std::string outcome = play(make_tree(live), false);
    CAPTURE(trial);
    CHECK((outcome == "" || outcome.find("whose leader is gone") != std::string::npos));
    bool lost_group = false;
    for (const auto& member : live) {
      bool led = false;
      for (const auto& leader : live) led = led || (leader.pid == member.pgid && leader.pgid == member.pgid);
      lost_group = lost_group || !led;
    }
    CHECK((outcome == "") == !lost_group);
  }
}

}  // namespace
}  // namespace godwit::tree
