#!/bin/bash
# tests/vm/inside_two_vms.sh a|b BUILD KEYS: moves the guest "counter" from VM a to VM b with `migrate run`, by pre-copy
# with soft-dirty bits, over TLS. The guest checks itself all the while and writes into its report, which each VM has.
set -euo pipefail
me=$1 build=$2 keys=$3
work=/tmp/two_vms report=/tmp/two_vms/report
mkdir -p $work
tls=(--tls-cacert "$keys/ca.pem" --tls-cert "$keys/$me.pem" --tls-key "$keys/$me.key")

fail() { echo "FAILED: $*" >&2; exit 1; }
rounds() { head -n 1 $report; }
# Waits for a condition, for two minutes at most: a limit that only catches hangs.
until_true() {
  for _ in $(seq 600); do
    ! "$@" || return 0
    sleep 0.2
  done
  fail "never came: $*"
}
no_failures() { [ "$(wc -l <$report)" = 1 ] || fail "the guest reports: $(cat $report)"; }

send() {
  # Numbers that are free on the other side.
  echo 20000 >/proc/sys/kernel/ns_last_pid
  setsid "$build/guests/counter" $report 2 8 </dev/null >/dev/null 2>&1 &
  local guest=$!
  counts() { [ "$(rounds 2>/dev/null || echo 0)" != 000000000000 ]; }
  until_true counts
  agent_listens() { (exec 3<>/dev/tcp/10.0.2.2/27185) 2>/dev/null; }
  until_true agent_listens
  "$build/migrate" run --tree $guest --to 10.0.2.2 --shell-job "${tls[@]}" -W $work/run -v 3 >$work/out 2>&1 ||
    { cat $work/out; fail "migrate run"; }
  cat $work/out
  grep -q 'tracked by soft-dirty' $work/out || fail "migrate run did not track by soft-dirty bits"
  grep -q ', [1-9][0-9]* in the parent' $work/out || fail "no round found a clean page"
  wait $guest 2>/dev/null || true
  [ ! -e /proc/$guest ] || fail "the source's copy is still there"
  no_failures
}

receive() {
  # The guest opens its report anew for every round: here it is another file.
  echo 000000000000 >$report
  "$build/migrate" agent --address 10.0.2.2 "${tls[@]}" -W $work/agent &
  local agent=$!
  counts() { [ "$(rounds)" != 000000000000 ]; }
  until_true counts
  local before
  before=$(rounds)
  goes_on() { [ $((10#$(rounds))) -gt $((10#$before + 20)) ]; }
  until_true goes_on
  no_failures
  local guest
  guest=$(pgrep -x counter) || fail "no counter runs here"
  [ "$guest" -gt 20000 ] || fail "the guest has pid $guest"
  local threads=(/proc/"$guest"/task/*)
  [ ${#threads[@]} = 2 ] || fail "the guest has ${#threads[@]} threads, not 2"
  kill -KILL "$guest"
  kill -TERM $agent
  echo "the guest counts on at $(rounds), pid $guest"
}

case $me in a) send ;; b) receive ;; esac
