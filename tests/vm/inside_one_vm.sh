#!/bin/bash
# tests/vm/inside_one_vm.sh BUILD: what vm.one_vm runs in its VM. All parts run; the first failure is the status.
build=$1 status=0
part() {
  local from=$SECONDS ended=0
  echo "== $*"
  "$@" --no-colors=true || ended=$?
  # Also 77, a test that was skipped: all of them can run here.
  [ $ended = 0 ] || status=1
  echo "== $((SECONDS - from)) s, status $ended"
}
part "$build/vm_tests"
part "$build/kernel_tests" --source-file='*dirty_tracker_test.cc'
part "$build/e2e_tests" --source-file='*dump_restore_test.cc'
exit $status
