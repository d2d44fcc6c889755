"""The descriptors of a child: from a map of wishes to pipes, and to the moves that put them in place.

Owns every descriptor that is made for a child until it has one: on failure all are closed.  Must not know how
the child is started.

A map has the child's descriptor numbers as keys.  Values: "r", we read what the child writes; "w", we write
what the child reads; "null", /dev/null; "stdout", whatever descriptor 1 of the same child is; or the number of
an open descriptor of ours, which stays ours.  What is not in the map is closed in the child.  A terminal takes
the places of 0, 1 and 2, with "rw" at 1.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from procd.errors import SpawnError
from procd.process.terminal import open_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from procd.process.terminal import Terminal

_T = TypeVar("_T")

ChildFd = int | Literal["r", "w", "null", "stdout"]
READ: Final = "r"
WRITE: Final = "w"
NULL: Final = "null"
STDOUT: Final = "stdout"
DEFAULT_CHILD_FDS: Final[Mapping[int, ChildFd]] = {0: WRITE, 1: READ, 2: READ}

_shared_null: list[int] = []


def shared_null() -> int:
    """The one /dev/null of this process; never closed."""
    if not _shared_null:
        _shared_null.append(_stage("open", "/dev/null", lambda: os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)))
    return _shared_null[0]


class Wiring:
    """The descriptors of one child.

    `ours`: child's descriptor → our end of its pipe; `modes`: → what we do with it, "r" or "w".  `moves`:
    (descriptor of ours, number in the child); no source is also a target, so that the moves can be made in any
    order.  Raises SpawnError with the stage "pipe" or "descriptors", leaving nothing open.
    """

    __slots__ = ("_passing", "modes", "moves", "ours", "terminal")

    def __init__(
        self,
        child_fds: Mapping[int, ChildFd] | None,
        terminal: Terminal | None = None,
        owner_uid: int | None = None,
    ) -> None:
        self.ours: dict[int, int] = {}
        self.modes: dict[int, str] = {}
        self._passing: list[int] = []  # the child's ends, and copies: ours to close once the child has them
        self.moves: list[tuple[int, int]] = []
        self.terminal: bytes | None = None
        if child_fds is None:
            child_fds = DEFAULT_CHILD_FDS if terminal is None else {}
        try:
            if terminal is not None:
                child_fds = {**child_fds, **self._open_terminal(terminal, owner_uid)}
            sources = {fd: self._source(fd, wish, child_fds, owner_uid) for fd, wish in child_fds.items()}
            for fd, wish in child_fds.items():
                if wish == STDOUT:
                    sources[fd] = sources[1]
            highest = max((*sources, 2))
            for fd, source in sources.items():
                self.moves.append((self._out_of_the_way(source, sources, highest), fd))
        except BaseException:
            self.abandon()
            raise

    def close_passed(self) -> None:
        """Close what the child has got now."""
        for fd in self._passing:
            os.close(fd)
        self._passing = []

    def abandon(self) -> None:
        """There will be no child: close everything that was made for it."""
        self.close_passed()
        for fd in self.ours.values():
            os.close(fd)
        self.ours = {}

    def _source(self, fd: int, wish: ChildFd, child_fds: Mapping[int, ChildFd], owner_uid: int | None) -> int:
        if fd < 0:
            raise SpawnError("descriptors", errno.EBADF, f"{fd}")
        if wish in {READ, WRITE}:
            return self._pipe(fd, wish, owner_uid)
        if wish == NULL:
            return shared_null()
        if wish == STDOUT and child_fds.get(1, STDOUT) != STDOUT:
            return -1  # replaced when all sources are known
        if isinstance(wish, int) and not isinstance(wish, bool):
            if wish < 0:
                raise SpawnError("descriptors", errno.EBADF, f"{wish}")
            _stage("descriptors", f"{wish}", lambda: fcntl.fcntl(wish, fcntl.F_GETFD))
            return wish
        raise SpawnError("descriptors", errno.EINVAL, f"{fd} → {wish!r}")

    def _open_terminal(self, wish: Terminal, owner_uid: int | None) -> dict[int, ChildFd]:
        terminal = open_terminal(wish, owner_uid)
        self.ours[1], self.modes[1], self.terminal = terminal.ours, "rw", terminal.path
        self._passing.append(terminal.theirs)
        return dict.fromkeys((0, 1, 2), terminal.theirs)

    def _pipe(self, fd: int, mode: str, owner_uid: int | None) -> int:
        read_end, write_end = _stage("pipe", f"descriptor {fd}", lambda: os.pipe2(os.O_CLOEXEC))
        self.modes[fd] = mode
        self.ours[fd], theirs = (read_end, write_end) if mode == READ else (write_end, read_end)
        self._passing.append(theirs)
        if owner_uid is not None:
            # Who owns a pipe may reopen it as /dev/stdout; what root owns, nginx under another user cannot.
            # A parent that may change users but not owners starts its children all the same.
            with contextlib.suppress(PermissionError):
                os.fchown(theirs, owner_uid, -1)
        return theirs

    def _out_of_the_way(self, source: int, targets: Mapping[int, int], highest: int) -> int:
        """A copy of `source` above all targets if it is one itself: a move to there would destroy it."""
        if source not in targets:
            return source
        copy = _stage(
            "descriptors", f"{source}", lambda: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, highest + 1)
        )
        self._passing.append(copy)
        return copy


def _stage(stage: str, subject: str, call: Callable[[], _T]) -> _T:
    try:
        return call()
    except OSError as error:
        raise SpawnError(stage, error.errno or errno.EIO, subject) from error
