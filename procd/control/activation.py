"""A control socket that the service manager has passed (sd_listen_fds(3)), in place of one that procd binds.

Owns which descriptor it is.  Its path, mode and group are whoever's who bound it.  The keeper has taken what
was passed, and keeps it for every supervisor.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The name by which it is found among several: `FileDescriptorName=control` in the unit of the socket.
NAME = "control"


class NotASocketError(ValueError):
    """What was passed cannot be the control socket."""


def passed_socket(passed: Iterable[tuple[str, int]]) -> socket.socket | None:
    """Choose the control socket among descriptors that were passed, each with its name; the others are closed.

    None if nothing was passed.  Raises NotASocketError, with why, when something was passed that is no control
    socket.
    """
    descriptors = list(passed)
    if not descriptors:
        return None
    named = [fd for name, fd in descriptors if name == NAME]
    chosen = named[0] if named else descriptors[0][1]
    for _, fd in descriptors:
        if fd != chosen:
            os.close(fd)
    if not named and len(descriptors) != 1:
        os.close(chosen)
        raise NotASocketError(f"{len(descriptors)} sockets were passed, and none is called {NAME!r}")
    if not stat.S_ISSOCK(os.fstat(chosen).st_mode):
        os.close(chosen)
        raise NotASocketError("what was passed is no socket")
    found = socket.socket(fileno=chosen)
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if found.family != socket.AF_UNIX or found.type != socket.SOCK_STREAM or not listens:
        found.close()
        raise NotASocketError("what was passed is no Unix stream socket that listens (Accept=no)")
    return found
