#!/bin/bash
# migrate/demo.sh [--no-build] [--keys N] [--mode precopy|postcopy]
# Moves a busy redis-server live from one "host" to another, shows it, and checks what came of it. The hosts are network,
# pid and mount namespaces joined by veth pairs and a bridge; the file system is shared. Everything happens inside
# namespaces that this script makes and that end with it, so nothing is left behind, however it ends.
# Exit status: 0 when every check holds. Debian 12, root.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build}
keys=100000 mode=precopy do_build=1 inside=
arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --no-build) do_build= ;;
    --keys) keys=$2; shift ;;
    --mode) mode=$2; shift ;;
    --inside) inside=$2; shift ;;
    *) echo "demo.sh: unknown argument $1" >&2; exit 2 ;;
  esac
  shift
done

say() { printf '\n== %s\n' "$*"; }

# ---- Outside: build, then the laboratory in namespaces of its own, whose pid namespace takes all with it.
if [ -z "$inside" ]; then
  [ "$(id -u)" = 0 ] || { echo "demo.sh: run it as root" >&2; exit 1; }
  if [ -n "$do_build" ]; then
    say "building"
    "$root/.ci/deps.sh"
    generator=()
    [ -f "$build/CMakeCache.txt" ] || generator=(-G Ninja)
    cmake -S "$root" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release >/dev/null
    cmake --build "$build" -j2 --target migrate_program
  fi
  [ -x "$build/migrate" ] || { echo "demo.sh: no $build/migrate: run without --no-build" >&2; exit 1; }
  work=$(mktemp -d /tmp/godwit-demo-XXXXXX)
  lab=
  clean_up() {
    [ -z "$lab" ] || { kill -KILL "$lab" 2>/dev/null || true; wait "$lab" 2>/dev/null || true; }
    rm -rf "$work"
  }
  trap clean_up EXIT
  trap 'exit 130' INT TERM
  # In the background, so that a signal is handled at once; it still writes to our terminal.
  unshare --mount --net --pid --fork --kill-child --mount-proc -- \
    bash "$root/migrate/demo.sh" "${arguments[@]}" --inside "$work" &
  lab=$!
  status=0
  wait "$lab" || status=$?
  lab=
  exit "$status"
fi

# ---- Inside: pid 1 of the laboratory. Its network namespace is where the clients live.
# Descriptors that whoever started us left open must not become redis-server's: their other ends stay outside.
for fd in /proc/self/fd/*; do
  fd=${fd##*/}
  [ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
done
work=$inside
migrate=$build/migrate
python=/usr/bin/python3  # Debian's: others may start through slow wrappers
[ -x $python ] || python=$(command -v python3)
service=10.77.0.10
mkdir -p "$work"/{a,b,pki}
# Both networks by name, before the hosts' mount namespaces are copied from ours.
mount -t tmpfs demo /mnt && mkdir /mnt/net && touch /mnt/net/a /mnt/net/b
unshare --net=/mnt/net/a true
unshare --net=/mnt/net/b true

make_certificates() {
  cd "$work/pki"
  certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile ca.key
  printf 'cn = "demo authority"\nca\ncert_signing_key\nexpiration_days = 2\n' >ca.cfg
  certtool --generate-self-signed --load-privkey ca.key --template ca.cfg --outfile ca.pem
  for host in a b; do
    certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile $host.key
    printf 'cn = "host-%s"\nip_address = "10.77.0.%s"\nsigning_key\ntls_www_server\ntls_www_client\nexpiration_days = 2\n' \
      $host "$([ $host = a ] && echo 2 || echo 3)" >$host.cfg
    certtool --generate-certificate --load-privkey $host.key --load-ca-certificate ca.pem --load-ca-privkey ca.key \
      --template $host.cfg --outfile $host.pem
  done
  cd - >/dev/null
}

# A host: further namespaces, with a first process that reaps orphans. Prints nothing; its pid (here) goes to $work/HOST/init.
start_host() {
  local host=$1 address=$2
  nsenter --net=/mnt/net/"$host" unshare --mount --pid --fork --kill-child --mount-proc -- \
    bash -c 'while :; do sleep 3600 & wait $!; done' </dev/null >/dev/null 2>&1 &
  local outer=$! init=
  for _ in $(seq 200); do
    init=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null | tr -d ' ') || true
    # The namespaces are complete once the first program runs in them.
    [ -n "$init" ] && [ "$(cat "/proc/$init/comm" 2>/dev/null)" = bash ] && pgrep -P "$init" >/dev/null && break
    sleep 0.02
  done
  echo "$init" >"$work/$host/init"
  ip link add "to-$host" type veth peer name eth0 netns "$init"
  ip link set "to-$host" master bridge0 up
  on "$host" ip link set lo up
  on "$host" ip address add "$address/24" dev eth0
  on "$host" ip link set eth0 up
}
on() {
  local host=$1
  shift
  nsenter --target "$(cat "$work/$host/init")" --mount --net --pid -- "$@"
}

