"""One client: its requests in, answers and streams out, and its bounds.

Owns a connection's memory: what is received and not yet answered, and what is sent and not yet read.  A client
that sends faster than it is answered, or does not read, is simply not read from any more.  One that is gone is
noticed all the same (`hangup`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from procd.config.access import Right
from procd.control.audit import DONE
from procd.control.call import Call
from procd.control.methods import METHODS
from procd.control.parameters import checked
from procd.control.streams import Streams
from procd.control.veil import Veil
from procd.errors import (
    BadRequest,
    Failed,
    LocalProtocolError,
    Refusal,
    RemoteProtocolError,
    TooLarge,
    UnknownMethod,
)
from procd.wire import Connection as Wire
from procd.wire import Notification, Request, Response

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Iterator

    from procd.control.access import Access, Peer, Permit
    from procd.control.daemon import Daemon
    from procd.control.server import ControlServer
    from procd.wire import Message

log = structlog.get_logger()

#: Requests of one connection that may wait for their answers.  With 64 KiB each, the most that a `write` may
#: carry, that is 512 KiB; enough to keep a pipe busy over the time of an answer.
MAX_IN_FLIGHT = 8
#: Bytes that the kernel has no room for, above which no more requests of this peer are served.  Its streams
#: wait while there are any: a piece of a log can be read again when the peer reads, and a thousand followers
#: that do not read are a piece each.
OUT_HIGH_BYTES = 256 * 1024
#: Seconds that the rest of a frame may take, so that half a frame cannot be held for ever.
HALF_FRAME_S = 30.0
#: Seconds that a peer may take to read what it was sent before its connection was closed.
LINGER_S = 5.0
#: Seconds that requests of one connection may take before the loop gets its turn.
TURN_S = 0.01


class Connection(asyncio.Protocol):
    """The daemon's end of one connection."""

    def __init__(self, daemon: Daemon, server: ControlServer, peer: Peer) -> None:
        self.peer = peer
        self._daemon = daemon
        self._server = server
        self._wire = Wire.of_daemon()
        self._messages: Iterator[Message] = iter(())
        self._in_flight: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._streams = Streams(self)
        #: What the peer may do, under the rules that were in force when it last asked.
        self._access: Access | None = None
        self._permit: Permit
        #: When the patience with half a frame, or with a peer that does not read its last answers, is over.
        self._patience: asyncio.TimerHandle | None = None
        #: The peer says no more; it is gone.
        self._ended = False
        self._gone = False

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - the loop's promise for streams
        self._transport = transport
        transport.set_write_buffer_limits(0)
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._server.opened(self, self._socket.fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what it had asked for; what was carried out stays carried out."""
        del exc
        self._ended = True
        self._streams.close()
        for task in tuple(self._in_flight):
            task.cancel()
        self._room.set()
        self._lose_patience_in(None)
        self._server.closed(self, self._socket.fileno())

    def data_received(self, data: bytes) -> None:
        """Take what came, and serve what it completes."""
        self._messages = self._wire.receive(data)
        self._serve()

    def eof_received(self) -> bool:
        """The peer says no more, but may still listen."""
        self._ended = True
        self._lose_patience_in(None)
        if self._gone:
            return False
        self._close_if_done()
        return not self._transport.is_closing()

    def hung_up(self) -> None:
        """The peer is gone.  What it sent before is served, if it is still being read."""
        self._gone = True
        if self._ended or not self._transport.is_reading():
            self._transport.abort()

    def pause_writing(self) -> None:
        """The kernel has no more room for what the peer is sent."""
        self._room.clear()

    def resume_writing(self) -> None:
        """The peer has read."""
        self._room.set()
        self._serve()

    # Requests

    def _serve(self) -> None:
        """Serve requests while there is room for their answers, and read on when all are taken."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + TURN_S
        try:
            while self._may_serve():
                message = next(self._messages, None)
                if message is None:
                    self._read_on()
                    return
                assert isinstance(message, Request)  # noqa: S101 - the daemon's wire lets nothing else in
                self._lose_patience_in(None)
                self._begin(message)
                if loop.time() > ends_at:
                    loop.call_soon(self._serve)
                    break
        except RemoteProtocolError as error:
            self.close(BadRequest(f"that is not procd's protocol: {error}", "see docs/reference/protocol.md"))
            return
        self._read_no_more()

    def _read_on(self) -> None:
        if self._ended:
            return
        self._transport.resume_reading()
        if self._wire.half_frame_bytes and self._patience is None:
            self._lose_patience_in(HALF_FRAME_S)

    def _read_no_more(self) -> None:
        if self._transport.is_closing():
            return
        self._lose_patience_in(None)
        self._transport.pause_reading()
        if self._gone:
            self._transport.abort()

    def _may_serve(self) -> bool:
        unread = self._transport.get_write_buffer_size()
        return (
            len(self._in_flight) < MAX_IN_FLIGHT
            and unread <= OUT_HIGH_BYTES
            and not self._transport.is_closing()
        )

    def _begin(self, request: Request) -> None:
        """Answer at once what can be; the rest becomes a task."""
        self._server.counts["requests"] += 1
        method = METHODS.get(request.method)
        call = Call(
            self._daemon, self._server, self._streams, self._permitted(), method.right if method else Right.NONE
        )
        try:
            if method is None:
                raise UnknownMethod(  # noqa: TRY301 - an answer like any other
                    f"no method {request.method!r}", "docs/reference/protocol.md has them all"
                )
            call.permit.require(call.right)
            answer = method.function(call, checked(request.method, method.parameters, request.params))
        except Refusal as refusal:
            self._refuse(request, call, refusal)
            return
        except Exception as error:  # noqa: BLE001 - one request that fails must not end the connection
            self._fail(request, call, error)
            return
        if isinstance(answer, dict):
            self._reply(request, call, answer)
            return
        task = asyncio.get_running_loop().create_task(self._finish(request, call, answer))
        self._in_flight.add(task)
        task.add_done_callback(self._answered)

    def _permitted(self) -> Permit:
        """Look up what the peer may do, by the rules of now."""
        access = self._daemon.access
        if access is not self._access:
            self._access = access
            self._permit = access.of(self.peer)
        return self._permit

    async def _finish(self, request: Request, call: Call, answer: Awaitable[dict[str, Any]]) -> None:
        try:
            self._reply(request, call, await answer)
        except Refusal as refusal:
            self._refuse(request, call, refusal)
        except asyncio.CancelledError:
            # What was begun goes on; how it ended nobody was told.
            self._server.audit.note(request, call, "left before the answer")
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(request, call, error)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not self._transport.is_closing():
            self._serve()
            self._close_if_done()

    def _reply(self, request: Request, call: Call, result: dict[str, Any]) -> None:
        self._server.audit.note(request, call, DONE)
        try:
            self._send(Response(request.id, None, self._veiled(call, result)))
        except LocalProtocolError as error:
            self._send(Response(request.id, TooLarge(f"the answer cannot be sent: {error}").to_wire(), None))

    def _refuse(self, request: Request, call: Call, refusal: Refusal) -> None:
        self._server.counts["requests_refused"] += 1
        self._server.audit.note(request, call, refusal.code)
        # What a refusal says is about what was asked for; what became of programs is in its data.
        told = refusal.to_wire()
        told["data"] = self._veiled(call, told["data"])
        self._send(Response(request.id, told, None))

    def _veiled(self, call: Call, answer: dict[str, Any]) -> dict[str, Any]:
        if call.permit.everything:
            return answer
        programs = self._daemon.runtime.machine.programs
        veiled: dict[str, Any] = Veil(call.permit, programs).value(answer)
        return veiled

    def _fail(self, request: Request, call: Call, error: Exception) -> None:
        """A mistake of ours: the peer learns that it is, the log learns which."""
        self._server.counts["requests_refused"] += 1
        log.error("request failed", method=request.method, uid=self.peer.uid, exc_info=error)
        refusal = Failed(
            "procd made a mistake with this request", "its log has the traceback, please report it"
        )
        self._server.audit.note(request, call, refusal.code)
        self._send(Response(request.id, refusal.to_wire(), None))

    @property
    def is_busy(self) -> bool:
        """Whether it waits for an answer."""
        return bool(self._in_flight)

    # Sending

    def _send(self, message: Message) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._wire.send(message))

    def notify(self, method: str, params: list[Any]) -> None:
        """Send a notification of a stream."""
        self._send(Notification(method, params))

    async def room(self) -> None:
        """Return when all others had their turn, and the kernel has all that the peer was sent."""
        await self._server.turns.next()
        # Asked again after the wait: of many streams that wait, the first may have filled the room.
        while not self._room.is_set():
            await self._room.wait()
            await self._server.turns.next()

    def stream_ended(self) -> None:
        """Close what was kept open for a stream only."""
        if not self._transport.is_closing():
            self._close_if_done()

    # Ending

    def _lose_patience_in(self, seconds: float | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if seconds is not None:
            self._patience = asyncio.get_running_loop().call_later(seconds, self._on_impatience)

    def _on_impatience(self) -> None:
        if self._transport.is_closing():
            self._transport.abort()
        else:
            self.close(TooLarge(f"the rest of a frame did not come within {HALF_FRAME_S:g} s"))

    def _close_if_done(self) -> None:
        if self._ended and not self._in_flight and not self._streams.any():
            self._transport.close()

    def finish(self, reason: Refusal) -> None:
        """Send followers what happened last, and close: procd ends."""
        if not self._transport.is_closing():
            self._streams.send_rest()
        self.close(reason)

    def close(self, reason: Refusal) -> None:
        """Say why, and close when that was sent."""
        self.notify("closing", [reason.to_wire()])
        self._streams.close()
        self._transport.close()
        self._lose_patience_in(LINGER_S)
