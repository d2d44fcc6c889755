"""Leaves orphans behind that end at once, a hundred at a time: as many as each line on stdin says.

Prints the number when the last of them has been left.
"""

import os
import sys


def leave(count: int) -> None:
    """Fork a child that forks `count` others and ends, before them or after."""
    child = os.fork()
    if child == 0:
        for _ in range(count):
            if os.fork() == 0:
                os._exit(7)
        os._exit(0)
    os.waitpid(child, 0)


for line in sys.stdin:
    for _ in range(int(line) // 100):
        leave(100)
    print(int(line), flush=True)
