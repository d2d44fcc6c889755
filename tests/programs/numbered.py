"""Writes numbered lines of 64 bytes in pieces of any size, then waits: LINES [BYTES_A_SECOND [SIGNAL]].

With a signal it says `ready`, and begins when it gets it.
"""

import os
import random
import signal
import sys
import time


def content(lines: int) -> bytes:
    """All that it writes."""
    return b"".join(b"%08d %s\n" % (number, b"." * 54) for number in range(lines))


def main() -> None:
    """Write it."""
    lines = int(sys.argv[1])
    rate = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if len(sys.argv) > 3:
        begin = signal.Signals[sys.argv[3]]
        signal.pthread_sigmask(signal.SIG_BLOCK, [begin])
        os.write(1, b"ready\n")
        signal.sigwait([begin])
    rest = memoryview(content(lines))
    sizes = random.Random(lines)  # noqa: S311 - the same each time
    while rest:
        piece = rest[: sizes.choice((1, 10, 100, 1000, 5000, 70_000))]
        rest = rest[os.write(1, piece) :]
        if rate:
            time.sleep(len(piece) / rate)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
