"""A main process that we did not start: one that a program has named itself (MAINPID, sd_notify(3)).

Owns a pidfd of it, through which it is signalled and its end is learned.  That it belongs to the program was
verified by whoever makes one.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from procd.core import Exit
from procd.process.reaper import outcome_of_peek
from procd.process.tree import start_time
from procd.runtime.emptiness import signal_group

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Heir:
    """Calls `on_end` once, from the loop, when the process has ended."""

    __slots__ = ("_fd", "_loop", "_on_end", "exit", "pid", "start")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pid: int, fd: int, on_end: Callable[[Heir], None]
    ) -> None:
        """Take the pidfd over."""
        self._loop = loop
        self._fd = fd
        self._on_end = on_end
        self.pid = pid
        #: When it started, in ticks since boot: with it the number is somebody.
        self.start = start_time(pid) or 0
        #: How it ended, once somebody knows: whoever reaps it tells.
        self.exit: Exit | None = None
        loop.add_reader(fd, self._ended)

    def signal(self, number: int, *, group: bool) -> None:
        """Signal it, or all of its process group.  Raises ProcessLookupError when it has ended."""
        signal.pidfd_send_signal(self._fd, 0 if group else number)
        if group:
            signal_group(os.getpgid(self.pid), number)

    def _ended(self) -> None:
        if self.exit is None:
            self.exit = self._ask()
        self.close()
        self._on_end(self)

    def _ask(self) -> Exit:
        """Look at how it ended without reaping it; only its parent can, and that may not be us."""
        try:
            peeked = os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return Exit()
        return Exit() if peeked is None else outcome_of_peek(peeked)

    def close(self) -> None:
        """Watch it no longer; harmless if that was done."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
