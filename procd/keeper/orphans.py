"""What /proc says of processes: whose child one is, when it started, who there is beside us."""

from __future__ import annotations

import os


def identity(pid: int) -> tuple[int, int, int]:
    """The parent of a process, the ticks since boot when it started, and its session; 0 if unknown.

    proc_pid_stat(5).
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return 0, 0, 0
    try:
        # Its name, in parentheses, may contain anything.
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
        return int(fields[1]), int(fields[19]), int(fields[3])
    except (OSError, IndexError, ValueError):
        return 0, 0, 0
    finally:
        os.close(fd)


def rest() -> set[int]:
    """Our children; for the first process of a container, everybody else in it."""
    us = os.getpid()
    if not _proc_is_ours(us):
        return set()
    names = os.listdir("/proc")  # noqa: PTH208 - pathlib is not small
    pids = {int(name) for name in names if name.isdecimal()}
    pids.discard(us)
    return pids if us == 1 else {pid for pid in pids if identity(pid)[0] == us}


def _proc_is_ours(us: int) -> bool:
    """Whether /proc is there, and shows the numbers of our PID namespace and not of another."""
    try:
        return os.readlink("/proc/self") == str(us)  # noqa: PTH115 - as above
    except OSError:
        return False
