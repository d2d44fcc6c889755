"""Writes so many MiB that never repeat themselves, in writes of changing sizes, and their hash to a file."""

import hashlib
import os
import sys
from pathlib import Path

mebibytes, file = int(sys.argv[1]), sys.argv[2]
block = os.urandom(1 << 20)
whole = hashlib.sha256()
for number in range(mebibytes):
    data = b"%016d\n" % number + block[17:]
    whole.update(data)
    left = memoryview(data)
    size = 1 + (number * 7919) % 200_000
    while left:
        left = left[os.write(1, left[:size]) :]
unfinished = Path(f"{file}.new")
unfinished.write_text(whole.hexdigest())
unfinished.rename(file)
