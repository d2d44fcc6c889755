"""A client's side of a connection, sans-IO: which answer belongs to which request, and what came unasked.

Owns the numbers of requests and the order of messages; the blocking client and the asyncio one are written on
it.  It must not know a socket, a clock, or what a method means.
"""

from __future__ import annotations

from procd.errors import Refusal, RemoteProtocolError
from procd.wire import MAX_REQUEST_ID, Connection, Message, Notification, Request, Response

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

PROTOCOL = 1
"""The version of the protocol that is spoken here."""

STREAM_DATA, STREAM_GAP, STREAM_END = "stream.data", "stream.gap", "stream.end"
CLOSING = "closing"


class Dialogue:
    """What was asked on one connection, and what came for it."""

    _next_id: int

    def __init__(self) -> None:
        self._wire = Connection.of_client()
        self._incoming: Iterator[Message] = iter(())
        self._next_id = 1
        self._waiting: dict[int, str] = {}

    def begin(self, method: str, params: Mapping[str, Any]) -> tuple[int, bytes]:
        """The id of a request, and the bytes that ask it; raises LocalProtocolError for what cannot be sent."""
        request_id = self._next_id
        frame = self._wire.send(Request(request_id, method, dict(params)))
        self._next_id = request_id % MAX_REQUEST_ID + 1
        self._waiting[request_id] = method
        return request_id, frame

    def deed(self, request_id: int) -> str:
        """What the daemon is to do for a request, for a sentence that says that it did not."""
        return f"answer `{self._waiting[request_id]}`"

    def feed(self, chunk: bytes) -> None:
        """Take what came; `next` gives the messages in it, and is to be asked until it gives None."""
        self._incoming = self._wire.receive(chunk)

    def next(self) -> Response | Notification | None:
        """The next message, if it is here.

        Raises the Refusal with which the daemon ends the connection, and RemoteProtocolError for what no daemon
        sends: an answer among it that nobody asked for.
        """
        message = next(self._incoming, None)
        if isinstance(message, Notification):
            if message.method == CLOSING:
                raise Refusal.from_wire(message.params[0] if message.params else None)
            return message
        if isinstance(message, Response):
            if self._waiting.pop(message.id, None) is None:
                raise RemoteProtocolError("it answered what was never asked")
            return message
        return None


def result_of(answer: Response) -> Any:  # noqa: ANN401 - what travels on the wire
    """What was asked for; raises the Refusal that the answer may be."""
    if answer.error is not None:
        raise Refusal.from_wire(answer.error)
    return answer.result


def part_of(notification: Notification, stream_id: object) -> tuple[str, dict[str, Any]] | None:
    """What a notification says about a stream, if that is what it is about: its method and body."""
    match notification.params:
        case [found, dict(body)] if found == stream_id:
            return notification.method, body
    return None


def opened_stream(answer: object) -> dict[str, Any]:
    """The answer that opened a stream; raises RemoteProtocolError for one that did not."""
    if not isinstance(answer, dict) or "stream" not in answer:
        raise RemoteProtocolError("it answered with a stream that has no id")
    return answer
