"""Asking over HTTP: the check `http`.

Owns one GET on one connection; h11 owns the protocol.  Redirects are not followed: a check says where it asks.
The whole of an answer is read as far as it is short, because a server that is hung up on in the middle of one
logs an error each time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import h11

from procd.checks.endpoints import parse_url
from procd.checks.notification import neutralise
from procd.checks.tcp import Connecting

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from procd.checks.endpoints import Url
    from procd.checks.probe import Answer

#: Bytes of an answer that are read; h11 bounds its head to 16 KiB.
MAX_ANSWER_BYTES = 65536
_CHUNK_BYTES = 16384
_MAX_COMPLAINT = 120  # characters of what h11 says; it quotes the peer
#: What is good where the configuration does not say.
GOOD_STATUSES = frozenset(range(200, 400))


class HttpProbe:
    """Passes when a GET is answered with one of the statuses."""

    __slots__ = ("_loop", "_request", "_url", "statuses", "subject")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, url: str, statuses: AbstractSet[int] = GOOD_STATUSES
    ) -> None:
        """Ask `url`.  Raises ValueError as `parse_url` does."""
        self._loop = loop
        self._url = parse_url(url)
        self._request = _request(self._url)
        self.statuses = statuses
        self.subject = f"GET {url}"

    def ask(self, answer: Answer) -> Exchange:
        """Connect, ask, and read the answer."""
        return Exchange(self._loop, self._url, self._request, lambda outcome: answer(self._judge(outcome)))

    def _judge(self, outcome: int | str) -> str:
        if isinstance(outcome, str):
            return f"{self.subject}: {outcome}"
        return "" if outcome in self.statuses else f"{self.subject}: status {outcome}"


def _request(url: Url) -> h11.Request:
    headers = [("Host", url.host), ("User-Agent", "procd"), ("Accept", "*/*"), ("Connection", "close")]
    try:
        return h11.Request(method="GET", target=url.target, headers=headers)
    except h11.LocalProtocolError as error:
        raise ValueError(f'"{url.host}{url.target}" cannot be asked for: {error}') from error


class Exchange:
    """One request and its answer; `on_end` gets the status, or why there is none, in words."""

    __slots__ = (
        "_connecting",
        "_connection",
        "_loop",
        "_on_end",
        "_received",
        "_request",
        "_socket",
        "_status",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        url: Url,
        request: h11.Request,
        on_end: Callable[[int | str], None],
    ) -> None:
        self._loop = loop
        self._request = request
        self._on_end = on_end
        self._connection = h11.Connection(h11.CLIENT)
        self._socket: socket.socket | None = None
        self._status: int | None = None
        self._received = 0
        self._connecting = Connecting(loop, url.addresses, self._connected, on_end)

    def _connected(self, sock: socket.socket) -> None:
        self._socket = sock
        message = _encode(self._connection, self._request)
        try:
            sent = sock.send(message)
        except OSError as error:
            self._end(_words(error))
            return
        if sent < len(message):
            self._end("the request was not taken")
            return
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        if self._socket is None:
            raise AssertionError("the loop was told to forget the socket before it was closed")
        try:
            chunk = self._socket.recv(_CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(_words(error))
            return
        if not chunk and self._status is None:
            self._end("closed before its answer was complete" if self._received else "closed without an answer")
            return
        self._received += len(chunk)
        try:
            self._connection.receive_data(chunk)
            complete = self._events()
        except h11.RemoteProtocolError as error:
            self._end(f"not HTTP: {neutralise(str(error), _MAX_COMPLAINT)}")
            return
        if complete or self._received >= MAX_ANSWER_BYTES:
            self._end("an answer without end" if self._status is None else self._status)

    def _events(self) -> bool:
        """Take in what h11 has understood; return whether that was all of the answer."""
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.Response):
                self._status = event.status_code
            elif event is h11.PAUSED or isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return True

    def _end(self, outcome: int | str) -> None:
        self.cancel()
        self._on_end(outcome)

    def cancel(self) -> None:
        """Hang up, and say nothing."""
        self._connecting.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _encode(connection: h11.Connection, request: h11.Request) -> bytes:
    return (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
