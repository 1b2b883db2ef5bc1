#!/bin/bash
# tests/interop/restore_elsewhere.sh LAZY_PAGES_CRIU RESTORE_CRIU IMAGES PORT
# Post-copy on one machine: restores IMAGES, whose pages are at 127.0.0.1:PORT, in a pid namespace of its own, since the
# source still has the pids. Ends, and the restored processes with it, when it is killed.
if [ -z "$ELSEWHERE" ]; then
  exec env ELSEWHERE=1 unshare --pid --fork --kill-child --mount-proc "$0" "$@"
fi
cd "$3" || exit 1
"$1" lazy-pages --page-server --address 127.0.0.1 --port "$4" -D "$3" -v4 -o lazy-pages.log &
for _ in $(seq 500); do
  [ ! -S lazy-pages.socket ] || break
  sleep 0.02
done
"$2" restore --lazy-pages -d -D "$3" -v4 -o restore.log || { touch restore.failed; exit 1; }
while :; do
  sleep 3600 &
  wait $!
done
