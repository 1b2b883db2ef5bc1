#!/bin/sh
# post_copy_destination.sh CRIU DIR PORT [OPTIONS]: the far side of a post-copy move, as the first process of a pid
# namespace: a lazy-pages daemon, then the restore. DIR/arrived says that the last page is there; it stays until killed.
criu=$1 dir=$2 port=$3
shift 3
mkfifo "$dir/ready"
"$criu" lazy-pages -D "$dir/images" -W "$dir" -o lazy.log -v4 --page-server --address 127.0.0.1 --port "$port" "$@" \
  --status-fd 9 9>"$dir/ready" &
daemon=$!
head -c 1 "$dir/ready" >/dev/null
"$criu" restore -D "$dir/images" -W "$dir" -o restore.log -v4 --lazy-pages -d || echo "restore failed" >>"$dir/failed"
wait "$daemon" || echo "lazy-pages failed with $?" >>"$dir/failed"
touch "$dir/arrived"
exec sleep 1000
