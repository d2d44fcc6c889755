"""Starting a child: which way is taken.

Owns the choice.  The plain way is a vfork, the standard library's a fork whose child side is in C, the exact
way a fork whose child side is in Python.  The first two are for speed: where they cannot do what is asked for,
or fail without saying where, the exact way is taken, which tells the step and the errno or starts the child.

A child has the descriptors that were meant for it and no others.  All that procd opens is close-on-exec from
birth.  What was not is made so before each spawn, in one system call: descriptors that a shell left open for
us, and those of libraries that do not care.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from procd.errors import SpawnError
from procd.process import exact, plain, stdlib, syscalls

if TYPE_CHECKING:
    from procd.process.launch import Launch


def spawn(launch: Launch) -> int:
    """Start a child: its PID, once its exec has succeeded.  Raises SpawnError; then nothing of it is left."""
    _seal_descriptors()
    pid = None
    if plain.suits(launch.settings):
        pid = plain.spawn(launch)
    elif stdlib.suits(launch):
        pid = stdlib.spawn(launch)
    return exact.spawn(launch) if pid is None else pid


def _seal_descriptors() -> None:
    try:
        syscalls.close_range_on_exec(3)
    except OSError as error:
        if error.errno not in syscalls.NO_CLOSE_RANGE:
            raise SpawnError("descriptors", error.errno or errno.EIO) from error
        for each in tuple(Path("/proc/self/fd").iterdir()):
            _seal(int(each.name))


def _seal(fd: int) -> None:
    try:
        if fd > 2 and os.get_inheritable(fd):
            os.set_inheritable(fd, False)
    except OSError as error:
        if error.errno != errno.EBADF:  # the descriptor by which the directory was listed is closed by now
            raise
