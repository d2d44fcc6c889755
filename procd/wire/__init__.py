"""MessagePack-RPC, sans-IO: bytes in, messages out, and back.

Owns the framing, the shapes of messages and every bound on what a peer may send.  The daemon and procctl
are both written on it, so the protocol is decoded in one place.  It must not know sockets, clocks, methods
or programs: whoever owns the socket feeds it bytes and sends the bytes that it returns.

    connection = Connection.of_daemon()
    for message in connection.receive(chunk):      # raises RemoteProtocolError at the first violation
        socket.send(connection.send(Response(message.id, None, answer)))
"""

from __future__ import annotations

from procd.wire.connection import Connection
from procd.wire.limits import (
    MAX_CHUNK_BYTES,
    MAX_METHOD_LENGTH,
    MAX_REQUEST_ID,
    REPLY_LIMITS,
    REQUEST_LIMITS,
    Limits,
)
from procd.wire.messages import Message, Notification, Request, Response

__all__ = [
    "MAX_CHUNK_BYTES",
    "MAX_METHOD_LENGTH",
    "MAX_REQUEST_ID",
    "REPLY_LIMITS",
    "REQUEST_LIMITS",
    "Connection",
    "Limits",
    "Message",
    "Notification",
    "Request",
    "Response",
]
