"""One end of a connection: bytes to messages, messages to bytes.

Owns the bytes that are not a whole frame yet, and who may say what.  It must not know a socket or a clock:
`half_frame_bytes` lets the owner of both decide how long it waits for the rest of a frame.
"""

from __future__ import annotations

import msgpack

from procd.errors import LocalProtocolError, RemoteProtocolError
from procd.value import Value
from procd.wire.limits import REPLY_LIMITS, REQUEST_LIMITS, Limits
from procd.wire.messages import Message, Notification, Request, Response, from_array, to_array
from procd.wire.scanner import FrameScanner

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class _Direction(Value):
    """What may be said in one direction.

    `walked`: what we say is looked at as closely as what we hear.  Requests are: they hold what people gave.
    Replies and streams are made by the daemon alone, and to walk over the records of a thousand programs would
    take six times as long as to encode them, while everything else waits.
    """

    __slots__ = ("kinds", "limits", "walked")

    def __init__(self, limits: Limits, kinds: tuple[type[Message], ...], *, walked: bool) -> None:
        self.limits = limits
        self.kinds = kinds
        self.walked = walked


_TO_DAEMON = _Direction(REQUEST_LIMITS, (Request,), walked=True)
_TO_CLIENT = _Direction(REPLY_LIMITS, (Response, Notification), walked=False)


class Connection:
    """The protocol state of one connection, without the connection.

    After a RemoteProtocolError from `receive` the connection cannot go on: every later call raises the same.
    """

    __slots__ = ("_buffer", "_incoming", "_outgoing", "_scanner", "_violation")

    def __init__(self, incoming: _Direction, outgoing: _Direction) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._buffer = bytearray()
        self._scanner = FrameScanner(incoming.limits)
        self._violation = ""

    @classmethod
    def of_daemon(cls) -> Connection:
        """The daemon's end: receives requests, sends responses and notifications."""
        return cls(_TO_DAEMON, _TO_CLIENT)

    @classmethod
    def of_client(cls) -> Connection:
        """A client's end: sends requests, receives responses and notifications."""
        return cls(_TO_CLIENT, _TO_DAEMON)

    @property
    def half_frame_bytes(self) -> int:
        """How many bytes of an incomplete frame are held; 0 between frames.

        Never more than the frame's bound, once the messages of the last `receive` were taken.
        """
        return len(self._buffer)

    def receive(self, chunk: bytes | bytearray | memoryview) -> Iterator[Message]:
        """Take what came from the peer, and yield the messages that it completes, in order.

        They are decoded one by one as the iterator is advanced; bytes of messages that were not taken are kept
        and come first next time.  Raises RemoteProtocolError, after the messages before it, for whatever the
        protocol does not allow; the bytes held are dropped then.
        """
        self._buffer += chunk
        return self._messages()

    def receive_end(self) -> None:
        """Note that the peer will send nothing more.

        Raises RemoteProtocolError when it left in the middle of a frame.
        """
        if self._buffer:
            raise RemoteProtocolError(f"the connection ended after {len(self._buffer)} bytes of a frame")

    def send(self, message: Message) -> bytes:
        """The bytes that say `message` to the peer.

        Raises LocalProtocolError for what cannot be encoded or is too large, and in a request for all that the
        peer would refuse: then nothing must be sent.
        """
        if not isinstance(message, self._outgoing.kinds):
            raise LocalProtocolError(f"a {type(message).__name__.lower()} is not sent in this direction")
        array = to_array(message)
        try:
            frame: bytes = msgpack.packb(array, use_bin_type=True)
            if self._outgoing.walked:
                # What we refuse from a peer we must not send: the bounds, text keys, no extension types, …
                FrameScanner(self._outgoing.limits).end_of_frame(frame)
                from_array(array)
        except (TypeError, ValueError, OverflowError, RemoteProtocolError) as error:
            raise LocalProtocolError(f"cannot be sent: {error}") from error
        if len(frame) > self._outgoing.limits.frame_bytes:
            raise LocalProtocolError(f"cannot be sent: a frame of {len(frame)} bytes")
        return frame

    def _messages(self) -> Iterator[Message]:
        while not self._violation:
            try:
                size = self._scanner.end_of_frame(self._buffer)
                if size is None:
                    return
                message = self._decode(size)
            except RemoteProtocolError as error:
                self._violation = str(error)
                self._buffer.clear()
                break
            # The bytes go before the message is given: whoever takes it may never come back to this iterator.
            del self._buffer[:size]
            self._scanner = FrameScanner(self._incoming.limits)
            yield message
        raise RemoteProtocolError(self._violation)

    def _decode(self, size: int) -> Message:
        # The view ends before the buffer is shortened: a bytearray cannot be while it is looked at.
        with memoryview(self._buffer) as whole, whole[:size] as frame:
            try:
                value = msgpack.unpackb(frame, raw=False, object_pairs_hook=_map_of_unique_keys)
            except UnicodeDecodeError as error:
                raise RemoteProtocolError(f"text that is not UTF-8: {error}") from error
        message = from_array(value)
        if not isinstance(message, self._incoming.kinds):
            kind = type(message).__name__.lower()
            raise RemoteProtocolError(f"a {kind}, which is not for this side to receive")
        return message


def _map_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The map of its pairs; with a key twice, two readers could see two different requests."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RemoteProtocolError("a map with the same key twice")
    return result
