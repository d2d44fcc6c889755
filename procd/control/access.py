"""Who may do what.

Owns rights and the kernel's word for a peer.  For now a peer may do everything or nothing: root and procd's own
user may, nobody else.
"""

from __future__ import annotations

import os
import socket
import struct
from enum import Enum
from typing import NamedTuple

from procd.core import Actor
from procd.errors import NotPermitted

_UCRED = struct.Struct("iII")


class Right(Enum):
    """What a method needs."""

    NONE = "none"
    STATUS = "status"
    LOGS = "logs"
    EVENTS = "events"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SIGNAL = "signal"
    WRITE = "write"
    RELOAD = "reload"
    SHUTDOWN = "shutdown"


#: Rights whose use changes something, and leaves an audit line.
CHANGING = frozenset(Right) - {Right.NONE, Right.STATUS, Right.LOGS, Right.EVENTS}

ALL_RIGHTS = frozenset(Right) - {Right.NONE}


class Peer(NamedTuple):
    """Who is at the other end, as the kernel noted it at connect(2) (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """Ask the kernel."""
        return cls(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))

    @property
    def actor(self) -> Actor:
        """The peer as the one who asked."""
        return Actor(self.uid, self.pid)

    @property
    def rights(self) -> frozenset[Right]:
        """What the peer may do."""
        return ALL_RIGHTS if self.uid in {0, os.geteuid()} else frozenset()


def require(peer: Peer, right: Right) -> None:
    """Let pass who has the right.

    Raises NotPermitted, which says what is missing and nothing else.
    """
    if right is not Right.NONE and right not in peer.rights:
        raise NotPermitted(
            f"uid {peer.uid} lacks the right {right.value!r}",
            "ask as root, or as the user that procd runs as",
            {"right": right.value},
        )
