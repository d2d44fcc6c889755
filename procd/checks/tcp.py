"""Connecting: the check `tcp`, and the first half of `http`.

Owns a socket from its making until it is connected, on the loop, without a task or a thread.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from procd.checks.endpoints import parse_host_port

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from procd.checks.endpoints import Address
    from procd.checks.probe import Answer


class Connecting:
    """Connects to the first of several addresses that lets it; then, or when none does, says so once.

    `on_connected` owns the socket it gets, which is non-blocking.  `on_refused` gets the reason of the first
    address: where `localhost` was meant, a machine without IPv6 has nothing to say about it.  Both are called
    by the loop.
    """

    __slots__ = ("_addresses", "_loop", "_on_connected", "_on_refused", "_reason", "_socket", "_soon")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        addresses: Sequence[Address],
        on_connected: Callable[[socket.socket], None],
        on_refused: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._addresses = iter(addresses)
        self._on_connected = on_connected
        self._on_refused = on_refused
        self._reason = ""
        self._socket: socket.socket | None = None
        self._soon: asyncio.Handle | None = loop.call_soon(self._next)

    def _next(self) -> None:
        self._soon = None
        address = next(self._addresses, None)
        if address is None:
            self._on_refused(self._reason)
            return
        try:
            self._socket = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = self._socket.connect_ex(address.sockaddr)
        except OSError as error:
            code = error.errno or errno.EIO
        if code == errno.EINPROGRESS and self._socket is not None:
            self._loop.add_writer(self._socket.fileno(), self._decided)
        else:
            self._conclude(code)

    def _decided(self) -> None:
        sock = self._socket
        if sock is None:
            raise AssertionError("the loop was told to forget the socket before it was closed")
        self._loop.remove_writer(sock.fileno())
        self._conclude(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _conclude(self, code: int) -> None:
        sock, self._socket = self._socket, None
        if code == 0 and sock is not None:
            if not _met_itself(sock):
                self._on_connected(sock)
                return
            code = errno.ECONNREFUSED
        if sock is not None:
            sock.close()
        self._reason = self._reason or os.strerror(code).lower()
        self._soon = self._loop.call_soon(self._next)

    def cancel(self) -> None:
        """Let go of everything; neither callback is called any more."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._socket is not None:
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _met_itself(sock: socket.socket) -> bool:
    """Whether a socket is connected to itself.

    That happens on this machine where nobody listens on a port out of which the kernel gives connecting sockets
    theirs (net.ipv4.ip_local_port_range): asked often enough, such a port answers (RFC 9293, 3.5).
    """
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False  # the peer has gone again; it was there


class TcpProbe:
    """Passes when somebody accepts a connection at an address."""

    __slots__ = ("_addresses", "_loop", "subject")

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        """Ask at `host:port`.  Raises ValueError as `parse_host_port` does."""
        self._loop = loop
        self._addresses = parse_host_port(address)
        self.subject = f"connect to {address}"

    def ask(self, answer: Answer) -> Connecting:
        """Connect, and hang up."""

        def connected(sock: socket.socket) -> None:
            sock.close()
            answer("")

        def refused(reason: str) -> None:
            answer(f"{self.subject}: {reason}")

        return Connecting(self._loop, self._addresses, connected, refused)
