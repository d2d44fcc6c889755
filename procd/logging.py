"""How procd's own log looks: structlog to stderr, one line for each event.

A program's output never passes through here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor


class _Stderr:
    """Standard error as structlog's last step: a line is written whole, at once, and never fails.

    Whoever reads it may be gone (a pager, a journal that is restarted), or its disk full.  That must not keep a
    program from being started again, which is what the caller may be about to do.
    """

    def __init__(self, *_: object) -> None:
        """Accept what structlog gives to every logger."""

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode(errors="backslashreplace"))

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
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )


def _last_steps(form: str) -> tuple[Processor, ...]:
    if form == "json":
        return structlog.processors.format_exc_info, structlog.processors.JSONRenderer()
    # A plain traceback, whatever is installed: others show the values of variables, and an environment is one.
    plain = structlog.dev.plain_traceback
    return (structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),)
