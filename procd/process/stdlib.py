"""The standard library's way to start a child under other credentials: its fork, whose child side is in C.

Owns what subprocess.Popen is used for, and its pitfalls.  Must not know the other ways: where this one cannot
do exactly what was asked, or cannot tell exactly what failed, it answers None.

A fork copies page tables, and each page that the child touches afterwards is copied too; so a child side in
Python costs half as much again as this one.  Popen's pitfalls are: an instance whose child lives on goes on a
list when it is collected, and the next Popen reaps it, so its `returncode` is settled here; it makes pipes of
its own, which needs two free descriptor numbers; ignored signals, and a signal mask, go on into the child.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from procd.process import limits, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.process.launch import Launch
    from procd.process.settings import Settings

# Popen gives these back their default; any other ignored signal would be inherited.
_RESTORED_BY_POPEN = frozenset({int(signal.SIGPIPE), int(signal.SIGXFSZ)})
_STANDARD = frozenset({0, 1, 2})
# By our reaper; any other blocked signal is somebody's affair.
_MAY_BE_BLOCKED = frozenset({signal.SIGCHLD})


def suits(launch: Launch) -> bool:
    """Whether this way can do everything that is asked for."""
    settings = launch.settings
    return (
        _credentials_suit(settings)
        and plain.inherits_the_rest(settings)
        and (settings.sole_thread or not settings.limits)
        and limits.can_be_lent(settings.limits)
        and launch.terminal is None
        and {target for _, target in launch.moves} == _STANDARD
        and signal.pthread_sigmask(signal.SIG_BLOCK, ()) <= _MAY_BE_BLOCKED
        and not _ignored_signals()
    )


def spawn(launch: Launch) -> int | None:
    """Start the child: its PID, or None if the exact way has to be asked for the reason."""
    settings, credentials = launch.settings, launch.settings.credentials
    source = {target: source for source, target in launch.moves}
    with _empty_mask(), _room_for_the_error_pipe(settings), limits.lent(settings.limits):
        try:
            process = subprocess.Popen(
                launch.arguments,
                executable=plain.choose(launch.candidates),
                env=launch.environment,
                cwd=settings.directory,
                umask=-1 if settings.umask is None else settings.umask,
                stdin=source[0],
                stdout=source[1],
                stderr=source[2],
                close_fds=False,  # all of ours are close-on-exec from birth
                start_new_session=True,
                user=None if credentials is None else credentials.uid,
                group=None if credentials is None else credentials.gid,
                extra_groups=None if credentials is None else credentials.groups,
            )
        except OSError:
            return None
    # Settled, so that nothing of the standard library ever waits for this child.
    process.returncode = 0
    return process.pid


def _credentials_suit(settings: Settings) -> bool:
    credentials = settings.credentials
    # Without root, capabilities would survive the change; and CPython 3.12.0 ignores an empty list of groups
    # (CVE-2023-6507).
    return credentials is None or (os.geteuid() == 0 and bool(credentials.groups))


def _ignored_signals() -> bool:
    return any(
        signal.getsignal(number) is signal.SIG_IGN
        for number in plain.ALL_SIGNALS
        if number not in _RESTORED_BY_POPEN
    )


@contextmanager
def _room_for_the_error_pipe(settings: Settings) -> Iterator[None]:
    """Give Popen two low descriptor numbers for its pipe, which it makes under the lowered limit."""
    if not settings.limits:
        yield
        return
    limits.release_descriptors()
    try:
        yield
    finally:
        limits.hold_descriptors()


@contextmanager
def _empty_mask() -> Iterator[None]:
    """Let SIGCHLD through for the moment of the fork, because the child inherits the mask.

    One that comes meanwhile goes to the loop's handler, which the reaper has for this.
    """
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        if mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
