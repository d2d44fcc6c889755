"""What procctl's exit status says; documented API (docs/reference/procctl.md)."""

from __future__ import annotations

from procd.errors import NoSuchProgram, NotPermitted, TimedOut, Unreachable

DONE = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
NO_SUCH_PROGRAM = 4
NOT_PERMITTED = 5
UNREACHABLE = 6
TIMED_OUT = 7

# What a shell shows for a program that a signal ended: this and its number, as for SIGINT and SIGPIPE.
SIGNALLED = 128
INTERRUPTED = SIGNALLED + 2
OUTPUT_CLOSED = SIGNALLED + 13

_OF_ERROR = (
    (NoSuchProgram, NO_SUCH_PROGRAM),
    (NotPermitted, NOT_PERMITTED),
    (Unreachable, UNREACHABLE),
    (TimedOut, TIMED_OUT),
)


def of_error(error: Exception) -> int:
    """The exit status that tells this error from the others; 1 for every refusal without one of its own."""
    for kind, status in _OF_ERROR:
        if isinstance(error, kind):
            return status
    return FAILED
