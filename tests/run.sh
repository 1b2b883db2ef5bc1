#!/bin/bash
# tests/run.sh [--full] [--quick] [CTEST ARGUMENTS]
# Installs what is missing (Debian 12, root), builds and runs all tests. --full: the long counts of the kill tests;
# --quick: unit and kernel tests only. The last lines are ctest's, with every skipped test and why.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD build=${BUILD_DIR:-$PWD/build}

arguments=()
for argument in "$@"; do
  case $argument in
    --full) export GODWIT_FULL=1 ;;
    --quick) arguments+=(-L 'unit|kernel') ;;
    *) arguments+=("$argument") ;;
  esac
done

.ci/deps.sh
tests/check_format.sh
generator=()
[ -f "$build/CMakeCache.txt" ] || generator=(-G Ninja)
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE="${BUILD_TYPE:-Release}" >/dev/null
cmake --build "$build" -j2
cd "$build"
status=0
ctest --output-on-failure "${arguments[@]}" -O ctest.log || status=$?
python3 "$root/tests/check_skips.py" "$build" "$root/tests/allowed_skips.txt" || status=1
exit $status
