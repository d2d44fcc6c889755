"""The file of a log: opened safely, appended to, and never rewritten but for a turn that was undone.

Owns one open file, where it begins (its *start*: how many bytes the log had before it), and how far it reaches.
Must not know where the bytes come from.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time

#: Readable by the group, so that an operator's group can be given the logs; nobody else learns from them.
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750

#: Extended attributes of a log file: the offset of its first byte in the log, and the second (Unix time) in
#: which that byte came; in ASCII.
START = "user.procd.start"
SINCE = "user.procd.since"
#: What fits into 63 bits.
MAX_DIGITS = 18

#: splice(2) cannot be done on this file system (EINVAL).
NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS})
#: File systems that know no locks: nobody to wait for.
_NO_LOCK = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

#: Not O_APPEND, which splice(2) refuses.  O_NONBLOCK: opening a fifo that somebody put there must not wait.
#: O_NOFOLLOW: a directory that a program's user may write must not become a way to write elsewhere
#: (CVE-2018-6954).
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def read_attribute(target: int | str, name: str) -> int | None:
    """The number in an extended attribute of a file; None where there is none, or something else.

    Whoever may write the directory may have made the file: a number that has no place on the board is none.
    """
    try:
        text = os.getxattr(target, name)
    except OSError:
        return None
    return int(text) if text.isdigit() and len(text) <= MAX_DIGITS else None


def make_directory(path: str) -> None:
    """Make the directories above a path that are missing.  Raises OSError."""
    directory = os.path.dirname(path)  # noqa: PTH120 - pathlib is not imported here
    if not os.path.isdir(directory):  # noqa: PTH112 - the same
        os.makedirs(directory, DIRECTORY_MODE, exist_ok=True)  # noqa: PTH103 - the same


class LockedError(OSError):
    """Another process holds the lock of a log file."""


class File:
    """An open log file.  `size` is its size at our last look, `start` the offset of its first byte."""

    __slots__ = ("_identity", "fd", "path", "since", "size", "start")

    def __init__(self, path: str) -> None:
        """Open the file, make it and its directory if there is none, and lock it.

        `start` is None where nothing is known of it: then `place` has to be called.  Raises LockedError and
        OSError.
        """
        self.path = path
        make_directory(path)
        self.fd = os.open(path, _FLAGS, FILE_MODE)
        try:
            found = self._look()
            self._lock()
        except OSError:
            os.close(self.fd)
            raise
        self.size = found.st_size
        self._identity = (found.st_dev, found.st_ino)
        self.start = read_attribute(self.fd, START)
        since = read_attribute(self.fd, SINCE)
        #: Unix time of the first byte; None while there is none.
        self.since = (since or int(found.st_mtime)) if self.size else None

    def _look(self) -> os.stat_result:
        found = os.fstat(self.fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ENOTSUP, "not a regular file", self.path)
        return found

    def _lock(self) -> None:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise LockedError(error.errno, "another process writes to it", self.path) from None
            if error.errno not in _NO_LOCK:
                raise

    def place(self, start: int) -> None:
        """Say where this file begins in the log."""
        self.start = start
        self._note(START, start)

    def _note(self, name: str, value: int) -> None:
        # Where there are no extended attributes, or no room for ours, the board knows, and the sizes of the old
        # files tell.
        with contextlib.suppress(OSError):
            os.setxattr(self.fd, name, b"%d" % value)

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return (self.start or 0) + self.size

    def seek_end(self) -> None:
        """Go to the end.  A file that somebody has truncated begins anew at the offset reached so far."""
        size = os.lseek(self.fd, 0, os.SEEK_END)
        if size != self.size:
            if size < self.size:
                self.place(self.end)
                self.since = None
            self.size = size

    def splice(self, pipe: int, at_most: int) -> int:
        """Move bytes from a pipe to the end, where `seek_end` has gone; returns how many, 0 at the pipe's end.

        Raises BlockingIOError when the pipe is empty, and OSError.
        """
        moved = os.splice(pipe, self.fd, at_most, flags=os.SPLICE_F_NONBLOCK)
        self.size += moved
        if self.since is None and moved:
            self._begin()
        return moved

    def append(self, data: bytes) -> None:
        """Write all of this at the end, or raise OSError with nothing of it in the file."""
        self.seek_end()
        before = self.size
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self.fd, rest)
                self.size += written
                rest = rest[written:]
        except OSError:
            self.cut(before)
            raise
        if self.since is None and data:
            self._begin()

    def _begin(self) -> None:
        self.since = int(time.time())
        self._note(SINCE, self.since)

    def cut(self, size: int) -> None:
        """Take back what was written after this size."""
        os.ftruncate(self.fd, size)
        self.size = size
        os.lseek(self.fd, size, os.SEEK_SET)

    @property
    def at_line_start(self) -> bool:
        """Whether the next byte begins a line."""
        return not self.size or os.pread(self.fd, 1, self.size - 1) == b"\n"

    def is_gone(self) -> bool:
        """Whether another file, or none, stands in its place: it was moved or deleted."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._identity

    def close(self) -> None:
        """Give the descriptor back, and the lock; a second time there is nothing to do."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(
                OSError
            ):  # EIO, EDQUOT of a network file system: it is closed all the same
                os.close(fd)
