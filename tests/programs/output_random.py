"""Writes bytes that the seed decides, NULs and broken UTF-8 among them, in pieces of any size: SEED BYTES."""

import os
import random
import sys


def content(seed: int, size: int) -> bytes:
    """All that it writes: a newline every 256 bytes, on average."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - it has to be the same each time


def main() -> None:
    """Write it."""
    seed, size = map(int, sys.argv[1:])
    rest = memoryview(content(seed, size))
    sizes = random.Random(seed)  # noqa: S311 - the same
    while rest:
        piece = rest[: sizes.choice((1, 10, 100, 1000, 5000, 70_000, 300_000))]
        rest = rest[os.write(1, piece) :]


if __name__ == "__main__":
    main()
