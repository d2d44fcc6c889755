"""A family that keeps its number: each of its members forks another whenever one of its children dies.

Argument: how many members the first one starts with; half of them in sessions of their own.
Prints "ready" when they run.
"""

import os
import signal
import sys


def live(own_session: bool) -> None:
    """Replace every child that dies."""
    if own_session:
        os.setsid()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()
        else:
            beget(own_session)


def beget(own_session: bool) -> None:
    """Fork one member more."""
    if os.fork() == 0:
        live(own_session)


for number in range(int(sys.argv[1])):
    if os.fork() == 0:
        beget(False)
        live(number % 2 == 0)
print("ready", flush=True)
live(False)
