"""One life of a program: from the spawn to the last byte of its output.

Owns how a spec becomes a process.  Must not decide anything: what a life's end means is the core's business.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, Self

from procd import faults
from procd.config import environment
from procd.config.spec import CheckKind, Output, Scheduling
from procd.config.spec import Input as InputKind
from procd.errors import ProcessExitedAlready, SpawnError
from procd.output import journald
from procd.output.streams import STREAMS, StreamKey
from procd.process import NULL, AdoptedProcess, Limit, Process, ProcessProtocol, Settings, Terminal
from procd.process.start_times import StartTimes, ticks
from procd.process.tree import COOKIE_VARIABLE
from procd.runtime.cgroups import Cgroups
from procd.runtime.console import FIRST_SIZE, Console, Keyboard
from procd.runtime.input import Input
from procd.runtime.keeping import IN, READY, LifeRecord, NotKeptError
from procd.runtime.sockets import Sockets

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from procd.config.spec import ProgramSpec
    from procd.core import Exit
    from procd.output.logs import Logs
    from procd.process import ChildFd, Reaper
    from procd.runtime.heir import Heir
    from procd.runtime.keeping import Keeping
    from procd.runtime.present_memory import PresentMemory


class Surroundings:
    """What all lives have in common: where they are born and what they are given."""

    __slots__ = (
        "cgroups", "environ", "journal_socket", "limits", "logs", "loop", "memory", "notify_path", "own_ids",
        "reaper", "sockets", "start_times",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reaper: Reaper,
        logs: Logs,
        environ: Mapping[str, str],
        limits: tuple[Limit, ...],
        memory: PresentMemory | None = None,
    ) -> None:
        self.loop = loop
        self.reaper = reaper
        self.logs = logs
        self.environ = environ
        self.limits = limits
        self.sockets = Sockets(memory)
        #: What outlives us; None where nothing does.
        self.memory = memory
        self.cgroups = Cgroups()
        self.notify_path = ""
        self.journal_socket = journald.SOCKET
        self.own_ids = (os.geteuid(), os.getegid())
        self.start_times = StartTimes()


def launch(  # noqa: PLR0913 - what a life has and a hook has not
    protocol: ProcessProtocol,
    spec: ProgramSpec,
    command: Sequence[str],
    cookie: str,
    around: Surroundings,
    *,
    child_fds: Mapping[int, ChildFd] | None = None,
    console: Console | None = None,
    logged: bool = True,
    begun: Callable[[str, int], None] | None = None,
    intend: Callable[[Mapping[str, int]], None] | None = None,
) -> Process:
    """Execute a command as a program is executed: as its user, in its place, with its output in its log.

    `child_fds` are what it has besides; with a `console` it gets a terminal, which is connected to that.
    `begun` is called, some time later, with each stream and where its output begins in the log; `intend` with
    our ends of its pipes, when nothing is started yet, and what it raises is raised.  Raises SpawnError; then
    nothing exists: no process, no descriptor.
    """
    variables = environment.build(spec, around.environ)
    variables[COOKIE_VARIABLE] = cookie
    sockets = around.sockets.descriptors(spec.sockets) if child_fds is not None else {}
    if sockets:
        variables["LISTEN_FDS"] = str(len(sockets))
        variables["LISTEN_FDNAMES"] = ":".join(spec.sockets)
    if wants_notify(spec):
        variables["NOTIFY_SOCKET"] = around.notify_path
        if spec.health is not None and spec.health.watchdog_s > 0:
            variables["WATCHDOG_USEC"] = str(int(spec.health.watchdog_s * 1e6))
    # What is run beside a life writes to the pipe of that, so that the log has all of it as it came.
    beside = child_fds is None
    with _Outputs(spec if logged else None, around, beside=beside) as outputs:

        def prepare(ours: Mapping[int, int]) -> None:
            if console is not None:
                console.prepare(ours)
            if intend is not None:
                typed = dict(zip([IN], ours.values(), strict=False))
                intend(outputs.ends | typed)

        process = Process(
            around.loop, command[0], command, variables, None, protocol,
            child_fds={0: NULL, **outputs.child_fds, **sockets, **(child_fds or {})},
            settings=_settings(spec, around, "LISTEN_PID" if sockets else None), reaper=around.reaper,
            terminal=None if console is None else Terminal(*FIRST_SIZE),
            before_spawn=prepare,
        )  # fmt: skip
        if console is not None:
            console.open(process, outputs.take_write_end())
        outputs.hand_over(process.pid, begun)
    return process


def wants_notify(spec: ProgramSpec) -> bool:
    """Whether a program is told where to say how it is."""
    return (spec.ready is not None and spec.ready.kind is CheckKind.NOTIFY) or (
        spec.health is not None and spec.health.check.kind is CheckKind.NOTIFY
    )


def reads_log(spec: ProgramSpec) -> bool:
    """Whether a program is ready when a line of its log says so."""
    return spec.ready is not None and spec.ready.kind is CheckKind.LOG


def _settings(spec: ProgramSpec, around: Surroundings, pid_variable: str | None) -> Settings:
    scheduling = spec.scheduling or _USUAL
    limited = {limit.resource for limit in spec.limits}
    own = tuple(Limit(limit.resource, limit.soft, limit.hard) for limit in spec.limits)
    return Settings(
        credentials=spec.credentials,
        directory=spec.directory,
        directory_as_user=spec.directory_as_user,
        umask=spec.umask,
        limits=own + tuple(limit for limit in around.limits if limit.resource not in limited),
        nice=scheduling.nice,
        io_class=scheduling.io_class,
        io_priority=scheduling.io_priority,
        cpu_affinity=scheduling.cpu_affinity,
        oom_score_adj=scheduling.oom_score_adj,
        no_new_privileges=spec.no_new_privileges,
        capabilities=spec.capabilities,
        cgroup=None if spec.cgroup is None else around.cgroups.enter(spec.name, spec.cgroup),
        pid_variable=pid_variable,
        sole_thread=True,
    )


_USUAL = Scheduling()
#: Most lives ask for nothing of the kind, and a thousand empty dictionaries are memory, too.
_NO_STARTS: Mapping[str, int] = MappingProxyType({})


class Owner(Protocol):
    """Whoever is told of the end of lives."""

    def life_exiting(self, life: Life) -> None:
        """Its process is dead and not yet reaped: its group cannot be anybody else's."""

    def life_exited(self, life: Life, ended: Exit) -> None:
        """It was reaped."""


