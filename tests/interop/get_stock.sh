#!/bin/bash
# tests/interop/get_stock.sh DIR
# Unpacks Debian's criu 3.17.1 and the libraries that only it needs into DIR with dpkg -x: nothing is installed. DIR/criu
# runs it. Does nothing when DIR holds it. Ends with 77 when a package cannot be had.
set -euo pipefail
dir=$1
[ ! -e "$dir/.complete" ] || exit 0
packages=(criu libbsd0 libmd0 libnet1 libnftables1 libnftnl11 libjansson4 libxtables12 libedit2 libmnl0 libnl-3-200
  libprotobuf-c1 python3-protobuf)
rm -rf "$dir" && mkdir -p "$dir" && cd "$dir"
download() { timeout 240 apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}"; }
download || { timeout 120 apt-get update -qq || true; download; } ||
  { echo "skipped: Debian's criu cannot be had: apt-get download ${packages[*]}"; exit 77; }
for package in ./*.deb; do dpkg -x "$package" . && rm "$package"; done
cat >criu <<EOF
#!/bin/sh
LD_LIBRARY_PATH=$PWD/usr/lib/x86_64-linux-gnu:$PWD/lib/x86_64-linux-gnu exec $PWD/usr/sbin/criu "\$@"
EOF
chmod +x criu
touch .complete
