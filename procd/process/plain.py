"""The plain way to start a child: a vfork, through os.posix_spawn.

Owns what makes it possible for children without credentials or limits of their own.  Must not know the other
ways: where it cannot do exactly what was asked, or cannot tell exactly what failed, it answers None.

A vfork shares our memory until exec, so it costs the same whatever our size.  But nothing of ours can run in
between, and posix_spawn(3) knows no umask, no limit and (in Python) no directory.  A caller that has only one
thread lets us take these on ourselves for that moment (`Settings.sole_thread`): the child inherits them, and
ours are put back.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from procd.errors import SpawnError
from procd.process import limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.process.launch import Launch, Moves
    from procd.process.settings import Settings

# Plain integers: the enumeration's members would cost more to convert than the system calls to make.
ALL_SIGNALS = tuple(sorted(int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))

# What only exec answers, when the descriptors were checked before and nothing is opened in the child.
_EXEC_ERRORS = frozenset({
    errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP, errno.ETXTBSY, errno.E2BIG,
    errno.ENAMETOOLONG,
})  # fmt: skip


def suits(settings: Settings) -> bool:
    """Whether the plain way can do everything that is asked for."""
    return (
        settings.credentials is None
        and inherits_the_rest(settings)
        and (settings.sole_thread or not _lending(settings))
        and limits.can_be_lent(settings.limits)
    )


def _lending(settings: Settings) -> bool:
    """Whether we have to be like the child for a moment."""
    return settings.directory is not None or settings.umask is not None or bool(settings.limits)


def inherits_the_rest(settings: Settings) -> bool:
    """Whether, beyond credentials, directory, umask and limits, the child is to be as we are."""
    return (
        settings.new_session
        and not settings.directory_as_user
        and not settings.no_new_privileges
        and settings.capabilities is None
        and settings.nice is None
        and settings.io_class is None
        and settings.cpu_affinity is None
        and settings.oom_score_adj is None
        and settings.cgroup is None
        and settings.pid_variable is None
    )


def spawn(launch: Launch) -> int | None:
    """Start the child: its PID, or None if another way has to be taken, or asked for the reason.

    Raises SpawnError where the reason is certain.
    """
    settings = launch.settings
    if not _lending(settings):
        return _spawn(launch, launch.moves)
    with _directory_and_umask_lent(settings) as there, limits.below(settings.limits, launch.moves) as moves:
        if not there or moves is None:
            return None
        with limits.lent(settings.limits):
            return _spawn(launch, moves)


def choose(candidates: tuple[bytes, ...]) -> bytes:
    """The first file that may be executed; the first of all if none may, so that exec says why."""
    if len(candidates) == 1:
        return candidates[0]
    return next((file for file in candidates if os.access(file, os.X_OK)), candidates[0])


def _spawn(launch: Launch, moves: Moves) -> int | None:
    try:
        return os.posix_spawn(
            choose(launch.candidates),
            launch.arguments,
            launch.environment,
            file_actions=_file_actions(launch, moves),
            setsid=True,
            setsigmask=(),
            setsigdef=ALL_SIGNALS,
        )
    except OSError as error:
        if error.errno in _EXEC_ERRORS and len(launch.candidates) == 1 and launch.terminal is None:
            raise SpawnError("exec", error.errno, launch.command) from error
        return None


def _file_actions(launch: Launch, moves: Moves) -> list[tuple[int, ...] | tuple[int, int, bytes, int, int]]:
    actions: list[tuple[int, ...] | tuple[int, int, bytes, int, int]] = []
    if launch.terminal is not None:
        # A session leader without a terminal that opens one is controlled by it from then on (tty_ioctl(4)).
        actions.append((os.POSIX_SPAWN_OPEN, 0, launch.terminal, os.O_RDWR, 0))
    targets = {target for _, target in moves}
    actions += [(os.POSIX_SPAWN_CLOSE, standard) for standard in (0, 1, 2) if standard not in targets]
    actions += [(os.POSIX_SPAWN_DUP2, source, target) for source, target in moves]
    return actions


@contextmanager
def _directory_and_umask_lent(settings: Settings) -> Iterator[bool]:
    """Have the child's directory and umask ourselves for a moment; yields False when they cannot be had."""
    home = mask = None
    try:
        if settings.directory is not None:
            home = _leave_for(settings.directory)
        if settings.umask is not None:
            mask = os.umask(settings.umask)
        yield home is not None or settings.directory is None
    finally:
        if mask is not None:
            os.umask(mask)
        if home is not None:
            os.fchdir(home)
            os.close(home)


def _leave_for(directory: str | bytes) -> int | None:
    """Change into `directory`: the descriptor of the way back, or None when we are still where we were."""
    try:
        home = os.open(".", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.fchdir(home)  # where there is no way back we do not leave
        os.chdir(directory)
    except OSError:
        os.close(home)
        return None
    return home
