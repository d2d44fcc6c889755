"""What a forked child does before exec: a list of steps, each with its name.

Owns the steps and the only order that works.  Must not know how the child came to be, or how a failure is told.

Everything that can be computed is computed here, in the parent: the child only walks the list.  The order:

    session, terminal          first, so that nothing below can be hit by signals for our own group
    cgroup, oom score, nice,   need our rights, and some of them files, so before limits and users
      I/O priority, affinity
    descriptors                need numbers that a limit could forbid
    rlimits                    a hard limit is raised with our rights
    chdir, umask               with our rights; what refuses root (NFS) is tried again as the user
    bounding set, keepcaps     need CAP_SETPCAP, which goes with the user
    setgroups, setgid, setuid  in this order: each needs the rights that the last one drops
    capabilities, ambient set  only now is there something to restrict
    no_new_privs               after all that could be hindered by it
    signals                    last: from here on the child can be killed like any program
    exec
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import termios
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from procd.process import syscalls
from procd.process.plain import ALL_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from procd.config.spec import Credentials
    from procd.process.launch import Launch, Moves
    from procd.process.settings import Settings

# What is refused to us may be allowed to the child's user: a home directory on NFS that root may not enter.
_REFUSED = frozenset({errno.EACCES, errno.EPERM})


class Step(NamedTuple):
    """One step: its name and what it is about, for SpawnError; and the call."""

    stage: str
    subject: str
    act: Callable[[], object]


def steps(launch: Launch) -> tuple[Step, ...]:
    """All steps of a child, exec the last of them."""
    settings = launch.settings
    return (
        *_session(launch),
        *_scheduling(settings),
        Step("descriptors", "", partial(_place_descriptors, launch.moves)),
        *(
            # prlimit and not setrlimit, because Python's setrlimit hides the errno of a refusal.
            Step("rlimit", _limit_name(each.resource), partial(resource.prlimit, 0, each.resource, bounds))
            for each in settings.limits
            for bounds in [(each.soft, each.hard)]
        ),
        *_surroundings(settings),
        Step("signals", "", partial(_restore_signals, _caught_or_ignored())),
        Step("exec", launch.command, partial(_execute, launch, settings.pid_variable)),
    )


def _session(launch: Launch) -> Iterator[Step]:
    if launch.settings.new_session:
        yield Step("setsid", "", os.setsid)
    if launch.terminal is not None:
        slave = next(source for source, target in launch.moves if target == 0)
        yield Step("terminal", os.fsdecode(launch.terminal), partial(fcntl.ioctl, slave, termios.TIOCSCTTY, 0))


def _scheduling(settings: Settings) -> Iterator[Step]:
    if settings.cgroup is not None:
        path = f"{settings.cgroup}/cgroup.procs"
        yield Step("cgroup", settings.cgroup, partial(_write_file, path, b"0"))
    if settings.oom_score_adj is not None:
        adjust = partial(_write_file, "/proc/self/oom_score_adj", b"%d" % settings.oom_score_adj)
        yield Step("oom_score_adj", str(settings.oom_score_adj), adjust)
    if settings.nice is not None:
        yield Step("nice", str(settings.nice), partial(os.setpriority, os.PRIO_PROCESS, 0, settings.nice))
    if settings.io_class is not None:
        level = settings.io_priority or 0
        ioprio = partial(syscalls.set_io_priority, settings.io_class, level)
        yield Step("ioprio", f"class {settings.io_class}, priority {level}", ioprio)
    if settings.cpu_affinity is not None:
        cpus = tuple(sorted(settings.cpu_affinity))
        yield Step("affinity", ",".join(map(str, cpus)), partial(os.sched_setaffinity, 0, cpus))


def _surroundings(settings: Settings) -> Iterator[Step]:
    """Umask, directory, and everything about rights: the directory may need either rights."""
    if settings.umask is not None:
        yield Step("umask", f"{settings.umask:03o}", partial(os.umask, settings.umask))
    directory = None if settings.directory is None else _Directory(settings.directory)
    if directory is not None:
        yield Step("chdir", directory.name, _entering(directory, settings))
    kept = settings.capabilities
    if kept is not None:
        yield Step("bounding set", "", partial(_drop_from_bounding_set, kept, syscalls.last_capability()))
        yield Step("keepcaps", "", partial(syscalls.prctl, syscalls.PR_SET_KEEPCAPS, 1))
    if settings.credentials is not None:
        yield from _identity(settings.credentials)
        if directory is not None:
            yield Step("chdir", directory.name, directory.enter_if_refused)
    yield from _remaining_rights(settings)


def _entering(directory: _Directory, settings: Settings) -> Callable[[], object]:
    if settings.credentials is None:
        return directory.enter
    return directory.wait if settings.directory_as_user else directory.enter_unless_refused


def _identity(credentials: Credentials) -> Iterator[Step]:
    uid, gid, groups = credentials.uid, credentials.gid, list(credentials.groups)
    yield Step("setgroups", ",".join(map(str, groups)), partial(os.setgroups, groups))
    yield Step("setgid", str(gid), partial(os.setresgid, gid, gid, gid))
    yield Step("setuid", str(uid), partial(os.setresuid, uid, uid, uid))


def _remaining_rights(settings: Settings) -> Iterator[Step]:
    kept = settings.capabilities
    if kept is not None:
        yield Step("capabilities", "", partial(syscalls.set_capabilities, syscalls.capability_sets(kept)))
    if kept is not None or settings.credentials is not None:
        # Ours would survive the change of user if we are not root but were given some.
        yield Step("ambient set", "", partial(_set_ambient, tuple(sorted(kept or ()))))
    if settings.no_new_privileges:
        yield Step("no_new_privs", "", partial(syscalls.prctl, syscalls.PR_SET_NO_NEW_PRIVS, 1))


class _Directory:
    """Entering a directory with our rights, or else with those of the child's user."""

    __slots__ = ("_path", "_refused", "name")

    def __init__(self, path: str | bytes) -> None:
        self._path = path
        self._refused = False
        self.name = os.fsdecode(path)

    def enter(self) -> None:
        os.chdir(self._path)

    def wait(self) -> None:
        """Leave it to the child's user."""
        self._refused = True

    def enter_unless_refused(self) -> None:
        try:
            self.enter()
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._refused = True

    def enter_if_refused(self) -> None:
        if self._refused:
            self.enter()


