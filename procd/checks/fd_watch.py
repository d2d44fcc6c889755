"""Readiness on a descriptor: a newline means ready, as s6 has it (s6's notifywhenup).

Owns the read end of the pipe, from when it is given until the line is read, the writer is gone or nobody wants
to know any more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_CHUNK_BYTES = 4096


class FdWatch:
    """Calls `on_ready` at the first newline, or `on_lost` when the pipe ends without one; then closes it."""

    __slots__ = ("_fd", "_loop", "_on_lost", "_on_ready")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        on_ready: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Take `fd` over."""
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._on_ready = on_ready
        self._on_lost = on_lost
        loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            chunk = os.read(self._fd, _CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        if b"\n" in chunk:
            self.cancel()
            self._on_ready()
        elif not chunk:
            self.cancel()
            self._on_lost()

    def cancel(self) -> None:
        """Close it, and say nothing."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
