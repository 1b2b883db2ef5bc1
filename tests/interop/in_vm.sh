#!/bin/bash
# tests/interop/in_vm.sh BUILD [DOCTEST ARGUMENTS]: the ctest test interop.stock, see README.md.
set -euo pipefail
vm=$(cd "$(dirname "$0")/../vm" && pwd)
build=$(realpath "$1")
shift
"$vm/get_kernel.sh" "$build/vm/kernel"
"$vm/../interop/get_stock.sh" "$build/vm/stock"
exec "$vm/run_vm.sh" -k "$build/vm/kernel" -t 500 "$build/interop_tests" --no-colors=true -d=true "$@"
