"""Facts about a process from /proc: what it has used, and what it is called."""

from __future__ import annotations

import os
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What a process has used so far: CPU seconds of it and its reaped children, resident bytes now."""

    cpu_s: float
    rss_bytes: int


def usage(pid: int) -> Usage | None:
    """Read /proc/PID/stat (proc(5)); None if the process is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(fd, 2048)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = line[line.rfind(b")") + 2 :].split(b" ", 22)
    ticks = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    return Usage(ticks / _TICKS_PER_S, int(fields[21]) * _PAGE_BYTES)


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
