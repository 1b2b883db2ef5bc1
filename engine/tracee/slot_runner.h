#pragma once

#include <signal.h>
#include <sys/user.h>

#include <chrono>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "engine/tracee/batch_stop.h"
#include "engine/tracee/remote_memory.h"
#include "engine/tracee/scratch_place.h"
#include "engine/tracee/stub.h"
#include "engine/tracee/tracee.h"
#include "engine/tracee/waiter.h"

namespace godwit::tracee {

// A thread that runs batches, and the page with its copy of the stub.
struct Slot {
  pid_t pid = 0, tid = 0;
  RemoteAddress code;
  StubState state{};            // follows the stub in its page
  user_regs_struct own{};       // the registers that the thread gets back, as they were captured
  uint64_t own_mask = 0;        // likewise its signal mask
  BatchEnd end;                 // how its batches end
  int spare_signal = 0;         // another signal that could; 0 for none
  bool live_registers = false;  // batches start from the registers as they are now (restored tasks)
  // A thread under a seccomp filter: its stub makes no call but the batch's own. We block its signals only
  // when one arrives, or when the signal that ends batches is blocked; then it returns by a signal frame.
  bool filtered = false;
  bool mask_changed = false;
  std::optional<RemoteAddress> frame;

  bool in_batch = false;
  Deadline deadline;
  std::vector<pid_t> new_tasks;
  std::vector<siginfo_t> held;  // signals from outside that ended up with us
};

// Makes slots run, and waits for them. Of one address space.
class SlotRunner {
 public:
  SlotRunner(const RemoteMemory& memory, std::chrono::milliseconds timeout)
      : memory_(memory), timeout_(timeout) {}

  // What the signals of this thread say: which one ends its batches, whether it is under a seccomp filter
  // (suspended from now on). For a running program; throws RefusedError when no signal is free.
  void prepare_running(Slot& slot, Tracee& tracee);
  // The same for a task that is being restored.
  void prepare_restored(Slot& slot, Tracee& tracee);

  // Copies the stub to the slot's code page.
  void install_stub(const Slot& slot);
  // Starts the descriptors at this address.
  void launch(Slot& slot, RemoteAddress descriptors, uint64_t count);
  // Waits for the batch's one stop. Throws Error when the thread dies or the time-out passes.
  void await_end(Slot& slot);
  // One call, in the slot's code page or from a bootstrap image at `place`; its result or -errno. Needs
  // nothing but that page.
  int64_t call(Slot& slot, long nr, std::initializer_list<uint64_t> arguments);
  int64_t bootstrap_call(Slot& slot, RemoteAddress place, long nr, std::initializer_list<uint64_t> arguments);
  // Registers and signal mask of the thread's own; it stays stopped.
  void send_home(Slot& slot);

 private:
  void enter(Slot& slot, RemoteAddress stub, const StubState& state);
  void read_identity(Slot& slot, const kernel::TaskStatus& status);
  void requeue(Slot& slot, int signal);
  std::optional<WaitStatus> wait(const Slot& slot) { return waiter_.wait(slot.tid, slot.deadline); }

  const RemoteMemory& memory_;
  std::chrono::milliseconds timeout_;
  KernelWaiter waiter_;
};

}  // namespace godwit::tracee
