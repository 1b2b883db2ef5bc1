#!/bin/bash
# tests/vm/run_two_vms.sh [OPTIONS OF run_vm.sh] PROGRAM [ARGS]
# Runs PROGRAM in two VMs at once: as `PROGRAM a ARGS` at 10.0.2.1 and as `PROGRAM b ARGS` at 10.0.2.2, on an Ethernet of
# their own (two Unix sockets). Lines are prefixed a: and b:. The first that fails ends the other and gives the status.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
options=()
while getopts k:m:c:t:o: option; do options+=("-$option" "$OPTARG"); done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { echo "run_two_vms.sh: no PROGRAM given" >&2; exit 2; }
program=$1 && shift
link=$(mktemp -d)

start() { # ME NUMBER PEER [ARGS]; sets pid
  local me=$1 number=$2 peer=$3
  shift 3
  "$here/run_vm.sh" "${options[@]}" -i "10.0.2.$number/24" \
    -q "-device virtio-net-pci,netdev=n,mac=52:54:00:00:02:0$number
        -netdev dgram,id=n,local.type=unix,local.path=$link/$me,remote.type=unix,remote.path=$link/$peer" \
    "$program" "$me" "$@" > >(sed -u "s/^/$me: /") &
  pid=$!
}
start a 1 b "$@"; a=$pid
start b 2 a "$@"; b=$pid
trap 'kill $a $b 2>/dev/null; wait $a $b 2>/dev/null; rm -rf "$link"' EXIT
trap 'exit 143' TERM INT
for _ in a b; do
  wait -n $a $b 2>/dev/null
  status=$?
  [ $status = 0 ] || exit $status
done