class Life(ProcessProtocol):
    """A process, its stdin, and who is told of its end."""

    __slots__ = (
        "_owner", "adopted", "asked_fd", "cgroup", "console", "cookie", "ended", "heir",
        "input", "keeping", "log_starts", "name", "on_log_begun", "on_over", "over", "phase", "pid", "ready_fd",
        "said_ready", "signalled", "start", "status",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        cookie: str,
        keeping: Keeping,
        owner: Owner,
    ) -> None:
        self.name = name
        self.cookie = cookie
        self.keeping = keeping
        #: An earlier supervisor has started it: it is no child of ours.
        self.adopted = False
        #: When its first process started, in ticks since boot; 0 where nobody would ask.
        self.start = 0
        #: The last step of its stop whose signal it was sent.
        self.signalled = -1
        #: How it ended.
        self.ended: Exit | None = None
        self.input: Input | None = None
        #: Its terminal, if it has one.
        self.console: Console | None = None
        self.pid = 0
        #: The cgroup of its program, if it has one of its own.
        self.cgroup: str | None = None
        #: The main process that it has named in place of its first one.
        self.heir: Heir | None = None
        #: Its end was told.
        self.over = False
        #: Who is told of it.
        self.on_over: tuple[Callable[[Exit], None], ...] = ()
        #: Where the output of this life begins in the log of each stream, as soon as that is known, if somebody
        #: wants to know; and who is told.
        self.log_starts = _NO_STARTS
        self.on_log_begun: tuple[Callable[[], None], ...] = ()
        #: The read end of the pipe on which it says that it is ready; -1 without one, or when it was taken.
        self.ready_fd = -1
        #: The same, where a check has it; -1 when it has told.
        self.asked_fd = -1
        #: What it last said of itself (STATUS, sd_notify(3)).
        self.status = ""
        #: What it does, by its own word: "reloading", "stopping", or nothing of the kind.
        self.phase = ""
        #: It has said that it is ready (READY=1), perhaps before anybody asked.
        self.said_ready = False
        self._owner = owner

    def begin(self, spec: ProgramSpec, around: Surroundings) -> None:
        """Execute the program.

        Raises SpawnError, and NotKeptError; then nothing of this life exists: no process, no descriptor.
        """
        self.console = Console(around.loop) if spec.terminal else None
        typed = spec.stdin is InputKind.PIPE
        began = ticks()
        child_fds: dict[int, ChildFd] = {0: "w"} if typed and not spec.terminal else {}
        with ExitStack() as cleanup:
            if spec.ready is not None and spec.ready.kind is CheckKind.FD:
                read_end, write_end = os.pipe2(os.O_CLOEXEC)
                cleanup.callback(os.close, write_end)
                child_fds[spec.ready.fd] = write_end
                self.ready_fd = read_end
            try:
                process = launch(
                    self, spec, spec.command, self.cookie, around, child_fds=child_fds, console=self.console,
                    begun=self.log_begun if reads_log(spec) else None, intend=self._intend,
                )  # fmt: skip
            except (SpawnError, NotKeptError):
                self.let_go()
                raise
        faults.at("spawn.forked")
        self.pid = process.pid
        self.start = around.start_times.of_child(self.pid, began)
        self.cgroup = around.cgroups.path(spec.name, spec.cgroup)
        self._take_input(process, typed=typed)
        self.keeping.born(self, self.ends())

    def _intend(self, ends: Mapping[str, int]) -> None:
        ready = {READY: self.ready_fd} if self.ready_fd >= 0 else {}
        self.keeping.intend(self.name, self.cookie, {**ends, **ready})
        faults.at("spawn.intended")

    def _take_input(self, process: Process, *, typed: bool) -> None:
        if self.console is not None:
            self.input = Keyboard(self.name, process.descriptor(1))
        elif typed:
            self.input = Input(self.name, process.descriptor(0))

    def ends(self) -> dict[str, int]:
        """Our ends that it would miss, by the kind of their record."""
        ready = max(self.ready_fd, self.asked_fd)
        typed = self.process.fileno(0 if self.console is None else 1) if self.input is not None else -1
        return {kind: fd for kind, fd in ((READY, ready), (IN, typed)) if fd >= 0}

    def adopt(
        self, record: LifeRecord, spec: ProgramSpec, around: Surroundings, pidfd: int, ends: Mapping[str, int]
    ) -> None:
        """Go on with a life that an earlier supervisor began; the pidfd (-1: it is dead) and `ends` are taken.

        `ends` are those of `ends`.
        """
        self.adopted = True
        self.pid, self.start = record.pid, record.start
        self.cgroup, self.status, self.phase = record.cgroup, record.status, record.phase
        self.said_ready = record.said_ready
        self.signalled = record.signalled
        self.log_starts = dict(record.log_starts)
        self.ready_fd = ends.get(READY, -1)
        typed = ends.get(IN, -1)
        wiring = {}
        if typed >= 0 and spec.terminal:
            self.console = Console(around.loop)
            self.console.prepare({1: typed})
            wiring = {1: (typed, "rw")}
        elif typed >= 0:
            wiring = {0: (typed, "w")}
        process = AdoptedProcess(around.loop, self.pid, pidfd, spec.command[0], self, wiring)
        if self.console is not None:
            self.console.open(process, _output_of(self, spec, around))
        self._take_input(process, typed=bool(wiring))
        if reads_log(spec):
            for stream in STREAMS:
                if stream not in self.log_starts:
                    key = StreamKey(self.name, stream)
                    around.logs.ask_begun(key, self.pid, partial(self.log_begun, stream))

    def record(self) -> LifeRecord:
        """What is to be known of it."""
        return LifeRecord(
            cookie=self.cookie,
            pid=self.pid,
            start=self.start,
            cgroup=self.cgroup,
            log_starts=dict(self.log_starts),
            status=self.status,
            phase=self.phase,
            said_ready=self.said_ready,
            heir=None if self.heir is None else (self.heir.pid, self.heir.start),
            exit=self.ended,
            signalled=self.signalled,
        )

    def log_begun(self, stream: str, offset: int) -> None:
        """Its output begins at this offset of the log of a stream."""
        if stream in self.log_starts:
            # Another pipe of the same life: a terminal that was taken over.
            return
        self.log_starts = {**self.log_starts, stream: offset}
        self.keeping.life(self)
        for callback in self.on_log_begun:
            callback()

    @property
    def says(self) -> str:
        """What it says of itself, in one line; empty for a program that says nothing."""
        if not self.phase:
            return self.status
        return f"{self.phase}: {self.status}" if self.status else f"says that it is {self.phase}"

    def signal(self, number: int, *, group: bool) -> None:
        """Signal its main process, or all of its group.  Raises ProcessExitedAlready, PermissionError."""
        if self.heir is None:
            self.process.signal_process(number, group=group)
            return
        try:
            self.heir.signal(number, group=group)
        except ProcessLookupError as error:
            raise ProcessExitedAlready(f"{self.name} (pid {self.heir.pid}) has ended") from error

    def tell_end(self, ended: Exit) -> None:
        """Tell everybody who wants to know that it is over."""
        callbacks, self.on_over = self.on_over, ()
        for callback in callbacks:
            callback(ended)

    def drain(self) -> None:
        """Move what its terminal shows into the pipe of its log."""
        if self.console is not None:
            self.console.drain()

    def let_go(self) -> None:
        """Close what nobody has taken over."""
        if self.console is not None:
            self.console.close()
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1
        if self.heir is not None:
            self.heir.close()

    # What the process tells

    def process_exiting(self) -> None:
        """It is dead and not yet reaped: its group cannot be anybody else's."""
        self._owner.life_exiting(self)

    def in_connection_lost(self) -> None:
        """Nobody reads the stdin any more."""
        if self.input is not None:
            self.input.stop_producing()
            self.keeping.let_go(self.name, IN)

    def process_exited(self, exit: Exit) -> None:  # noqa: A002 - the field's word
        """It was reaped."""
        self._owner.life_exited(self, exit)


