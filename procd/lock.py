"""The lock on the runtime directory: one procd for each.

flock(2), not a PID file: the kernel lets go of it when its holder dies, whatever else was left behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from procd.errors import RuntimeDirectoryHeld

LOCK_NAME = "procd.lock"


def hold(runtime_dir: str, pid: int = 0) -> int:
    """Make the runtime directory if there is none, and lock it; returns the descriptor that holds the lock.

    `pid` is who is said to hold it: ours, by default.  Raises RuntimeDirectoryHeld when another procd has it,
    and OSError when it cannot be made.
    """
    Path(runtime_dir).mkdir(mode=0o755, parents=True, exist_ok=True)
    path = f"{runtime_dir}/{LOCK_NAME}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(fd)
        os.close(fd)
        if error.errno == errno.EWOULDBLOCK:
            raise RuntimeDirectoryHeld(runtime_dir, holder) from error
        raise
    sign(fd, pid or os.getpid())
    return fd


def sign(held: int, pid: int) -> None:
    """Say in the lock who holds it."""
    # For people and for the message above, and worth no failure (a full disk); nobody signals what stands here.
    with contextlib.suppress(OSError):
        os.ftruncate(held, 0)
        os.pwrite(held, f"{pid}\n".encode(), 0)


def is_of(held: int, runtime_dir: str) -> bool:
    """Whether a descriptor is the lock on a runtime directory."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(held), os.stat(f"{runtime_dir}/{LOCK_NAME}"))  # noqa: PTH116 - as fstat
    return False


def _holder(fd: int) -> int | None:
    with contextlib.suppress(ValueError, OSError):
        return int(os.read(fd, 32)) or None
    return None
