"""One log file: opened safely, appended to, never rewritten."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

#: Readable by the group, so that an operator's group can be given the logs; nobody else learns from them.
LOG_MODE = 0o640

#: splice(2) cannot be done on this file system or descriptor (EINVAL): read and write instead, for good.
_NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS})


class LogFile:
    """The open end of a log.  `size` is how many bytes it holds.

    O_NOFOLLOW, because a log directory that a program's user may write must not become a way to write elsewhere
    (CVE-2018-6954).  Not O_APPEND: splice(2) refuses it.  The end is sought before each turn instead, so a file
    that somebody truncated is continued at its new end.
    """

    __slots__ = ("_fd", "_rest", "_splices", "path", "size")

    def __init__(self, path: str) -> None:
        """Open the log, make it and its directory if there is none.

        Raises OSError where that is not possible, with ENOTSUP for something that is not a regular file.
        """
        self.path = path
        # Something else in the place of the directory is told better by open(2): "not a directory".
        with contextlib.suppress(FileExistsError):
            Path(path).parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        # O_NONBLOCK: opening a fifo that somebody put there must not wait for its reader.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        self._fd = os.open(path, flags, LOG_MODE)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._fd)
            raise OSError(errno.ENOTSUP, "a log has to be a regular file", path)
        self.size = found.st_size
        self._splices = True
        #: What was read where splice is refused, and could not be written yet.
        self._rest = memoryview(b"")

    def take_from(self, pipe: int, at_most: int) -> int:
        """Move what is in a non-blocking pipe to the end of the file.

        Returns the bytes moved, 0 at the end of the pipe.  Raises BlockingIOError when the pipe is empty, and
        OSError when the file cannot take more (ENOSPC, EIO, …); what has left the pipe then is in the file, or
        is kept and goes first next time.
        """
        self.size = os.lseek(self._fd, 0, os.SEEK_END)
        if self._rest:
            return self._write_rest()
        if self._splices:
            try:
                moved = os.splice(pipe, self._fd, at_most)
            except OSError as error:
                if error.errno not in _NO_SPLICE:
                    raise
                self._splices = False
            else:
                self.size += moved
                return moved
        # Read and write: the bytes in between are only in this process.
        self._rest = memoryview(os.read(pipe, min(at_most, 65536)))
        return self._write_rest()

    def _write_rest(self) -> int:
        """Write what was read; returns how much that was."""
        size = len(self._rest)
        while self._rest:
            written = os.write(self._fd, self._rest)
            self.size += written
            self._rest = self._rest[written:]
        return size

    def close(self) -> int:
        """Give the descriptor back; returns how many bytes were read and could not be written."""
        os.close(self._fd)
        return len(self._rest)
