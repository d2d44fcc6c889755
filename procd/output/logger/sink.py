"""A log that is no file: a fifo, a terminal, a device, or the standard output of the daemon.

It may let one wait, and it holds nothing: it is not rotated, and nothing can be taken back from it.  So with
formats, and where splice(2) is refused, a logger that is killed may say a few lines twice, or lose those that
the other side would not take yet (`BATCH_BYTES` at most).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import time

from procd.output.logger.file import NO_SPLICE
from procd.output.logger.formats import Format, whole
from procd.output.logger.pipe import unread_bytes

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from procd.output.logger.pipe import Pipe
    from procd.output.logger.spec import Spec
    from procd.output.logger.world import World

#: Bytes that are read at a time.
BATCH_BYTES = 1 << 14
#: What can be written to a terminal or a pipe that is ready without waiting, where it may not be made
#: non-blocking. A pipe takes PIPE_BUF then (pipe(7)), a terminal less.
_CAREFUL_BYTES = 256
#: Descriptors of the daemon, which are ours as well.
_OWN = {
    "/dev/stdout": 1,
    "/dev/fd/1": 1,
    "/proc/self/fd/1": 1,
    "/dev/stderr": 2,
    "/dev/fd/2": 2,
    "/proc/self/fd/2": 2,
}

_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FullError(Exception):
    """It takes no more until its descriptor is writable."""


def is_sink(path: str) -> bool:
    """Whether there is something at this path that is not a file, or may not be taken for one."""
    if path in _OWN or path.startswith("/proc/"):
        return True
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _open(path: str) -> int:
    """Open the path, or our own descriptor that it names.  Raises OSError (ENXIO: nobody reads the fifo)."""
    number = _OWN.get(path)
    if number is None:
        # Below /proc there are links only, and only those that the kernel makes.
        follows = path.startswith("/proc/")
        return os.open(path, _FLAGS | (os.O_APPEND if follows else os.O_NOFOLLOW))
    mode = os.fstat(number).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        # The descriptor is shared with the daemon, and O_NONBLOCK would be too: a new one of the same thing.
        with contextlib.suppress(OSError):  # EACCES: it belongs to another user
            return os.open(f"/proc/self/fd/{number}", _FLAGS)
    return os.dup(number)


class Sink:
    """Something that takes bytes at its own pace."""

    __slots__ = (
        "_continued",
        "_fd",
        "_format",
        "_pid",
        "_rest",
        "_slot",
        "_socket",
        "_world",
        "due",
        "splices",
    )

    #: There is no first byte that could become old, and nothing to cut.
    since = None
    size = 0

    def __init__(self, world: World, slot: int, spec: Spec) -> None:
        """Open it.  Raises OSError."""
        self._world = world
        self._slot = slot
        self._format = Format(spec)
        self.due = False
        self._continued = False
        self._pid = 0
        #: What was taken out of a pipe, and could not be written yet.
        self._rest = b""
        self._fd = _open(spec.path)
        is_socket = stat.S_ISSOCK(os.fstat(self._fd).st_mode)
        #: Written to without waiting by a flag of the call.
        self._socket = socket.socket(fileno=os.dup(self._fd)) if is_socket else None
        self.splices = self._format.is_raw and not is_socket and not os.get_blocking(self._fd)
        self._advance(0)
        turns = world.turns
        if turns.slot_left == slot and turns.left is not None:
            pid, data = turns.left.pid, turns.left.data
            self._rest = self._text(data, pid)
            turns.redone()

    def _advance(self, count: int) -> None:
        """Nothing that was written stands anywhere: the log begins where it ends."""
        end = self._world.board.end(self._slot) + count
        self._world.board.set_extent(self._slot, end, end)

    @property
    def waits_for(self) -> int:
        """The descriptor that has to become writable before it takes more."""
        return self._fd

    def take(self, pipe: Pipe, at_most: int) -> int:
        """Move bytes from a pipe; returns how many, 0 at the end of the pipe.

        Raises BlockingIOError when the pipe is empty, FullError, and OSError when nobody is at the other side.
        """
        self.flush()
        if self.splices:
            moved = self._splice(pipe.fd, at_most)
            if moved is not None:
                return moved
        data = self._world.stash.peek(pipe.fd, min(at_most, BATCH_BYTES))
        if not data:
            return 0
        if self._continued and self._pid not in {0, pipe.pid}:
            self._rest = self._format.line_end
            self._continued = False
        if not self._format.is_raw:
            data = data[: whole(data)]
        self._rest += self._text(data, pipe.pid)
        self._world.turns.take(self._slot, pipe.fd, pipe.pid, len(data))
        with contextlib.suppress(FullError):
            self.flush()
        return len(data)

    def _splice(self, pipe: int, at_most: int) -> int | None:
        """Move bytes without a look at them; None where that is not possible."""
        try:
            moved = os.splice(pipe, self._fd, at_most, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            if unread_bytes(pipe):
                raise FullError from None
            raise
        except OSError as error:
            if error.errno not in NO_SPLICE:
                raise
            self.splices = False
            return None
        self._world.board.count(self._slot, taken=moved)
        self._advance(moved)
        return moved

    def _text(self, data: bytes, pid: int) -> bytes:
        text = self._format.lines(data, time.time(), pid, continued=self._continued)
        self._continued = not self._format.is_raw and not data.endswith(b"\n")
        self._pid = pid
        return text

    def flush(self) -> None:
        """Write what was kept.  Raises FullError, and OSError."""
        while self._rest:
            try:
                written = self._write(self._rest)
            except BlockingIOError:
                raise FullError from None
            self._rest = self._rest[written:]
            self._advance(written)

    def _write(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if os.get_blocking(self._fd) and not stat.S_ISREG(os.fstat(self._fd).st_mode):
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            if not poll.poll(0):
                raise BlockingIOError(errno.EAGAIN, "not ready")
            data = data[:_CAREFUL_BYTES]
        return os.write(self._fd, data)

    def end_line(self, pid: int) -> None:
        """Who wrote this is gone: end its line, if the format has ends."""
        if self._continued and self._pid in {0, pid}:
            self._rest += self._format.line_end
            self._continued = False
            self.flush()

    def write(self, lines: bytes) -> None:
        """Write whole lines that come from no pipe.  Raises OSError."""
        self.flush()
        self._rest = self._format.lines(lines, time.time(), 0, continued=False)
        with contextlib.suppress(FullError):
            self.flush()

    def remark(self, text: str, *, marks: bool = False) -> None:
        """Write a line of our own; `marks` says that it tells of all that was dropped.  Raises OSError."""
        self.flush()
        self._rest = self._format.remark(text, time.time())
        if marks:
            self._world.board.mark(self._slot)
        with contextlib.suppress(FullError):
            self.flush()

    def rotate(self) -> None:
        """Refuse."""
        raise OSError(errno.ENOTSUP, "not a file")

    def close(self) -> None:
        """Let go of it."""
        with contextlib.suppress(FullError, OSError):
            self.flush()
        if self._socket is not None:
            self._socket.close()
        os.close(self._fd)
