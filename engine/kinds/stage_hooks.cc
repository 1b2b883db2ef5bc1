#include "engine/kinds/stage_hooks.h"

namespace godwit::kinds {

std::string_view stage_name(Stage stage) {
  switch (stage) {
    case Stage::kPreStream:
      return "pre-stream";
    case Stage::kPreDump:
      return "pre-dump";
    case Stage::kPostDump:
      return "post-dump";
    case Stage::kPreRestore:
      return "pre-restore";
    case Stage::kPostRestore:
      return "post-restore";
    case Stage::kNetworkLock:
      return "network-lock";
    case Stage::kNetworkUnlock:
      return "network-unlock";
    case Stage::kSetupNamespaces:
      return "setup-namespaces";
    case Stage::kPostSetupNamespaces:
      return "post-setup-namespaces";
    case Stage::kPreResume:
      return "pre-resume";
    case Stage::kPostResume:
      return "post-resume";
    case Stage::kOrphanPtsMaster:
      return "orphan-pts-master";
    case Stage::kStatusReady:
      return "status-ready";
    case Stage::kQueryExtFiles:
      break;
  }
  return "query-ext-files";
}

}  // namespace godwit::kinds
