"""Facts about a process from /proc: what it has used, and what it is called."""

from __future__ import annotations

import os
import resource
from time import clock_gettime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Mapping

#: Processes that are asked for at once whose files stay open, at least and at most; and for how many seconds
#: after the last time.  A few are quick anyway; ten thousand would take descriptors that programs need, and so
#: would a thousand where there are few: at most this share of what procd may have open.
FEWEST_KEPT, MOST_KEPT = 128, 1024
KEPT_SHARE = 1 / 16
KEPT_S = 3600.0

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What a process has used so far: CPU seconds of all its threads, resident bytes now."""

    cpu_s: float
    rss_bytes: int


#: Which clock of a process: what its threads were scheduled for (CPUCLOCK_SCHED, linux/posix-timers.h).
_SCHEDULED = 2


def usage(pid: int) -> Usage | None:
    """Ask for the clock of a process and for its memory; None if it is gone.

    /proc/PID/stat has both, and the time of the children that it has waited for, but to read it costs twice as
    much: the kernel puts fifty other values together.  `status` of a thousand programs is mostly this.
    """
    try:
        fd = _open(pid)
    except OSError:
        return None
    try:
        return _usage(pid, fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def _open(pid: int) -> int:
    return os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)


def _usage(pid: int, fd: int) -> Usage:
    # What clock_getcpuclockid(3) would say, which Python has not.
    cpu_s = clock_gettime(~pid << 3 | _SCHEDULED)
    return Usage(cpu_s, int(os.pread(fd, 128, 0).split(b" ", 2)[1]) * _PAGE_BYTES)


class Usages:
    """What many processes have used, for those who ask again and again: a dashboard of a thousand programs.

    Their files stay open for long, because to open and to close one costs three times as much as to read it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._kept: dict[int, int] = {}
        self._end: asyncio.TimerHandle | None = None
        self._most = min(MOST_KEPT, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * KEPT_SHARE))

    def of(self, pids: Collection[int]) -> Mapping[int, Usage | None]:
        """Ask for all of these processes; None for one that is gone."""
        if not FEWEST_KEPT <= len(pids) <= self._most:
            return {pid: usage(pid) for pid in pids}
        for pid in self._kept.keys() - pids:
            os.close(self._kept.pop(pid))
        if self._end is not None:
            self._end.cancel()
        self._end = self._loop.call_later(KEPT_S, self.close)
        return {pid: self._of(pid) for pid in pids}

    def _of(self, pid: int) -> Usage | None:
        try:
            fd = self._kept.get(pid, -1)
            if fd < 0:
                fd = self._kept[pid] = _open(pid)
            return _usage(pid, fd)
        except OSError:
            # It is gone, or its number is another's now; or there is no descriptor left for this.
            fd = self._kept.pop(pid, -1)
            if fd >= 0:
                os.close(fd)
            return usage(pid)

    def close(self) -> None:
        """Keep none any more."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        while self._kept:
            os.close(self._kept.popitem()[1])


def cgroup_usage(directory: str, of_main: Usage | None) -> Usage | None:
    """Read what all processes of a cgroup have used (cgroups(7)); where it does not tell, take `of_main`.

    CPU time is counted in every cgroup, also that of processes that have ended; memory only where that
    controller is enabled.
    """
    cpu = _read(f"{directory}/cpu.stat").split()
    memory = _read(f"{directory}/memory.current")
    if not cpu and of_main is None:
        return None
    cpu_s = int(cpu[1]) / 1e6 if cpu else 0.0
    rss_bytes = int(memory) if memory else of_main.rss_bytes if of_main is not None else 0
    return Usage(cpu_s, rss_bytes)


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)
