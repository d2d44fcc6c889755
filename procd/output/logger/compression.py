"""Old files are compressed beside everything else: one at a time, by a child that gives way to everybody.

Owns that child.  It writes to a name of its own; the finished file gets its place by a rename, and only then
the plain one is deleted.  A child that is killed, or dies with us, leaves a file that the next one overwrites.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import stat

from procd.output.logger.file import FILE_MODE, SINCE, START
from procd.output.logger.loop import READABLE
from procd.output.logger.rotation import COMPRESSED, UNFINISHED, forms, old_path

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from typing import NoReturn

    from procd.output.logger.loop import Loop

_PR_SET_PDEATHSIG = 1
_READ_BYTES = 1 << 18

_prctl = ctypes.CDLL(None).prctl


def _compress(source: int, target: int) -> None:
    """Write what is in one file to another, compressed, with its times and attributes.  Raises OSError."""
    import zlib  # noqa: PLC0415 - only the child needs it

    packer = zlib.compressobj(wbits=zlib.MAX_WBITS + 16)
    with os.fdopen(target, "wb") as file:
        while piece := os.read(source, _READ_BYTES):
            file.write(packer.compress(piece))
        file.write(packer.flush())
        file.flush()
        for name in (START, SINCE):
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))
        found = os.fstat(source)
        os.fchmod(target, stat.S_IMODE(found.st_mode))
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        # The plain file is deleted next: a machine that loses its power must not lose both.
        os.fsync(target)


def _be_the_child(source: int, target: int, parent: int) -> NoReturn:
    """Compress, and never return."""
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        # Read ends of pipes that stayed open here would keep programs from learning that nobody reads, and the
        # locks of logs would stay taken.
        first, second = sorted((source, target))
        os.closerange(3, first)
        os.closerange(first + 1, second)
        os.closerange(second + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        os.nice(19)
        _compress(source, target)
    except BaseException:  # noqa: BLE001 - whatever it is, this is where the child ends
        os._exit(1)
    os._exit(0)


def oldest_plain(path: str, keep: int) -> str | None:
    """The oldest of a log's old files that is not compressed.

    A plain file beside a compressed one is what remains of a compression that was killed at its very end.
    """
    for number in range(keep, 0, -1):
        names = forms(path, number)
        if len(names) > 1:
            os.unlink(names[0])  # noqa: PTH108 - pathlib is not imported here
        elif names and not names[0].endswith(COMPRESSED):
            return names[0]
    return None


class Compression:
    """The logs whose old files are to be compressed, and the child at work."""

    __slots__ = ("_identity", "_loop", "_path", "_pid", "_pidfd", "_wanted")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        #: Paths of logs that may have old files that are plain, and how many old files each may have.
        self._wanted: dict[str, int] = {}
        self._path = ""
        self._identity = (0, 0)
        self._pid = 0
        self._pidfd = -1

    def want(self, path: str, keep: int) -> None:
        """See to it that the old files of a log are compressed."""
        self._wanted[path] = keep
        self._next()

    def _next(self) -> None:
        while self._wanted and not self._pid:
            path, keep = next(iter(self._wanted.items()))
            try:
                begun = self._begin(path, oldest_plain(path, keep))
            except OSError:
                # No room, or no access: it is tried again after the next rotation.
                begun = False
            if not begun:
                del self._wanted[path]

    def _begin(self, path: str, plain: str | None) -> bool:
        """Compress an old file, if there is one; returns whether a child is at work.  Raises OSError."""
        if plain is None:
            return False
        source = os.open(plain, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(source)
            remove(path + UNFINISHED)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(path + UNFINISHED, flags, FILE_MODE)
            parent = os.getpid()
            self._pid = os.fork()
            if not self._pid:
                _be_the_child(source, target, parent)
            os.close(target)
        finally:
            os.close(source)
        self._path = path
        self._identity = (found.st_dev, found.st_ino)
        self._pidfd = os.pidfd_open(self._pid)
        self._loop.watch(self._pidfd, READABLE, self._ended)
        return True

    def _ended(self) -> None:
        """The child has ended: put its file in the place of the plain one."""
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        unfinished = self._path + UNFINISHED
        try:
            plain = None if status else self._plain_now(self._wanted.get(self._path, 0))
            if plain is not None:
                os.rename(unfinished, plain + COMPRESSED)  # noqa: PTH104 - pathlib is not imported here
                os.unlink(plain)  # noqa: PTH108 - the same
        except OSError:
            status = -1
        if status:
            # No room: it is tried again after the next rotation.
            self._wanted.pop(self._path, None)
        remove(unfinished)
        self._next()

    def _plain_now(self, keep: int) -> str | None:
        """Where the file that was compressed stands by now; None when it is gone."""
        for number in range(1, keep + 1):
            name = old_path(self._path, number)
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(name)
                if (found.st_dev, found.st_ino) == self._identity:
                    return name
        return None

    def close(self) -> None:
        """End the child, if there is one; the next logger begins its file again."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            remove(self._path + UNFINISHED)


def remove(name: str) -> None:
    """Delete a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)  # noqa: PTH108 - pathlib is not imported here