def _write_file(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def _place_descriptors(moves: Moves) -> None:
    """Everything is closed at exec but what is moved now."""
    try:
        syscalls.close_range_on_exec(0)
    except OSError as error:
        if error.errno not in syscalls.NO_CLOSE_RANGE:
            raise
        # All that we opened is close-on-exec from birth; the standard descriptors are what we did not open.
        for standard in {0, 1, 2}.difference(target for _, target in moves):
            os.set_inheritable(standard, False)
    for source, target in moves:
        os.dup2(source, target, inheritable=True)


def _drop_from_bounding_set(kept: frozenset[int], last: int) -> None:
    for capability in range(last + 1):
        if capability not in kept and syscalls.prctl(syscalls.PR_CAPBSET_READ, capability):
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)


def _set_ambient(capabilities: tuple[int, ...]) -> None:
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in capabilities:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, capability)


def _caught_or_ignored() -> tuple[int, ...]:
    return tuple(number for number in ALL_SIGNALS if signal.getsignal(number) is not signal.SIG_DFL)


def _restore_signals(changed: tuple[int, ...]) -> None:
    """Default dispositions before anything is let through: ours would write to our parent's wakeup pipe."""
    for number in changed:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _execute(launch: Launch, pid_variable: str | None) -> None:
    """Try one file after the other, as execvpe(3) does; raise what says most."""
    environment = launch.environment
    if pid_variable is not None:
        # Only here, in the child, is its PID known.
        environment = {**environment, os.fsencode(pid_variable): b"%d" % os.getpid()}
    telling: OSError | None = None
    for file in launch.candidates:
        try:
            os.execve(file, launch.arguments, environment)  # noqa: S606 - a shell is for whoever asks for one
        except OSError as error:
            if telling is None or telling.errno in _NOT_THERE:
                telling = error
    if telling is not None:
        raise telling


def _limit_name(number: int) -> str:
    return _LIMIT_NAMES.get(number, str(number))


_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR})
_LIMIT_NAMES = {getattr(resource, name): name for name in dir(resource) if name.startswith("RLIMIT_")}
