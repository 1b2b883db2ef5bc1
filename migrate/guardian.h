#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "migrate/agent_link.h"
#include "migrate/task_identity.h"

namespace godwit::migrate {

// What may be done with the source's copy when this program dies.
enum class Custody : uint8_t {
  kNone,      // it runs on: the kernel sees to that
  kAsk,       // the commit was asked for: the agent's verdict decides
  kKeepHeld,  // post-copy under way: it stays stopped, as its pages exist nowhere else
};

// A process of its own that outlives a `migrate run` killed between asking for the commit and acting on the
// answer. The tree is then stopped (hold_tasks), so that it runs nowhere or there; the guardian asks the
// agent until it knows, then ends or continues the stopped tasks. It also removes the small images.
class Guardian {
 public:
  // Forks it; call it before the first thread and connection. `images` is removed when we end.
  Guardian(const AgentAddress& agent, const std::string& move_id, const std::string& images);
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;
  // Lets it go and waits for its end.
  ~Guardian();

  // The tasks are in its custody in this way from now on. Throws Error when it is gone.
  void set(Custody custody, const std::vector<TaskIdentity>& tasks);

 private:
  Fd socket_;
  pid_t pid_ = -1;
};

// Makes tasks that we trace stop, instead of running on, when the trace ends by our death.
void hold_tasks(const std::vector<TaskIdentity>& tasks);
// Takes that back, or continues tasks that stopped.
void unhold_tasks(const std::vector<TaskIdentity>& tasks);
void kill_tasks(const std::vector<TaskIdentity>& tasks);

}  // namespace godwit::migrate
