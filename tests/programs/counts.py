"""Writes numbered lines, `0000000000` and on, as fast as it can.

Arguments: how many lines, how many in one write; then, if there is one, a file: as soon as it exists it writes
no more, and the number that would come next to the same name with `.done` behind it; then, if there is one, how
many seconds it pauses after each write.
"""

import os
import sys
import time
from pathlib import Path

lines, together = int(sys.argv[1]), int(sys.argv[2])
stop = sys.argv[3] if len(sys.argv) > 3 else ""
pause_s = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
number = 0
while number < lines and not (stop and Path(stop).exists()):
    end = min(number + together, lines)
    data = b"".join(b"%010d\n" % each for each in range(number, end))
    while data:
        data = data[os.write(1, data) :]
    number = end
    if pause_s:
        time.sleep(pause_s)
if stop:
    unfinished = Path(f"{stop}.new")
    unfinished.write_text(str(number))
    unfinished.rename(f"{stop}.done")
