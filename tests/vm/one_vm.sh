#!/bin/bash
# tests/vm/one_vm.sh BUILD: the ctest test vm.one_vm, see README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "$1")
"$here/get_kernel.sh" "$build/vm/kernel"
exec "$here/run_vm.sh" -k "$build/vm/kernel" -t 500 "$here/inside_one_vm.sh" "$build"
