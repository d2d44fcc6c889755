"""Facts about a process from /proc: what it has used, and what it is called."""

from __future__ import annotations

import os
from time import clock_gettime
from typing import NamedTuple

_READ = os.O_RDONLY | os.O_CLOEXEC
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What a process has used so far: CPU seconds of all its threads, resident bytes now."""

    cpu_s: float
    rss_bytes: int


#: Which clock of a process: the time that its threads were scheduled for (CPUCLOCK_SCHED, linux/posix-timers.h).
_SCHEDULED = 2


def usage(pid: int) -> Usage | None:
    """Ask for the clock of a process and for its memory; None if it is gone.

    /proc/PID/stat has both, and the time of the children that it has waited for, but to read it costs twice as
    much: the kernel puts fifty other values together.  `status` of a thousand programs is mostly this.
    """
    try:
        # What clock_getcpuclockid(3) would say, which Python has not.
        cpu_s = clock_gettime(~pid << 3 | _SCHEDULED)
        fd = os.open(f"/proc/{pid}/statm", _READ)
    except OSError:
        return None
    try:
        resident = os.read(fd, 128).split(b" ", 2)[1]
    except OSError:
        return None
    finally:
        os.close(fd)
    return Usage(cpu_s, int(resident) * _PAGE_BYTES)


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
        fd = os.open(path, _READ)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)
