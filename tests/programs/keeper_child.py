"""A child of the keeper that does what a test tells it: a line of Python at a time, answered with a line.

`keeper_child.py NAME`: connects to the test at $KEEPER_TEST_SOCKET, says NAME and its PID, and then executes.
"""

import faulthandler
import fcntl  # noqa: F401 - for the test
import os
import resource  # noqa: F401 - for the test
import select
import signal  # noqa: F401 - for the test
import socket
import sys
import time
from collections.abc import Callable

from procd.keeper.line import Line, channel_of
from procd.keeper.messages import fields  # noqa: F401 - for the test

faulthandler.enable()
channel = channel_of(os.environ)
if channel is None:
    sys.exit("there is no keeper")
line = Line(channel)
records = {}
refused = []
incomplete = []
synced = []
events = []
signals = []
ended = False


def on_end() -> None:
    """All that is kept was told."""
    global ended  # noqa: PLW0603 - a script's own state
    ended = True


line.on_record = lambda record: records.__setitem__(record.key, (record.value, record.fds))
line.on_end = on_end
line.on_refused = lambda key, reason: refused.append((key, reason))
line.on_incomplete = incomplete.append
line.on_synced = synced.append
line.on_upgraded = lambda: events.append("upgraded")
line.on_lost = lambda: events.append("lost")


def until(true: Callable[[], object]) -> None:
    """Listen to the keeper, and tell it what waits, until something is so."""
    while not true():
        writable = [line] if line.wants == "room" else []
        ready, room, _ = select.select([line], writable, [], 0.05)
        if room or line.wants == "time":
            line.flush()
        if ready:
            line.read()


def recall() -> list[str]:
    """Ask for everything that is kept."""
    global ended  # noqa: PLW0603 - as above
    ended = False
    line.hello()
    until(lambda: ended or line.lost)
    return sorted(records)


def sync() -> None:
    """Wait until the keeper has done what was said."""
    token = str(len(synced)).encode()
    line.sync(token)
    until(lambda: token in synced or line.lost)


def spawn(status: int, delay_s: float = 0.0) -> int:
    """Fork a child that ends like this: an exit code, or minus a signal."""
    pid = os.fork()
    if pid == 0:
        line.close()
        time.sleep(delay_s)
        if status < 0:
            os.kill(os.getpid(), -status)
            time.sleep(60)
        os._exit(status)
    return pid


def main() -> None:
    """Do as the test says, until it is over."""
    test = socket.socket(socket.AF_UNIX)
    test.connect(os.environ["KEEPER_TEST_SOCKET"])
    test.sendall(f"{sys.argv[1]} {os.getpid()}\n".encode())
    lines = test.makefile("r")
    while True:
        ready, _, _ = select.select([test, *([] if line.lost else [line])], [], [])
        if line in ready:
            line.read()
        if test in ready:
            code = lines.readline()
            if not code:
                # The test is over.
                os._exit(0)
            try:
                answer = eval(code, globals())  # noqa: S307 - it comes from the test
            except SyntaxError:
                answer = exec(code, globals())  # noqa: S102 - the same
            except OSError as error:
                answer = error.errno
            test.sendall(f"{answer!r}\n".encode())


main()
