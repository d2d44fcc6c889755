"""Writes bytes that the seed decides, NULs and broken UTF-8 among them, in pieces of any size.

Arguments: SEED BYTES [FILE].
The last tenth is not written before there is FILE: until then its pipe has not ended, however fast it is read.
"""

import os
import random
import sys
import time
from pathlib import Path


def content(seed: int, size: int) -> bytes:
    """All that it writes: a newline every 256 bytes, on average."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - it has to be the same each time


def main() -> None:
    """Write it."""
    seed, size = map(int, sys.argv[1:3])
    awaited = [Path(name) for name in sys.argv[3:]]
    rest = memoryview(content(seed, size))
    sizes = random.Random(seed)  # noqa: S311 - the same
    while rest:
        while len(rest) < size / 10 and not all(file.exists() for file in awaited):
            time.sleep(0.001)
        piece = rest[: sizes.choice((1, 10, 100, 1000, 5000, 70_000, 300_000))]
        rest = rest[os.write(1, piece) :]


if __name__ == "__main__":
    main()
