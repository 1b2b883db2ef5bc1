#!/usr/bin/env python3
"""Fails when a file includes a header of a folder that layers.txt does not put below it."""
import pathlib
import re
import sys


def read_layers(root):
    """{folder: every folder it may include from}; refuses a line that names a folder not yet listed."""
    allowed = {}
    for line in (root / "layers.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        folder, *direct = line.split()
        allowed[folder] = {folder}
        for name in direct:
            if name not in allowed:
                sys.exit(f"layers.txt: {folder} names {name}, which does not stand above it")
            allowed[folder] |= allowed[name]
    return allowed


def main():
    root = pathlib.Path(sys.argv[1])
    allowed = read_layers(root)
    wrong = []
    for folder, may in allowed.items():
        for path in sorted((root / folder).glob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = re.match(r'\s*#include "([^"]+)/[^/"]+"', line)
                if match and not match[1].startswith("proto/") and match[1] not in may:
                    wrong.append(f"{path.relative_to(root)}:{number}: {folder} must not include from {match[1]}")
    print("\n".join(wrong) or f"{len(allowed)} folders keep the order of layers.txt")
    sys.exit(bool(wrong))


main()
