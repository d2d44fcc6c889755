"""The checks of the programs that run: begun with a life, ended with it, their answers handed to the machine.

Owns the notify socket and which checks are under way.  Must not know what an answer leads to.
"""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from procd.checks import HealthWatch, LogSource, Means, Notification, NotifySocket, Readiness, listen
from procd.core import BecameReady, CheckFailed, CheckPassed, State, TimeoutExtended
from procd.output.streams import STREAMS, StreamKey
from procd.process.start_times import ticks
from procd.process.tree import cookie_of
from procd.runtime.hooks import Command
from procd.runtime.keeping import CHECK, READY
from procd.runtime.life import reads_log, wants_notify
from procd.runtime.written import Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.config.spec import LogSpec, ProgramSpec
    from procd.core import Event, Program
    from procd.runtime.journal import Journal
    from procd.runtime.life import Life, Surroundings
    from procd.runtime.recalled import Recalled


#: The record of the notify socket: programs that run have its path.
_NOTIFY = "notify"


class _Checks:
    """What is asked of one life."""

    __slots__ = ("health", "life", "readiness")

    def __init__(self, life: Life) -> None:
        self.life = life
        self.readiness: Readiness | None = None
        self.health: HealthWatch | None = None

    def cancel(self) -> None:
        for watch in (self.readiness, self.health):
            if watch is not None:
                watch.cancel()
        self.readiness = self.health = None


