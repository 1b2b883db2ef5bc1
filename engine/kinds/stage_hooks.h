#pragma once

#include <sys/types.h>

#include <string_view>

namespace godwit::kinds {

// The moments of a dump or a restore at which an operator's script (or an RPC client) is told and may object.
// The order is that of a restore; which stage stands where is described in criu(8), --action-script.
enum class Stage {
  kPreStream,
  kPreDump,
  kPostDump,
  kPreRestore,
  kPostRestore,
  kNetworkLock,
  kNetworkUnlock,
  kSetupNamespaces,  // root task and its namespaces exist, nothing else
  kPostSetupNamespaces,
  kPreResume,        // everything restored, tasks stopped
  kPostResume,       // at the very end
  kOrphanPtsMaster,  // RPC only
  kStatusReady,
  kQueryExtFiles,  // RPC only
};

// The stage's name in CRTOOLS_SCRIPT_ACTION and in RPC notifications ("network-lock").
std::string_view stage_name(Stage stage);

// What dump and restore call at each stage. `root_pid` is the root task's pid as we see it, 0 while there is
// none. Throws Error when the stage was refused; the command then fails and rolls back.
class StageHooks {
 public:
  StageHooks() = default;
  StageHooks(const StageHooks&) = delete;
  StageHooks& operator=(const StageHooks&) = delete;
  virtual ~StageHooks() = default;

  virtual void run(Stage stage, pid_t root_pid) = 0;
};

// For callers without scripts: every stage passes.
class NoStageHooks final : public StageHooks {
 public:
  void run(Stage, pid_t) override {}
};

}  // namespace godwit::kinds
