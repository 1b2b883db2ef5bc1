#!/bin/bash
# bench/run.sh [OPTIONS OF THE PROGRAMS]
# Runs every benchmark of build/bench, one after the other, and prints one table; needs root and 6 GiB of memory. Run it
# on a machine that does nothing else, three times: a reach counts as met when three runs meet it.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD_DIR:-$PWD/build}
programs=(dump restore page_server predump postcopy downtime)

echo "$(nproc) cores, $(uname -r), load before: $(cut -d' ' -f1-3 /proc/loadavg)" >&2
case " $* " in
  *" --json "*) ;;
  *)
    echo '| figure | median (min .. max) | reach | verdict | ours | raw |'
    echo '| --- | --- | --- | --- | --- | --- |'
    ;;
esac
status=0
for program in "${programs[@]}"; do
  "$build/bench/${program}_bench" "$@" || status=1
done
echo "load after: $(cut -d' ' -f1-3 /proc/loadavg)" >&2
exit $status
