#!/usr/bin/env python3
"""check_skips.py BUILD ALLOWED: lists the tests that the last ctest run skipped, and fails on one that is not allowed.

ALLOWED holds one test name a line, with the reason behind a '#'."""
import pathlib
import re
import sys


def main():
    log = (pathlib.Path(sys.argv[1]) / "ctest.log").read_text(errors="replace")
    allowed = {line.split("#")[0].strip() for line in pathlib.Path(sys.argv[2]).read_text().splitlines()} - {""}
    skipped = re.findall(r"Test +#\d+: (\S+) \.+\*{3}Skipped", log)
    for name in skipped:
        print(f"skipped: {name}{'' if name in allowed else '  (not in the list of allowed skips)'}")
    sys.exit(any(name not in allowed for name in skipped))


main()
