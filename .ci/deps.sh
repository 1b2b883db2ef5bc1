#!/bin/bash
# Installs what building, testing and the demo need on Debian 12, as root. Nothing is fetched when all is there.
set -euo pipefail

packages=(
  # build
  g++ cmake make ninja-build pkg-config libboost1.81-dev libgnutls28-dev libprotobuf-dev protobuf-compiler liburing-dev
  libnl-3-dev doctest-dev libfmt-dev libspdlog-dev nlohmann-json3-dev
  # tests, benchmarks and the demo
  python3 gnutls-bin iproute2 util-linux procps redis-server redis-tools clang-format
  # tests under Debian's kernel
  qemu-system-x86 busybox-static cpio kmod xz-utils
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || { echo "deps.sh: missing: ${missing[*]}; run as root to install them" >&2; exit 1; }

echo "deps.sh: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# A package's service must not start on the machine that only tests with its programs. A policy that stands is kept.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
