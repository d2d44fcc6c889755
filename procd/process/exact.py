"""The exact way to start a child: a fork, and every step in Python with its name.

Owns the fork and how a failing step is told.  Must not know what the steps are.

A child that fails writes the number of the step and its errno to a pipe and ends; one that succeeds closes the
pipe by its exec.  So a failure is never mistaken for a start, and nothing runs in the child's name after it.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import signal
import struct
from typing import TYPE_CHECKING, NoReturn

from procd.errors import SpawnError
from procd.process.plain import ALL_SIGNALS
from procd.process.steps import steps

if TYPE_CHECKING:
    from procd.process.launch import Launch
    from procd.process.steps import Step

_FAILURE = struct.Struct("=ii")


def spawn(launch: Launch) -> int:
    """Start the child: its PID, once its exec has succeeded.

    Raises SpawnError with the stage that failed; then the child is gone and reaped.
    """
    walk = steps(launch)
    told, tell = _error_pipe(max((target for _, target in launch.moves), default=0))
    try:
        pid = _fork(walk, tell)
    except OSError as error:
        os.close(told)
        raise SpawnError("fork", error.errno or errno.EAGAIN) from error
    finally:
        os.close(tell)
    try:
        failure = os.read(told, _FAILURE.size)
    finally:
        os.close(told)
    if failure:
        os.waitpid(pid, 0)
        number, reason = _FAILURE.unpack(failure)
        raise SpawnError(walk[number].stage, reason, walk[number].subject)
    return pid


def _error_pipe(above: int) -> tuple[int, int]:
    """A pipe whose write end is in nobody's way: the child's descriptors all have lower numbers."""
    try:
        told, low = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise SpawnError("pipe", error.errno or errno.EMFILE) from error
    if low > above:
        return told, low
    try:
        return told, fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, above + 1)
    except OSError as error:
        os.close(told)
        raise SpawnError("pipe", error.errno or errno.EMFILE) from error
    finally:
        os.close(low)


def _fork(walk: tuple[Step, ...], tell: int) -> int:
    """Fork with all signals blocked: our handlers, run in the child, would write to our loop's wakeup pipe."""
    collecting = gc.isenabled()
    gc.disable()  # a collection in the child would copy every page that it looks at
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
    pid = -1
    try:
        pid = os.fork()
        if pid == 0:
            _become(walk, tell)
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if collecting:
                gc.enable()
    return pid


def _become(walk: tuple[Step, ...], tell: int) -> NoReturn:
    """Walk the steps; in the child, and never out of it."""
    number = 0
    try:
        for number, step in enumerate(walk):  # noqa: B007 - the number is what is told
            step.act()
    except OSError as error:
        reason = error.errno or errno.EIO
    except MemoryError:
        reason = errno.ENOMEM
    except BaseException:  # noqa: BLE001 - nothing may leave this function in a child
        reason = errno.EINVAL
    else:
        reason = errno.EIO  # exec does not come back
    try:
        os.write(tell, _FAILURE.pack(number, reason))
    finally:
        os._exit(127)
