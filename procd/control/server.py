"""The control socket: listened on, its connections counted and bounded, and given up.

Owns the connections and what is counted of them.  The file of the socket is in `socket_file`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from procd.control.access import Peer
from procd.control.audit import Audit
from procd.control.connection import Connection
from procd.control.hangup import HangUps
from procd.control.listener import Listener
from procd.control.socket_file import SocketFile
from procd.control.turns import Turns
from procd.errors import ShuttingDown, TooLarge
from procd.wire import Connection as Wire
from procd.wire import Notification

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from procd.control.daemon import Daemon
    from procd.errors import Refusal

log = structlog.get_logger()

#: Connections at once.  Each costs a descriptor and some kilobytes; a person has a few, a dashboard dozens.
MAX_CONNECTIONS = 2048
#: Of these, the ones that are kept for root and procd's own user: whoever is to help must get in.
RESERVED_CONNECTIONS = 64
#: Connections at once of any other user, so that eight are needed to take what all of them may have.
MAX_CONNECTIONS_PER_UID = 256

#: Between two looks whether connections are done; and how long they have to read the last that they are sent.
_LOOK_S, _READING_S = 0.02, 1.0

_ENDED = ShuttingDown("procd has ended")


class ControlServer:
    """Listens on the control socket and keeps its connections."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._connections: set[Connection] = set()
        #: Those of them that have a transport already.
        self._talking: set[Connection] = set()
        self._by_uid: Counter[int] = Counter()
        self._arrivals: set[asyncio.Task[object]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._hang_ups: HangUps
        self._listener: Listener | None = None
        self._file: SocketFile | None = None
        #: Called with each socket that was bound, and the inode of its file.
        self.on_bound: Callable[[socket.socket, tuple[int, int]], None] = _nothing
        self.audit = Audit(daemon)
        #: The streams of all connections.
        self.turns = Turns()
        #: What is counted since the start: connections, requests, and those that were refused.
        self.counts: Counter[str] = Counter()

    def listen(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        mode: int,
        group: int | None = None,
        left: tuple[socket.socket, tuple[int, int]] | None = None,
    ) -> None:
        """Bind `path` with `mode` and `group`, and accept.  Raises OSError where it cannot be bound.

        With a socket that was `left` to us, and the inode of its file, nothing is bound: whoever has connected
        meanwhile is accepted.
        """
        file = SocketFile(loop, path, mode, group, self._replace)
        if left is None:
            listening = file.bind()
        else:
            listening, inode = left
            file.adopt(inode)
        self._file = file
        self.adopt(loop, listening)
        self._bound(listening)

    def keep(self) -> None:
        """Have the socket recorded again."""
        if self._listener is not None:
            self._bound(self._listener.socket)

    def _bound(self, listening: socket.socket) -> None:
        if self._file is not None and self._file.inode is not None:
            self.on_bound(listening, self._file.inode)

    def adopt(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        """Accept on a socket that listens already; its file, if there is one, is somebody else's."""
        self._loop = loop
        self._hang_ups = HangUps(loop)
        self._listener = Listener(loop, listening, self._accepted)

    def _replace(self, listening: socket.socket) -> None:
        """Go on on another socket; the connections stay."""
        old = self._listener
        if old is not None:
            old.drain()
            old.close()
        self._listener = Listener(self._loop, listening, self._accepted)
        self._bound(listening)

    def look(self) -> None:
        """Make sure that the socket can be reached."""
        if self._file is not None:
            self._file.look()

    # Connections

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def _accepted(self, connected: socket.socket) -> None:
        try:
            peer = Peer.of(connected)
        except OSError:
            # It is gone already.
            connected.close()
            return
        excess = self._excess(peer)
        if excess is not None:
            self.counts["connections_refused"] += 1
            _turn_away(connected, excess)
            return
        self.counts["connections"] += 1
        self._by_uid[peer.uid] += 1
        connection = Connection(self._daemon, self, peer)
        self._connections.add(connection)
        arrival = self._loop.create_task(self._loop.connect_accepted_socket(lambda: connection, connected))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)

    def _excess(self, peer: Peer) -> Refusal | None:
        """Say why one more connection of this peer is too many."""
        most = MAX_CONNECTIONS
        if not self._daemon.access.is_master(peer.uid):
            most -= RESERVED_CONNECTIONS
            if self._by_uid[peer.uid] >= MAX_CONNECTIONS_PER_UID:
                what = f"{MAX_CONNECTIONS_PER_UID} connections of uid {peer.uid} are open"
                return TooLarge(what, "close some")
        if len(self._connections) >= most:
            return TooLarge(f"{most} connections are open", "try again later")
        return None

    def opened(self, connection: Connection, fd: int) -> None:
        """Take note of a connection that can be talked to."""
        self._talking.add(connection)
        if self._listener is None:
            # It came as we left.
            connection.finish(_ENDED)
        else:
            self._hang_ups.watch(fd, connection.hung_up)

    def closed(self, connection: Connection, fd: int) -> None:
        """Forget a connection, whose socket is still open."""
        self._connections.discard(connection)
        self._talking.discard(connection)
        uid = connection.peer.uid
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]
        self._hang_ups.forget(fd)
        if self._listener is not None:
            # When this turn is over, its descriptor is free.
            self._loop.call_soon(self._listener.go_on)

    async def leave(self, reason: Refusal, within_s: float) -> None:
        """End all connections when they have been answered; who connects now waits for a successor."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener.socket.fileno())
        ends_at = self._loop.time() + within_s
        await self._until(lambda: not any(connection.is_busy for connection in self._talking), ends_at)
        for connection in tuple(self._talking):
            connection.finish(reason)
        # Who does not read is not waited for.
        await self._until(lambda: not self._talking, self._loop.time() + _READING_S)

    async def _until(self, done: Callable[[], bool], ends_at: float) -> None:
        while not done() and self._loop.time() < ends_at:  # noqa: ASYNC110 - many things change it, for once
            await asyncio.sleep(_LOOK_S)

    def close(self) -> None:
        """Take the socket away, and end the connections after what they were sent."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._hang_ups.close()
        if self._file is not None:
            self._file.close()
        self.audit.close()
        for connection in tuple(self._talking):
            connection.finish(_ENDED)


def _turn_away(connected: socket.socket, reason: Refusal) -> None:
    """Say why, and close.  There is room for one notification in a socket that was sent nothing."""
    with connected, contextlib.suppress(OSError):
        connected.send(Wire.of_daemon().send(Notification("closing", [reason.to_wire()])))


def _nothing(_: socket.socket, __: tuple[int, int]) -> None:
    """Nobody wants to know."""
