#!/bin/sh
# destination.sh CRIU IMAGES WORK PORT: the far side of a post-copy move, as the first process of a pid namespace. It
# leaves the moments (ns) at which the restore began and ended and the last page had come in WORK/moments, and stays.
criu=$1 images=$2 work=$3 port=$4
mkfifo "$work/ready"
"$criu" lazy-pages -D "$images" -W "$work" -o lazy-pages.log --page-server --address 127.0.0.1 --port "$port" \
  --status-fd 9 9>"$work/ready" &
daemon=$!
head -c 1 "$work/ready" >/dev/null
started=$(date +%s%N)
"$criu" restore -D "$images" -W "$work" -o restore.log --lazy-pages -d || echo "the restore failed" >"$work/failed"
restored=$(date +%s%N)
wait "$daemon" || echo "lazy-pages failed" >"$work/failed"
echo "$started $restored $(date +%s%N)" >"$work/moments.new"
mv "$work/moments.new" "$work/moments"
exec sleep 1000