def _output_of(life: Life, spec: ProgramSpec, around: Surroundings) -> int:
    """A new pipe into the log of what a terminal shows: its write end."""
    key = StreamKey(spec.name, "stdout")
    if not around.logs.keeps(key) and spec.stdout_log is not None:
        around.logs.open(key, spec.stdout_log, spec.program, spec.instance)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)
    around.logs.attach(key, read_end, life.pid)
    return write_end


class _Outputs:
    """The outputs of a life about to begin: made, given to the child, and the read ends to the logs."""

    __slots__ = ("_beside", "_logs", "_owner", "_read_ends", "_write_ends", "child_fds")

    def __init__(self, spec: ProgramSpec | None, around: Surroundings, *, beside: bool) -> None:
        """Make what a spec asks for, or share it; nothing for None."""
        logs = self._logs = around.logs
        self._beside = beside
        self._owner = spec.credentials.uid if spec and spec.credentials else None
        self._read_ends: dict[StreamKey, int] = {}
        self._write_ends: list[int] = []
        self.child_fds: dict[int, ChildFd] = {1: NULL, 2: NULL}
        if spec is None:
            return
        try:
            for fd, stream, kind, kept in (
                (1, "stdout", spec.stdout, spec.stdout_log),
                (2, "stderr", spec.stderr, spec.stderr_log),
            ):
                key = StreamKey(spec.name, stream)
                if kept is None:
                    # Its file may be another's by now.
                    logs.drop(key, f"{spec.name} keeps no log of its {stream} any more")
                else:
                    logs.open(key, kept, spec.program, spec.instance)
                    self.child_fds[fd] = self._pipe(key)
                if kind is Output.JOURNAL:
                    self.child_fds[fd] = self._journal(around.journal_socket, spec.name)
                elif kind is Output.STDOUT:
                    self.child_fds[fd] = self.child_fds[1]
        except BaseException:
            self.close()
            raise

    def _pipe(self, key: StreamKey) -> int:
        shared = self._logs.share(key) if self._beside else None
        if shared is not None:
            self._write_ends.append(shared)
            return shared
        try:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise SpawnError("pipe", error.errno or 0) from error
        self._read_ends[key] = read_end
        self._write_ends.append(write_end)
        os.set_blocking(read_end, False)
        if self._owner is not None:
            # So that a program that is not root can open /dev/stdout again, as nginx does in every container.
            try:
                os.fchown(write_end, self._owner, -1)
            except OSError as error:
                raise SpawnError("pipe", error.errno or 0) from error
        return write_end

    def _journal(self, path: str, name: str) -> int:
        try:
            stream = journald.connect(path, name)
        except OSError as error:
            raise SpawnError("journal", error.errno or 0, path) from error
        self._write_ends.append(stream)
        return stream

    @property
    def ends(self) -> dict[str, int]:
        """The read ends by stream."""
        return {key.stream: end for key, end in self._read_ends.items()}

    def take_write_end(self) -> int:
        """Give away the write end of the one output, which is not the child's: it has a terminal."""
        return self._write_ends.pop()

    def hand_over(self, pid: int, begun: Callable[[str, int], None] | None) -> None:
        """The child has the write ends: the read ends go to the logs."""
        for key in tuple(self._read_ends):
            tell = None if begun is None else partial(begun, key.stream)
            self._logs.attach(key, self._read_ends.pop(key), pid, tell)

    def close(self) -> None:
        """Close what is still ours."""
        for fd in (*self._read_ends.values(), *self._write_ends):
            os.close(fd)
        self._read_ends.clear()
        self._write_ends.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