class Checking:
    """All checks under way.  `submit` takes the machine's events, `lives` the present life of each program."""

    def __init__(
        self,
        around: Surroundings,
        submit: Callable[[Event], None],
        programs: dict[str, Program],
        lives: dict[str, Life],
        journal: Journal,
        on_main_pid: Callable[[str, int], None],
    ) -> None:
        self._around = around
        self._submit = submit
        self._programs = programs
        self._lives = lives
        self._journal = journal
        self._on_main_pid = on_main_pid
        self._checks: dict[str, _Checks] = {}
        self._notify: NotifySocket | None = None

    def open(self, path: str, recalled: Recalled | None = None) -> None:
        """Listen for what programs say of themselves.

        With a socket that was left to us, nothing is heard until `hear`: it has what programs said meanwhile,
        and we do not know them yet.  Raises OSError where it cannot be made.
        """
        record = None if recalled is None else recalled.take(_NOTIFY)
        listening = listen(path) if record is None else socket.socket(fileno=record.fds[0])
        self._listening = listening
        self.keep()
        self._around.notify_path = path
        if record is None:
            self.hear()

    def hear(self) -> None:
        """Hear what programs say."""
        if self._notify is not None:
            return
        self._notify = NotifySocket(
            self._around.loop,
            self._listening,
            owner_of=self._owner_of,
            belongs=self.belongs,
            on_message=self._hear,
        )

    def keep(self) -> None:
        """Record the socket."""
        if self._around.memory is not None:
            self._around.memory.put(_NOTIFY, b"", (self._listening.fileno(),))

    def await_ready(self, name: str) -> None:
        """Ask a program that was just started whether it is ready."""
        spec = self._programs[name].spec
        if spec.ready is None:
            return
        checks = self._begin(name)
        checks.readiness = Readiness(
            spec.ready, self._means(spec, checks.life), on_ready=partial(self._is_ready, checks.life)
        )
        if checks.life.said_ready:
            # It was faster than we: there was much to be done between its start and now.
            checks.readiness.notified(Notification(ready=True))

    def _is_ready(self, life: Life) -> None:
        life.asked_fd = -1
        life.keeping.let_go(life.name, READY)
        self._submit(BecameReady(life.name))

    def watch_health(self, name: str) -> None:
        """Ask a program that is ready how it is, from now on; in place of what was asked before."""
        spec = self._programs[name].spec
        checks = self._begin(name)
        if checks.health is not None:
            checks.health.cancel()
            checks.health = None
        if spec.health is None:
            return
        checks.health = HealthWatch(
            spec.health,
            self._means(spec, checks.life),
            on_passed=lambda: self._answered(name, CheckPassed(name)),
            on_failed=lambda reason, *, final: self._answered(name, CheckFailed(name, reason, final)),
        )

    def _answered(self, name: str, answer: CheckPassed | CheckFailed) -> None:
        """Hand an answer on, and note it when it has changed what is known."""
        program = self._programs[name]
        before = program.health
        failed = isinstance(answer, CheckFailed)
        self._submit(answer)
        if failed or program.health != before:
            facts = {"reason": answer.reason} if isinstance(answer, CheckFailed) else {}
            self._journal.note("check failed" if failed else "healthy", name, **facts)

    def end(self, name: str) -> None:
        """Ask a program nothing more."""
        checks = self._checks.pop(name, None)
        if checks is not None:
            checks.cancel()
            checks.life.asked_fd = -1

    def reason(self, name: str) -> str:
        """Say why a program that is STARTING is not ready yet; empty if nobody asked."""
        checks = self._checks.get(name)
        return checks.readiness.reason if checks is not None and checks.readiness is not None else ""

    def close(self) -> None:
        """End all of them."""
        for name in tuple(self._checks):
            self.end(name)
        if self._notify is not None:
            self._notify.close()

    def _begin(self, name: str) -> _Checks:
        life = self._lives[name]
        checks = self._checks.get(name)
        if checks is None or checks.life is not life:
            self.end(name)
            checks = self._checks[name] = _Checks(life)
        return checks

    # What checks need

    def _means(self, spec: ProgramSpec, life: Life) -> Means:
        def run(argv: tuple[str, ...], on_end: Callable[[str], None]) -> Callable[[], None]:
            def ended(reason: str) -> None:
                life.keeping.let_go(life.name, CHECK)
                on_end(reason)

            command = Command(ended)
            began = ticks()
            # Its time is the check's, and its output would fill the program's log with the same line for ever.
            command.begin(spec, argv, life.cookie, None, self._around, logged=False)
            if command.pid and self._around.memory is not None:
                start = self._around.start_times.of_child(command.pid, began)
                life.keeping.check(life.name, command.pid, start)
            return command.kill

        ready_fd, life.ready_fd = life.ready_fd, -1
        life.asked_fd = ready_fd
        return Means(self._around.loop, run, self._log_sources(spec, life), ready_fd)

    def _log_sources(self, spec: ProgramSpec, life: Life) -> tuple[LogSource, ...]:
        if not reads_log(spec):
            return ()
        kept = {"stdout": spec.stdout_log, "stderr": spec.stderr_log}
        return tuple(
            Written(
                self._around.logs, StreamKey(spec.name, stream), life, partial(self._kept, spec.name, stream)
            ).source()
            for stream in STREAMS
            if kept[stream] is not None
        )

    def _kept(self, name: str, stream: str) -> LogSpec | None:
        """How the log of a stream is kept at present."""
        program = self._programs.get(name)
        if program is None:
            return None
        return program.spec.stdout_log if stream == "stdout" else program.spec.stderr_log

    # What programs say

    def _owner_of(self, pid: int) -> str | None:
        """Find the program of a process: by its session, or by its cookie if it has one of its own."""
        try:
            session = os.getsid(pid)
        except ProcessLookupError:
            return None
        for name, life in self._lives.items():
            if life.pid in {pid, session}:
                return name
        cookie = cookie_of(pid)
        return next((name for name, life in self._lives.items() if life.cookie == cookie), None)

    def belongs(self, name: str, pid: int) -> bool:
        """Say whether a process is one of a program."""
        return self._owner_of(pid) == name

    def _hear(self, name: str, said: Notification) -> None:
        life, program = self._lives.get(name), self._programs.get(name)
        if said.main_pid is not None:
            self._on_main_pid(name, said.main_pid)
        if life is None or program is None or not wants_notify(program.spec):
            return
        before = life.status, life.phase, life.said_ready
        life.said_ready = life.said_ready or said.ready
        if said.status is not None:
            life.status = said.status
        life.phase = _phase(life.phase, said)
        if life.phase != before[1]:
            self._journal.note("says", name, phase=life.phase or "ready")
        if (life.status, life.phase, life.said_ready) != before:
            life.keeping.life(life)
        checks = self._checks.get(name)
        if checks is not None and checks.readiness is not None:
            checks.readiness.notified(said)
        if checks is not None and checks.health is not None:
            checks.health.notified(said)
        if said.extend_timeout_s is not None and program.state in {State.STARTING, State.STOPPING}:
            self._submit(TimeoutExtended(name, said.extend_timeout_s))


def _phase(before: str, said: Notification) -> str:
    """What a program does that runs, by its own word (sd_notify(3)); empty for its work."""
    if said.stopping:
        return "stopping"
    if said.reloading:
        return "reloading"
    return "" if said.ready else before
