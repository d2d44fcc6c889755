"""procd's own log on its way to standard error: by the logger, like every other log.

Standard error may be a file on a disk that hangs, or a pipe that nobody empties, and supervision waits for
neither.  What was said in one turn of the loop is handed over together, which is also the cheapest way.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import structlog

from procd import logging
from procd.config.spec import LogSpec
from procd.output.own_lines import first_together
from procd.output.streams import StreamKey

if TYPE_CHECKING:
    import asyncio

    from procd.output.logs import Logs

log = structlog.get_logger()

#: No program has this name.
KEY = StreamKey("", "stderr")
_SPEC = LogSpec("/dev/stderr")
#: Bytes that wait for a logger that takes no more; beyond that lines are lost, and counted.
_MOST_WAITING_BYTES = 1 << 20
#: Bytes of one message, which a pipe has to have room for.
_MESSAGE_BYTES = 16 * 1024
#: Seconds after which a logger that took no more is asked again.
_RETRY_S = 1.0


class OwnLog:
    """Where the log goes between `begin` and `close`; before and after that it is written at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, logs: Logs) -> None:
        self._loop = loop
        self._logs = logs
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = self._lost = 0
        self._flushes: asyncio.Handle | None = None

    def begin(self) -> None:
        """Have the log written by the logger, which is there or will be."""
        self._logs.open(KEY, _SPEC)
        logging.write_to(self)

    def write(self, line: bytes) -> None:
        """Take a line."""
        if self._waiting_bytes + len(line) > _MOST_WAITING_BYTES:
            self._lost += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._flushes is None:
            self._flushes = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushes = None
        self.flush()
        if self._waiting:
            self._flushes = self._loop.call_later(_RETRY_S, self._flush)
        else:
            self._tell_loss()

    def _tell_loss(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            log.warning("lines of this log are lost: nobody took them", lines=lost)

    def flush(self) -> None:
        """Hand over what waits, as far as it is taken: whoever dies now, it is written."""
        while self._waiting:
            lines, count = first_together(self._waiting, _MESSAGE_BYTES)
            if not self._logs.write(KEY, lines):
                return
            for _ in range(count):
                self._waiting.popleft()
            self._waiting_bytes -= len(lines)

    def close(self) -> None:
        """Hand over what waits: the logger is about to end, or another supervisor to come."""
        if self._flushes is not None:
            self._flushes.cancel()
            self._flushes = None
        self.flush()
        logging.write_to(None)
        # Nobody will ask the logger again.
        self._lost += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._tell_loss()
