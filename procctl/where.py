"""Where procd listens, and the way there: a Unix socket on this machine.

Owns the search for the socket and the connecting.  It must not know what is said on it.
"""

from __future__ import annotations

import os
import socket
import struct

from procctl.absence import no_connection, unreachable

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from procctl.remote import Ssh

SOCKET_OF_ROOT = "/run/procd/procd.sock"
SOCKET_BELOW_RUNTIME_DIRECTORY = "procd/procd.sock"


def find_socket() -> str:
    """The path of the socket where nobody named one: $PROCD_SOCKET, or what INTERFACE says for this user.

    Raises Unreachable where neither the environment nor the user tells.
    """
    named = os.environ.get("PROCD_SOCKET")
    if named:
        return named
    if os.geteuid() == 0:
        return SOCKET_OF_ROOT
    runtime_directory = os.environ.get("XDG_RUNTIME_DIR")
    if runtime_directory:
        return os.path.join(runtime_directory, SOCKET_BELOW_RUNTIME_DIRECTORY)  # noqa: PTH118 - pathlib is slow to import
    raise unreachable(
        "where procd listens is not known: XDG_RUNTIME_DIR is not set",
        "name the socket with -s or PROCD_SOCKET",
    )


class LocalSocket:
    """The way to a daemon on this machine."""

    def __init__(self, path: str) -> None:
        self.where = path

    def connect(self, timeout_s: float | None) -> socket.socket:
        """Connect, and wait for a daemon that is busy; raises what `no_connection` makes of the reason."""
        unconnected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if timeout_s is not None:
                # Not settimeout: with that, connect to a full backlog fails at once (unix(7)).
                whole = int(timeout_s)
                limit = struct.pack("@ll", whole, max(int((timeout_s - whole) * 1e6), 1))
                unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            unconnected.connect(self.where)
        except OSError as error:
            unconnected.close()
            raise no_connection(self.where, error, timeout_s) from error
        return unconnected

    def why_it_ended(self) -> Exception | None:
        """Nobody but the daemon knows."""

    def leave(self) -> None:
        """Nothing is left of a connection that was closed."""


if TYPE_CHECKING:
    Way = LocalSocket | Ssh
