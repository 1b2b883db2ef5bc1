#!/bin/bash
# Fails when a source file is not as .clang-format wants it.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(find engine tls pageserver lazypages migrate bench tests -name '*.cc' -o -name '*.h')
clang-format --dry-run -Werror "${files[@]}"
