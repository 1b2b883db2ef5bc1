#!/bin/bash
# tests/vm/two_vms.sh BUILD: the ctest test vm.two_vms, see README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "$1")
"$here/get_kernel.sh" "$build/vm/kernel"

# The VMs only read what this machine has when they start.
keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT
make_key() { certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile "$keys/$1.key"; }
certificates() {
  make_key ca
  printf 'cn = "two VMs"\nca\ncert_signing_key\nexpiration_days = 2\n' >"$keys/ca.cfg"
  certtool --generate-self-signed --load-privkey "$keys/ca.key" --template "$keys/ca.cfg" --outfile "$keys/ca.pem"
  for host in a:1 b:2; do
    local name=${host%:*}
    make_key "$name"
    printf 'cn = "vm-%s"\nip_address = "10.0.2.%s"\nsigning_key\ntls_www_server\ntls_www_client\nexpiration_days = 2\n' \
      "$name" "${host#*:}" >"$keys/$name.cfg"
    certtool --generate-certificate --load-privkey "$keys/$name.key" --load-ca-certificate "$keys/ca.pem" \
      --load-ca-privkey "$keys/ca.key" --template "$keys/$name.cfg" --outfile "$keys/$name.pem"
  done
}
certificates >"$keys/log" 2>&1 || { cat "$keys/log" >&2; exit 1; }
"$here/run_two_vms.sh" -k "$build/vm/kernel" -t 400 "$here/inside_two_vms.sh" "$build" "$keys"
