#!/bin/bash
# tests/vm/get_kernel.sh DIR [METAPACKAGE]
# Unpacks Debian's newest stock kernel (6.12 unless told otherwise; not the cloud flavour, which has no 9p) into DIR with
# dpkg -x, never installed. Does nothing when DIR holds one. Ends with 77 when the package cannot be had.
set -euo pipefail
dir=$1 meta=${2:-linux-image-6.12-amd64}
[ ! -e "$dir/.complete" ] || exit 0
skip() { echo "skipped: no $meta: $1"; exit 77; }

command -v apt-get >/dev/null || skip "this is not Debian"
package_of() { apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}' || true; }
# With a deadline: a mirror that does not answer must not use up the test's time.
package=$(package_of)
[ -n "$package" ] || { timeout 120 apt-get update -qq || true; package=$(package_of); }
[ -n "$package" ] || skip "no such package; is bookworm-security among apt's sources?"
rm -rf "$dir" && mkdir -p "$dir" && cd "$dir"
download() { timeout 240 apt-get download -qq -o APT::Sandbox::User=root "$package"; }
# A list that is days old names a version that the mirror has no more.
download || { timeout 120 apt-get update -qq || true; package=$(package_of); download; } || skip "apt-get download $package"
dpkg -x ./*.deb . && rm ./*.deb
depmod -b . "$(ls lib/modules)"
grep -q '^CONFIG_MEM_SOFT_DIRTY=y' boot/config-* || { echo "get_kernel.sh: $package has no soft-dirty bits" >&2; exit 1; }
touch .complete
