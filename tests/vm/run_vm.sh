#!/bin/bash
# tests/vm/run_vm.sh [-k KDIR] [-m MIB] [-c CPUS] [-t SECONDS] [-o OUTDIR] [-i ADDRESS/LEN] [-q 'QEMU ARGS'] PROGRAM [ARGS]
# Boots the kernel that get_kernel.sh unpacked into KDIR, without KVM, and runs PROGRAM in it as root. The VM's files are
# this machine's own at the same paths, seen through 9p and an overlay that forgets all writes; OUTDIR alone is shared for
# writing, as /out. -i gives eth0 its address. Ends with PROGRAM's status, or with 125 when the VM never told one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kdir=$here/../../build/vm/kernel memory=1024 cpus=1 limit=300 out='' extra='' address=''
while getopts k:m:c:t:o:q:i: option; do
  case $option in
    k) kdir=$OPTARG ;; m) memory=$OPTARG ;; c) cpus=$OPTARG ;; t) limit=$OPTARG ;;
    o) out=$OPTARG ;; q) extra=$OPTARG ;; i) address=$OPTARG ;; *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { echo "run_vm.sh: no PROGRAM given" >&2; exit 2; }
[ -d "$kdir/lib/modules" ] || { echo "run_vm.sh: no kernel in $kdir: run get_kernel.sh $kdir" >&2; exit 2; }
kdir=$(realpath "$kdir")
work=$(mktemp -d)
vm='' filter=''
# shellcheck disable=SC2086,SC2317  # called by the trap; numbers, or nothing
clean() {
  [ -z "$vm" ] || kill "$vm" 2>/dev/null || true
  wait $vm $filter 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 143' TERM INT

# Modules that the first program needs to reach the share, in loading order. All others load on demand later.
version=$(ls "$kdir/lib/modules")
mkdir -p "$work/initrd/bin" "$work/initrd/modules" && cp /bin/busybox "$work/initrd/bin/"
number=10
for module in 9pnet_virtio 9p overlay virtio_net; do
  modprobe -d "$kdir" -S "$version" --show-depends "$module" | awk '{print $2}'
done | awk '!seen[$0]++' | while read -r file; do
  target=$work/initrd/modules/$number-$(basename "${file%.xz}")
  case $file in *.xz) xz -dc "$file" >"$target" ;; *) cp "$file" "$target" ;; esac
  number=$((number + 1))
done

# xino=on: without it stat() and /proc/PID/maps name different devices for one file.
cat >"$work/initrd/init" <<EOF
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /low /rw /root
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for module in /modules/*; do insmod \$module || echo "init: insmod \$module failed"; done
share=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o ro,cache=loose,\$share host /low || poweroff -f
mount -t tmpfs -o size=90% rw /rw; mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/low,upperdir=/rw/upper,workdir=/rw/work,xino=on root /root || poweroff -f
cd /root; mkdir -p proc sys dev run tmp out lib/modules/$version
mount --move /proc proc; mount --move /sys sys; mount --move /dev dev
mount -t tmpfs run run
mount -o bind /low$kdir/lib/modules/$version lib/modules/$version
mkdir -p dev/pts dev/shm
mount -t devpts -o ptmxmode=666 pts dev/pts; mount -t tmpfs shm dev/shm; mount -t cgroup2 cgroup sys/fs/cgroup
[ -z "$out" ] || mount -t 9p -o access=any,\$share out out
ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
ip link set lo up; hostname vm
[ -z "$address" ] || { ip link set eth0 up; ip address add $address dev eth0; }
cp /start /bin/busybox run
exec switch_root /root /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
  TERM=dumb /bin/bash /run/start <dev/null >dev/console 2>&1
EOF
cat >"$work/initrd/start" <<EOF
cd $(printf %q "$PWD") && setsid -w $(printf '%q ' "$@")
echo \$? >/dev/ttyS1
sync; exec /run/busybox poweroff -f
EOF
chmod +x "$work/initrd/init"
(cd "$work/initrd" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"

[ -z "$out" ] || extra+=" -virtfs local,path=$(realpath "$out"),mount_tag=out,security_model=none"
mkfifo "$work/console"
sed -u -e 's/\r$//' -e '/^\[ *[0-9.]*\] reboot: /d' <"$work/console" & filter=$!
# shellcheck disable=SC2086  # extra is a list of words
timeout "$limit" qemu-system-x86_64 -accel tcg -cpu max -machine q35 -smp "$cpus" -m "$memory" \
  -nodefaults -no-user-config -display none -no-reboot -serial stdio -serial "file:$work/status" \
  -device virtio-rng-pci -kernel "$kdir"/boot/vmlinuz-* -initrd "$work/initrd.gz" \
  -append "console=ttyS0 quiet panic=-1 tsc=reliable" \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap $extra \
  </dev/null >"$work/console" & vm=$!
ended=0; wait $vm || ended=$?
wait $filter || true
[ $ended != 124 ] || echo "run_vm.sh: no answer in $limit s" >&2
status=$(tr -dc 0-9 <"$work/status" 2>/dev/null || true)
exit "${status:-125}"
