"""Says which of its lives this is when it begins, after which it is ready on descriptor 3, and at SIGTERM.

The argument is the file with the number of the last life.
"""

import os
import signal
import sys
from pathlib import Path


def end(*_: object) -> None:
    """Say the last words."""
    os.write(1, b"life %d ends\n" % number)
    os._exit(0)


file = Path(sys.argv[1])
number = int(file.read_text()) + 1 if file.exists() else 1
file.write_text(str(number))
os.write(1, b"life %d begins\n" % number)
signal.signal(signal.SIGTERM, end)
os.write(3, b"\n")
while True:
    signal.pause()