say "certificates and two hosts: A 10.77.0.2, B 10.77.0.3, the service at $service"
make_certificates >"$work/certtool.log" 2>&1 || { cat "$work/certtool.log" >&2; exit 1; }
ip link set lo up
ip link add bridge0 type bridge forward_delay 0
ip address add 10.77.0.1/24 dev bridge0
ip link set bridge0 up
start_host a 10.77.0.2
start_host b 10.77.0.3
on a ip address add $service/24 dev eth0
# Far apart: the numbers of A's redis-server must be free on B.
on a sh -c 'echo 20000 >/proc/sys/kernel/ns_last_pid'

# Tells the neighbours where the service is now (gratuitous ARP), from the standard library only.
cat >"$work/announce.py" <<'PYTHON'
import socket, sys
address, interface = socket.inet_aton(sys.argv[1]), sys.argv[2]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
s.bind((interface, 0x0806))
mac = s.getsockname()[4]
arp = b"\0\1\x08\0\6\4\0\1" + mac + address + b"\xff" * 6 + address
s.send(b"\xff" * 6 + mac + b"\x08\x06" + arp)
PYTHON
# The operator's hook of `migrate run`: runs on A, and reaches B's network by its namespace's name.
cat >"$work/move-address" <<HOOK
#!/bin/sh
set -e
ip address del $service/24 dev eth0
nsenter --net=/mnt/net/b ip address add $service/24 dev eth0
nsenter --net=/mnt/net/b $python $work/announce.py $service eth0
HOOK
chmod +x "$work/move-address"

# Writes sequence numbers, each acknowledged before the next, and reconnects. RESP by hand: no client library.
cat >"$work/writer.py" <<'PYTHON'
import os, signal, socket, sys, time
host, log = sys.argv[1], open(sys.argv[2], "w")
stopping = False
def stop(*_):
    global stopping
    stopping = True
signal.signal(signal.SIGTERM, stop)
def connect():
    while not stopping:
        try:
            s = socket.create_connection((host, 6379), timeout=0.2)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return s
        except OSError:
            time.sleep(0.002)
def write(s, number):
    key, value = b"w:%d" % (number % 5000), b"%d" % number
    s.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))
    answer = b""
    while not answer.endswith(b"\r\n"):
        piece = s.recv(64)
        if not piece:
            raise OSError("closed")
        answer += piece
    if answer != b"+OK\r\n":
        raise OSError(answer)
s, number, reconnects, longest = connect(), 0, 0, 0.0
start = last = time.monotonic()
while not stopping:
    try:
        write(s, number + 1)
    except OSError:
        s.close()
        s = connect()
        reconnects += 1
        continue
    number += 1
    now = time.monotonic()
    if now - last > longest:
        longest = now - last
    last = now
    log.write("%d\n" % number)  # acknowledged
    if number % 100 == 0:
        log.flush()
    time.sleep(0.0003)
log.close()
seconds = time.monotonic() - start
with open(sys.argv[2] + ".summary", "w") as f:
    f.write("writes=%d\nper_second=%d\nreconnects=%d\nlongest_stall_ms=%d\n" %
            (number, number / seconds, reconnects, longest * 1000))
PYTHON

say "redis-server with $keys keys on A, the agent on B"
on a sh -c "cd $work/a && exec setsid redis-server --bind 0.0.0.0 --protected-mode no --save '' --appendonly no --enable-debug-command yes \
  --daemonize no --dir $work/a --logfile $work/a/redis.log" </dev/null >/dev/null 2>&1 &
for _ in $(seq 100); do redis-cli -h $service ping >/dev/null 2>&1 && break; sleep 0.05; done
redis-cli -h $service debug populate "$keys" key 100 >/dev/null
[ "$(redis-cli -h $service dbsize)" = "$keys" ] || { echo "demo.sh: redis-server does not hold the keys" >&2; exit 1; }
redis_pid=$(redis-cli -h $service info server | tr -d '\r' | sed -n 's/^process_id://p')

