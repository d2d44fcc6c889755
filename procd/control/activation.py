"""A control socket that the service manager passes (sd_listen_fds(3)), in place of one that procd binds.

Owns which descriptor it is.  Its path, mode and group are whoever's who bound it.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

#: Descriptors are passed from this number on (SD_LISTEN_FDS_START).
FIRST = 3
#: The name by which it is found among several: `FileDescriptorName=control` in the unit of the socket.
NAME = "control"
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class NotASocketError(ValueError):
    """What was passed cannot be the control socket."""


def passed_socket(environ: MutableMapping[str, str], pid: int) -> socket.socket | None:
    """Take the control socket that was passed to the process `pid`, or None.

    The variables are taken out of `environ`, and every descriptor that was passed is closed in children.
    Raises NotASocketError, with why, when something was passed that is no control socket.
    """
    variables = {name: environ.pop(name, "") for name in _VARIABLES}
    if variables["LISTEN_PID"] != str(pid) or not variables["LISTEN_FDS"].isdecimal():
        return None
    descriptors = range(FIRST, FIRST + int(variables["LISTEN_FDS"]))
    for fd in descriptors:
        os.set_inheritable(fd, False)
    names = variables["LISTEN_FDNAMES"].split(":")
    named = [fd for fd, name in zip(descriptors, names, strict=False) if name == NAME]
    if not named and len(descriptors) != 1:
        raise NotASocketError(f"{len(descriptors)} sockets were passed, and none is called {NAME!r}")
    chosen = named[0] if named else FIRST
    if not stat.S_ISSOCK(os.fstat(chosen).st_mode):
        raise NotASocketError("what was passed is no socket")
    found = socket.socket(fileno=chosen)
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if found.family != socket.AF_UNIX or found.type != socket.SOCK_STREAM or not listens:
        found.detach()
        raise NotASocketError("what was passed is no Unix stream socket that listens (Accept=no)")
    return found
