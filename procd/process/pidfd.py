"""How a process ended that is not our child to reap, asked of a descriptor for it.

Since Linux 6.15 a pidfd still knows the wait status after whoever is the parent has reaped (PIDFD_GET_INFO with
PIDFD_INFO_EXIT, ioctl_pidfd(2)).  Older kernels do not tell.  Before that, /proc does (proc_pid_stat(5)).
"""

from __future__ import annotations

import fcntl
import struct
from typing import TYPE_CHECKING

from procd.process.reaper import outcome_of

if TYPE_CHECKING:
    from procd.core.outcome import Exit

#: The field of /proc/PID/stat, counted from the state.
_EXIT_CODE = 49
#: struct pidfd_info in its first size: the mask, the cgroup, eleven numbers of processes and users, the status.
_INFO = struct.Struct("=QQ11Ii")
_INFO_EXIT = 1 << 3
#: _IOWR(0xFF, 11, struct pidfd_info)
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11


def exit_of_zombie(pid: int, started: int) -> Exit | None:
    """How a process ended that started at this time and is not reaped; None where that is not to be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - a Path costs more than the rest
            fields = stat.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    if fields[0] != b"Z" or int(fields[19]) != started or len(fields) <= _EXIT_CODE:
        return None
    return outcome_of(int(fields[_EXIT_CODE]))


def exit_of(pidfd: int) -> Exit | None:
    """How the process of a pidfd ended; None while it is not reaped, and where the kernel does not tell."""
    request = bytearray(_INFO.size)
    _INFO.pack_into(request, 0, _INFO_EXIT, *[0] * 13)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, request)
    except OSError:
        # ENOTTY, EINVAL: an older kernel; ESRCH: it was reaped before anybody had a descriptor for it.
        return None
    mask, *_, status = _INFO.unpack(request)
    return outcome_of(status) if mask & _INFO_EXIT else None
