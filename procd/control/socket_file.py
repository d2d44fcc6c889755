"""The control socket in the file system: made at once with its mode, and made again when it is gone.

Owns the socket's file.  Whoever calls this holds the lock on the runtime directory, so a socket that is found
there was left behind by a procd that is dead.

A socket whose file was removed, by a cleaner of temporary files or by hand, listens on, and nobody can reach it
(supervisord #480: for months).  The kernel tells when the last name of a file goes (inotify(7), IN_ATTRIB), so
nothing has to look from time to time.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from procd.process.syscalls import inotify, inotify_watch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

log = structlog.get_logger()

#: Connections that may wait to be accepted; the kernel bounds it by net.core.somaxconn.
BACKLOG = 1024
#: Bytes of a socket's path, without the NUL at its end (unix(7)).
_LONGEST_PATH = 107

#: A name was removed, or its inode renamed or changed; the link itself, not where it leads (inotify(7)).
_IN_ATTRIB, _IN_MOVE_SELF, _IN_DELETE_SELF, _IN_DONT_FOLLOW = 0x4, 0x800, 0x400, 0x2000000
_EVENTS = _IN_ATTRIB | _IN_MOVE_SELF | _IN_DELETE_SELF | _IN_DONT_FOLLOW

#: Seconds until a socket that does not stay, or cannot be made, is made again, and the longest that this grows
#: to: two daemons that are told to use one path must not take it from each other all the time.
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0


class SocketFile:
    """The file of a socket; `bound` is given a new socket when one was made in place of a lost one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        mode: int,
        group: int | None,
        bound: Callable[[socket.socket], None],
    ) -> None:
        self._loop = loop
        self._path = path
        self._mode = mode
        self._group = group
        self._bound = bound
        self._inode: tuple[int, int] | None = None
        self._inotify = -1
        self._delay_s = 0.0
        self._bound_at_s = 0.0
        self._retry: asyncio.TimerHandle | None = None

    def bind(self) -> socket.socket:
        """Make the socket and its file.

        The name appears when the socket listens with its mode and group set: nobody is refused or let in for a
        moment.  Raises OSError where it cannot be bound.
        """
        listening, self._inode = _bind(self._path, self._mode, self._group)
        self._bound_at_s = self._loop.time()
        self._watch()
        # Somebody may have put another in its place before it was watched.
        self._loop.call_soon(self.look)
        return listening

    @property
    def inode(self) -> tuple[int, int] | None:
        """The device and the number of the file that is ours."""
        return self._inode

    def adopt(self, inode: tuple[int, int]) -> None:
        """Take note that the file is there: a socket that an earlier supervisor has bound was left to us."""
        self._inode = inode
        self._watch()
        self._loop.call_soon(self.look)

    def _watch(self) -> None:
        """Be told when the name goes; by an inotify for each file, so that none tells of an old one."""
        self._unwatch()
        try:
            self._inotify = inotify()
            inotify_watch(self._inotify, self._path, _EVENTS)
        except OSError as error:
            # It is a convenience: at SIGHUP it is looked for anyway.
            log.warning("control socket is not watched", path=self._path, reason=error.strerror)
            self._unwatch()
            return
        self._loop.add_reader(self._inotify, self._on_event)

    def _unwatch(self) -> None:
        if self._inotify >= 0:
            self._loop.remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1

    def _on_event(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify, 4096)
        self.look()

    def look(self) -> None:
        """Make the socket again if its file is not there any more, or is another's."""
        if self._retry is not None or self._inode is None or _inode(self._path) == self._inode:
            return
        calm = self._loop.time() - self._bound_at_s > LONGEST_DELAY_S
        if calm or self._delay_s == 0.0:
            self._delay_s = FIRST_DELAY_S
            self._bind_again()
        else:
            self._bind_later()

    def _bind_later(self) -> None:
        self._retry = self._loop.call_later(self._delay_s, self._bind_again)
        self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)

    def _bind_again(self) -> None:
        self._retry = None
        try:
            # The whole directory may have been swept away.
            os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)  # noqa: PTH103, PTH120
            listening = self.bind()
        except OSError as error:
            log.error("control socket is gone and cannot be made", path=self._path, reason=error.strerror)  # noqa: TRY400
            self._bind_later()
            return
        log.warning("control socket was gone and is made again", path=self._path)
        self._bound(listening)

    def close(self) -> None:
        """Take the file away, if it is ours."""
        self._unwatch()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._inode is not None and _inode(self._path) == self._inode:
            Path(self._path).unlink(missing_ok=True)
        self._inode = None


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _bind(path: str, mode: int, group: int | None) -> tuple[socket.socket, tuple[int, int] | None]:
    """Make a listening socket under another name, and give it its own when nobody can be refused any more.

    Returns it with its inode, which is looked up before anybody else knows the file.
    """
    place, name = os.path.split(path)
    unborn = f"{path}.new"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    directory = -1
    try:
        if len(os.fsencode(unborn)) > _LONGEST_PATH:
            # Its own may be as long as it can be, and this one is longer: a short way to the same place.
            directory = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            unborn = f"/proc/self/fd/{directory}/{name[:16]}.new"
        Path(unborn).unlink(missing_ok=True)
        listener.bind(unborn)
        if group is not None:
            os.chown(unborn, -1, group)
        os.chmod(unborn, mode)  # noqa: PTH101 - as chmod(2)
        listener.listen(BACKLOG)
        inode = _inode(unborn)
        os.rename(unborn, path)  # noqa: PTH104 - as rename(2): at once, over what is there
    except OSError:
        listener.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)
    return listener, inode
