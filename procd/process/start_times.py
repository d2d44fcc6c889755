"""When a child of ours started, mostly without asking for it.

Whoever reads /proc/PID/stat of a process that is in execve(2) waits until that is over: on two processors 0.15
ms of the half that a spawn takes.  But its start lies between a moment before the fork and a moment after it,
and it is told in ticks of 10 ms: mostly both moments are in the same one, and then that is it.
"""

from __future__ import annotations

import os
import time

from procd.process.tree import start_time

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def ticks() -> int:
    """Now, as the start of a process is told (proc_pid_stat(5), field 22): in clock ticks since boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK_NS


class StartTimes:
    """Trusts the clock as soon as it was seen once that the kernel tells the start of a child by it."""

    __slots__ = ("_agrees",)

    def __init__(self) -> None:
        self._agrees = False

    def of_child(self, pid: int, began: int) -> int:
        """When a child of ours has started that was forked just now, and not before `began` (`ticks`).

        0 if it is not to be learned: somebody else has reaped it.
        """
        now = ticks()
        if self._agrees and now == began:
            return now
        started = start_time(pid)
        if started is None:
            return 0
        self._agrees = began <= started <= now
        return started
