"""The read end of a pipe that a program writes to."""

from __future__ import annotations

import array
import fcntl
import os
import termios

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from procd.output.logger.log import Log

#: What a pipe of a busy program is enlarged to: the most that an ordinary user may have
#: (/proc/sys/fs/pipe-max-size).
LARGE_BYTES = 1 << 20


def unread_bytes(fd: int) -> int:
    """How many bytes are in a pipe (FIONREAD, pipe(7))."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def enlarge(fd: int) -> int:
    """Let a pipe hold as much as it may; returns how much that is."""
    try:
        return fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, LARGE_BYTES)
    except OSError:
        # EPERM: this user has many large pipes already, or the system allows none.
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


class Pipe:
    """A pipe of a log, with what `pace` remembers about it."""

    __slots__ = (
        "capacity",
        "fd",
        "heat",
        "is_large",
        "last",
        "leaving",
        "log",
        "number",
        "pace",
        "pid",
        "tells",
    )

    def __init__(self, log: Log, fd: int, number: int, pid: int, *, tells: bool) -> None:
        self.log = log
        self.fd = fd
        self.number = number
        self.pid = pid
        #: The daemon wants to know before which offset nothing of this will stand.
        self.tells = tells
        #: It is closed as soon as what is in it was moved.
        self.leaving = False
        #: How it is looked after: one of the words of `pace`.
        self.pace = 0
        #: Times in a row that it was ready again at once.
        self.heat = 0
        #: When it last had something.
        self.last = 0.0
        #: How much it can hold, and whether it is one of those that were enlarged.
        self.capacity = 1
        self.is_large = False

    @property
    def unread(self) -> int:
        """How many bytes are in it."""
        return unread_bytes(self.fd)

    def ready(self) -> None:
        """There is something in it, or nobody can write to it any more."""
        self.log.pace.ready(self)

    def close(self) -> None:
        """Give it back."""
        os.close(self.fd)