tls() { echo --tls-cacert "$work/pki/ca.pem" --tls-cert "$work/pki/$1.pem" --tls-key "$work/pki/$1.key"; }
mkfifo "$work/ready"
on b sh -c "exec setsid $migrate agent --listen 10.77.0.3:27185 --allow host-a --work-dir $work/b/agent -v 3 \
  --pidfile $work/b/agent.pid --status-fd 5 $(tls b) 5>$work/ready" </dev/null >/dev/null 2>"$work/b/agent.log" &
head -c 1 "$work/ready" >/dev/null || true
[ -s "$work/b/agent.pid" ] || { cat "$work/b/agent.log" >&2; exit 1; }
agent_pid=$(cat "$work/b/agent.pid")
echo "redis-server is pid $redis_pid on A, the agent is pid $agent_pid on B"

"$python" "$work/writer.py" $service "$work/writer.log" </dev/null &
writer=$!
sleep 2

say "migrate run"
moved=0
# shellcheck disable=SC2046
on a "$migrate" run --tree "$redis_pid" --to 10.77.0.3 --mode "$mode" --tcp-close --json --work-dir "$work/a/moves" \
  --post-commit "$work/move-address" $(tls a) >"$work/report.json" </dev/null || moved=$?
if [ $moved != 0 ]; then
  echo "demo.sh: migrate run ended with $moved; the agent says:" >&2
  cat "$work/b/agent.log" >&2
  exit 1
fi
sleep 2
kill "$writer"
wait "$writer" || true

say "what came of it"
failures=0
verdict() {  # CONDITION TEXT
  if eval "$1"; then echo "  ok    $2"; else echo "  FAIL  $2"; failures=$((failures + 1)); fi
}
. "$work/writer.log.summary"
echo "  the writer: $writes acknowledged writes, $per_second a second, $reconnects reconnects"
echo "  its longest stall: $longest_stall_ms ms"
verdict "[ $per_second -ge 1000 ]" "at least 1000 acknowledged writes a second"

# Every key holds the last number acknowledged for it, or a later one that was written but not acknowledged.
lost=$("$python" - $service "$work/writer.log" <<'PYTHON'
import socket, sys
last = {}
for line in open(sys.argv[2]):
    number = int(line)
    last[number % 5000] = number
s = socket.create_connection((sys.argv[1], 6379), timeout=10)
reader = s.makefile("rb")
lost = 0
for key, number in last.items():
    s.sendall(b"GET w:%d\r\n" % key)
    length = int(reader.readline()[1:])
    value = int(reader.read(length + 2)) if length >= 0 else -1
    lost += value < number
print(lost)
PYTHON
)
verdict "[ '$lost' = 0 ]" "every acknowledged write is there ($lost lost)"
verdict "[ \$(redis-cli -h $service exists key:0 key:$((keys / 2)) key:$((keys - 1))) = 3 ]" "the $keys keys are there"

field() { "$python" -c 'import json,sys; r=json.load(open(sys.argv[1])); print(eval(sys.argv[2], {"r": r, "round": round}))' "$work/report.json" "$1"; }
if [ "$mode" = precopy ]; then
  shipped=$(field "r['final']['shipped_pages']") dirty=$(field "r['final']['dirty_pages']")
  verdict "[ $((2 * shipped)) -le $((3 * dirty)) ]" "the last round shipped $shipped pages, the dirty set was $dirty"
fi
# Both in B's numbers: up from the restored redis-server to the agent.
ancestor=$(on b sh -c "p=$redis_pid; while [ \$p -gt 1 ] && [ \$p != $agent_pid ]; do p=\$(sed 's/.*) . //; s/ .*//' /proc/\$p/stat); done; echo \$p") || true
verdict "[ '$ancestor' = '$agent_pid' ]" "the restored redis-server (pid $redis_pid) descends from B's agent (pid $agent_pid)"
verdict "! on a test -e /proc/$redis_pid" "A's copy is gone"
verdict "[ \$(redis-cli -h $service info server | tr -d '\r' | sed -n 's/^process_id://p') = $redis_pid ]" "the one that answers has the old pid"
echo "  downtime $(field "round(r['downtime_seconds'] * 1e3, 1)") ms, total $(field "round(r['total_seconds'], 2)") s," \
  "$(field "round(r['bytes_on_wire'] / 2**20, 1)") MiB on the wire, $(field "len(r['rounds'])") rounds"
[ $failures = 0 ] && say "the move succeeded" || say "$failures checks failed"
exit $((failures > 0))
