#!/usr/bin/env python3
"""Answer each line of standard input in upper case; at its end, say how much there was and its hash."""

import hashlib
import sys


def main() -> None:
    """Read until standard input ends."""
    digest = hashlib.sha256()
    size = 0
    for line in sys.stdin.buffer:
        digest.update(line)
        size += len(line)
        sys.stdout.buffer.write(line.upper())
        sys.stdout.buffer.flush()
    print(f"{size} bytes, sha256 {digest.hexdigest()}")  # noqa: T201 - it is what this program is for


if __name__ == "__main__":
    main()
