"""How procd's own log looks: structlog to stderr, one line for each event.

A program's output never passes through here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor


class Destination(Protocol):
    """Whoever takes lines, and does not fail."""

    def write(self, line: bytes) -> None:
        """Take a line, with its end."""

    def flush(self) -> None:
        """Let nothing wait."""


class _Stderr:
    """Standard error: a line is written whole, at once, and never fails.

    Whoever reads it may be gone (a pager, a journal that is restarted), or its disk full.  That must not keep a
    program from being started again, which is what the caller may be about to do.
    """

    def write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(2, line)

    def flush(self) -> None:
        """Nothing waits."""


_STDERR = _Stderr()
_destination: Destination = _STDERR


def write_to(destination: Destination | None) -> None:
    """Have lines taken to standard error by somebody else; None: written there, as in the beginning."""
    global _destination  # noqa: PLW0603 - a process has one log
    _destination = destination or _STDERR


def flush() -> None:
    """Let no line wait: this process ends now."""
    _destination.flush()


class _LastStep:
    """What structlog gives its lines to."""

    def __init__(self, *_: object) -> None:
        """Accept what structlog gives to every logger."""

    def msg(self, line: str) -> None:
        _destination.write(f"{line}\n".encode(errors="backslashreplace"))

    log = debug = info = warning = error = critical = exception = msg


def configure(level: str, form: str) -> None:
    """Set the level ("debug" … "error") and the form ("text" or "json") of the log."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_last_steps(form),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=_LastStep,
        cache_logger_on_first_use=True,
    )


def _last_steps(form: str) -> tuple[Processor, ...]:
    if form == "json":
        return structlog.processors.format_exc_info, structlog.processors.JSONRenderer()
    # A plain traceback, whatever is installed: others show the values of variables, and an environment is one.
    plain = structlog.dev.plain_traceback
    return (structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),)
