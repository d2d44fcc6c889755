"""How often a pipe is looked at.

A quiet pipe is waited for, and emptied at once.  A busy one would wake us for every write of its program,
400,000 times for 100 MB of short lines, and each look would take the pipe's lock from it: so it is looked at by
the clock, often enough that it does not become full, and it is made larger.
"""

from __future__ import annotations

import fcntl
import time

from procd.output.logger.loop import READABLE
from procd.output.logger.pipe import enlarge

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from procd.output.logger.loop import Loop
    from procd.output.logger.pipe import Pipe

# How a pipe is looked after (`Pipe.pace`)
PAUSED = 0
QUIET = 1
BUSY = 2

#: A pipe that was ready so often in a row, each time so soon after the last, is busy; so is one that
#: gave this much at once.
HOT_TIMES = 4
HOT_S = 0.002
HOT_BYTES = 32768
#: A busy pipe that had nothing for so long is quiet again.
COLD_S = 0.02
#: The least and the longest time between two looks at busy pipes.
LEAST_S = 0.0001
LONGEST_S = 0.002
#: Fuller than this, and we look more often; no fuller than that, and we look less often.
TOO_FULL = 0.35
TOO_EMPTY = 0.12
#: Busy pipes that are large at a time: the memory for that is the kernel's, 1 MiB each.
LARGE_PIPES = 4


class Pace:
    """Looks after the pipes of all logs."""

    __slots__ = ("_busy", "_interval_s", "_large", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._busy: dict[int, Pipe] = {}
        self._large = 0
        self._interval_s = LEAST_S

    def begin(self, pipe: Pipe) -> None:
        """Look after a pipe, as a quiet one."""
        pipe.pace = QUIET
        pipe.heat = 0
        self._loop.watch(pipe.fd, READABLE, pipe.ready)

    def pause(self, pipe: Pipe) -> None:
        """Do not look at a pipe."""
        if pipe.pace == QUIET:
            self._loop.unwatch(pipe.fd)
        elif pipe.pace == BUSY:
            self._cool(pipe)
        pipe.pace = PAUSED

    def _cool(self, pipe: Pipe) -> None:
        del self._busy[pipe.fd]
        if pipe.is_large:
            self._large -= 1
            pipe.is_large = False

    def ready(self, pipe: Pipe) -> None:
        """Empty a quiet pipe that is ready."""
        now = self._loop.now
        moved = pipe.log.turn(pipe)
        if moved <= 0 or pipe.pace != QUIET:
            return
        pipe.heat = pipe.heat + 1 if now - pipe.last < HOT_S else 0
        pipe.last = now
        if pipe.heat >= HOT_TIMES or moved >= HOT_BYTES:
            self._loop.unwatch(pipe.fd)
            pipe.pace = BUSY
            if self._large < LARGE_PIPES:
                self._large += 1
                pipe.is_large = True
                enlarge(pipe.fd)
            pipe.capacity = fcntl.fcntl(pipe.fd, fcntl.F_GETPIPE_SZ)
            self._busy[pipe.fd] = pipe

    def look(self) -> bool:
        """Look at the busy pipes once; returns whether there are any."""
        if not self._busy:
            return False
        if self._interval_s >= LEAST_S:
            time.sleep(self._interval_s)
        now = self._loop.now = time.monotonic()
        fullest = 0.0
        for pipe in tuple(self._busy.values()):
            if pipe.pace != BUSY:
                continue
            moved = pipe.log.empty_once(pipe)
            if moved > 0:
                pipe.last = now
                fullest = max(fullest, moved / pipe.capacity)
            elif now - pipe.last > COLD_S and pipe.pace == BUSY:
                self._cool(pipe)
                self.begin(pipe)
        if fullest > TOO_FULL:
            self._interval_s /= 2
        elif fullest < TOO_EMPTY:
            self._interval_s = min(max(self._interval_s, LEAST_S / 2) * 1.5, LONGEST_S)
        return bool(self._busy)
