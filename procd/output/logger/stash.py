"""The stash: a pipe whose both ends the daemon holds too, for bytes that have left their program's pipe.

What a pipe holds can be looked at without taking it (tee(2)).  So bytes that have to be read are looked at,
written, moved from their pipe into the stash, and thrown away there after the board says that they are
written: a logger that is killed in between leaves them to the next one, whole.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

from procd.output.logger.pipe import enlarge, unread_bytes

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from procd.output.logger.file import File

_SPLICE_F_NONBLOCK = 2

_libc = ctypes.CDLL(None, use_errno=True)
_tee = _libc.tee
_tee.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
_tee.restype = ctypes.c_ssize_t


def tee(source: int, target: int, at_most: int) -> int:
    """Copy what is in one pipe to another, without taking it; returns how much, 0 at the end of the pipe.

    Raises OSError (BlockingIOError when there is nothing, or no room).
    """
    copied: int = _tee(source, target, at_most, _SPLICE_F_NONBLOCK)
    if copied < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return copied


class Stash:
    """The stash, and the scratch pipe through which we look into pipes."""

    __slots__ = ("_nowhere", "_read", "_scratch_read", "_scratch_write", "_write", "capacity")

    def __init__(self, read_end: int, write_end: int) -> None:
        self._read = read_end
        self._write = write_end
        self._scratch_read, self._scratch_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Both have as many places for pieces: whatever could be looked at can be taken in one go.
        self.capacity = min(enlarge(write_end), enlarge(self._scratch_write))
        fcntl.fcntl(self._scratch_write, fcntl.F_SETPIPE_SZ, self.capacity)
        self._nowhere = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)

    def peek(self, pipe: int, at_most: int) -> bytes:
        """Look at the first bytes of a pipe; none at its end.  Raises BlockingIOError when it is empty."""
        count = self.see(pipe, at_most)
        return os.read(self._scratch_read, count) if count else b""

    def see(self, pipe: int, at_most: int) -> int:
        """Have the first bytes of a pipe in the scratch pipe, too; returns how many, 0 at its end.

        Raises BlockingIOError when it is empty.
        """
        return tee(pipe, self._scratch_write, min(at_most, self.capacity))

    def pour(self, file: File, count: int) -> int:
        """Move so many bytes that were seen into a file; returns how many it took, and forgets the others.

        Raises OSError when it took none.
        """
        poured = 0
        try:
            while poured < count:
                poured += file.splice(self._scratch_read, count - poured)
        except OSError:
            self._throw_away(self._scratch_read)
            if not poured:
                raise
        return poured

    def take(self, pipe: int, count: int) -> int:
        """Move the first bytes of a pipe into the stash, which is empty; returns how many."""
        return os.splice(pipe, self._write, count, flags=_SPLICE_F_NONBLOCK)

    def left(self) -> bytes:
        """What is in it; it stays there."""
        count = unread_bytes(self._read)
        return self.peek(self._read, count) if count else b""

    def empty(self) -> None:
        """Throw away what is in it."""
        self._throw_away(self._read)

    def _throw_away(self, pipe: int) -> None:
        try:
            while os.splice(pipe, self._nowhere, self.capacity, flags=_SPLICE_F_NONBLOCK):
                pass
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
