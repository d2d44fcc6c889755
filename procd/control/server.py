"""The control socket itself: bound, listened on, and given up.

Owns the socket's file.  Whoever calls this holds the lock on the runtime directory, so a socket that is found
there was left behind by a procd that is dead.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from procd.control.connection import Connection
from procd.control.hangup import HangUps
from procd.errors import ShuttingDown, TooLarge

if TYPE_CHECKING:
    import asyncio

    from procd.control.daemon import Daemon

log = structlog.get_logger()

#: Connections at once.  Each costs a descriptor and some kilobytes; a person has a few, a dashboard dozens.
MAX_CONNECTIONS = 2048
#: Connections that may wait to be accepted; the kernel bounds it by net.core.somaxconn.
BACKLOG = 1024
#: Bytes of a socket's path, without the NUL at its end (unix(7)).
_LONGEST_PATH = 107


class ControlServer:
    """Listens on the control socket and keeps its connections."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._hang_ups: HangUps
        self._path = ""

    async def listen(self, loop: asyncio.AbstractEventLoop, path: str, mode: int) -> None:
        """Bind `path` with `mode`, and accept.

        The name appears when the socket listens with its mode set: nobody is refused or let in for a moment.
        Raises OSError where it cannot be bound.
        """
        listener = _bind(path, mode)
        self._hang_ups = HangUps(loop)
        self._path = path
        self._server = await loop.create_unix_server(
            lambda: Connection(self._daemon, self), sock=listener, backlog=BACKLOG
        )

    def opened(self, connection: Connection, fd: int) -> None:
        """Take note of a new connection."""
        self._connections.add(connection)
        self._hang_ups.watch(fd, connection.hung_up)
        if len(self._connections) > MAX_CONNECTIONS:
            connection.close(TooLarge(f"{MAX_CONNECTIONS} connections are open", "try again later"))

    def closed(self, connection: Connection, fd: int) -> None:
        """Forget a connection, whose socket is still open."""
        self._connections.discard(connection)
        self._hang_ups.forget(fd)

    def close(self) -> None:
        """Take the socket away, and end the connections after what they were sent."""
        if self._server is not None:
            self._server.close()
            self._hang_ups.close()
            Path(self._path).unlink(missing_ok=True)
        for connection in tuple(self._connections):
            connection.finish(ShuttingDown("procd has ended"))


def _bind(path: str, mode: int) -> socket.socket:
    """Make a listening socket under another name, and give it its own when nobody can be refused any more."""
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
        os.chmod(unborn, mode)  # noqa: PTH101 - as chmod(2)
        listener.listen(BACKLOG)
        os.rename(unborn, path)  # noqa: PTH104 - as rename(2): at once, over what is there
    except OSError:
        listener.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)
    return listener
