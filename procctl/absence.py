"""Why nobody answers: the errors of a connection that is not there, not any more, or not procd's.

Owns the words, for the blocking client and the asyncio one alike.  `where` is what was connected to: the path
of a socket, or a host and a path.
"""

from __future__ import annotations

import errno

from procd.errors import NotPermitted, TimedOut, Unreachable
from procd.quantities import format_duration

START_HINT = "is procd running? start it with `procd run`, or name its socket with -s or PROCD_SOCKET"
MAY_HAVE_HAPPENED = "what was asked for may have happened; look with `procctl status`"


def unreachable(message: str, hint: str) -> Unreachable:
    """Build the error, with what to do in its notes."""
    error = Unreachable(message)
    if hint:
        error.add_note(hint)
    return error


def no_connection(where: str, error: OSError, timeout_s: float | None) -> Exception:
    """A socket that could not be connected to."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return NotPermitted(
            f"you may not connect to {where} ({error.strerror})",
            "run procctl as root, or as the user that procd runs as; who may connect is the mode of the socket",
        )
    if error.errno == errno.EAGAIN and timeout_s is not None:
        return TimedOut(
            f"the daemon on {where} took no connection within {format_duration(timeout_s)}",
            "it is too busy, or stopped; allow more with --timeout",
        )
    return unreachable(f"no daemon answers on {where} ({error.strerror or error})", START_HINT)


def lost(where: str, how: str) -> Unreachable:
    """A connection that ended before it was done with."""
    return unreachable(f"the daemon on {where} closed the connection {how}".rstrip(), MAY_HAVE_HAPPENED)


def stranger(where: str, why: str) -> Unreachable:
    """Something answers, and it is no procd."""
    return unreachable(
        f"what answers on {where} does not speak procd's protocol: {why}",
        "name the socket of procd with -s or PROCD_SOCKET",
    )


def gave_up(deed: str, timeout_s: float) -> TimedOut:
    """An answer that did not come in time."""
    return TimedOut(
        f"the daemon did not {deed} within {format_duration(timeout_s)}",
        "what was asked for may still happen; look with `procctl status`, or allow more with --timeout",
    )
