"""The runtime: the machine, its clock, and the lives that it decides about.

Owns the one way in (`submit`) and the carrying out of actions, in order and in bounded turns.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, assert_never

import structlog

from procd.checks import Schedule, Scheduler
from procd.config.spec import StopScope
from procd.core import (
    Add,
    AwaitEmpty,
    AwaitReady,
    CancelHook,
    Change,
    DeadlinePassed,
    Died,
    Emptied,
    Exit,
    Exited,
    Forget,
    HookEnded,
    KillTree,
    Machine,
    MainChanged,
    Publish,
    RunHook,
    ScheduleDue,
    Signal,
    Spawn,
    SpawnFailed,
    SpawnSucceeded,
    State,
    WatchHealth,
)
from procd.core.policy import stop_steps
from procd.errors import ProcessExitedAlready, SpawnError
from procd.output.streams import STREAMS, StreamKey
from procd.runtime.checking import Checking
from procd.runtime.emptiness import Emptiness, Stop
from procd.runtime.heir import Heir
from procd.runtime.hooks import Command, command_of
from procd.runtime.identity import Usages
from procd.runtime.journal import Journal
from procd.runtime.life import Life
from procd.runtime.transient import Transients
from procd.runtime.watch import Watches

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from procd.config.spec import ProgramSpec
    from procd.core import Action, Event, Program, Transition
    from procd.runtime.life import Surroundings

log = structlog.get_logger()

#: Seconds that carrying out actions may take before the loop gets its turn: what `status` waits at most.
TURN_S = 0.02

#: Levels at which transitions are logged; the others are what was asked for.
_WARNINGS = frozenset({State.BACKOFF})
_ERRORS = frozenset({State.FATAL})


class Runtime:
    """Everything that happens to programs passes through here.

    `on_idle` is called whenever all decided actions were carried out.
    """

    def __init__(self, around: Surroundings, machine: Machine) -> None:
        self.around = around
        self.machine = machine
        self.watches = Watches()
        self.journal = Journal()
        around.logs.notes.on_note = self._note_of_log
        self.transients = Transients(self)
        self.usages = Usages(around.loop)
        self.began_s = around.loop.time()
        #: How many lives were begun, and how many could not be.
        self.spawns = self.spawns_failed = 0
        self.on_change: Callable[[], None] = _nothing
        self._lives: dict[str, Life] = {}
        self._hooks: dict[str, Command] = {}
        self.checking = Checking(
            around, self.submit, machine.programs, self._lives, self.journal, self._take_over
        )
        self.scheduler = Scheduler(around.loop, lambda name: self.submit(ScheduleDue(name)))
        self._emptiness = Emptiness(around.loop, around.reaper, self._strangers)
        self._actions: deque[Action] = deque()
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        # A process keeps its environment for good: the cookie must not repeat in another run of procd.
        self._run_id = os.urandom(8).hex()
        self._serial = count(1)

    def _note_of_log(self, kind: str, program: str | None, **facts: Any) -> None:  # noqa: ANN401 - of an event
        # The log of events is no program's.
        self.journal.note(kind, program or None, **facts)

    # In

    def submit(self, *events: Event) -> None:
        """Hand events to the machine, and carry out what it decides.

        Raises IllegalTransition or KeyError, as `Machine.handle` does.
        """
        now = self.around.loop.time()
        self._actions.extend(self.machine.handle_all(events, now))
        for event in events:
            if isinstance(event, Add | Change):
                self._follow_schedule(event.spec)
                self._follow_logs(event.spec.name)
        self._run()

    def _follow_schedule(self, spec: ProgramSpec) -> None:
        if spec.schedule is None:
            self.scheduler.drop(spec.name)
        else:
            self.scheduler.set(spec.name, Schedule(spec.schedule))

    def _follow_logs(self, name: str) -> None:
        """Keep the logs of a program that has some open as its spec in force says, which may have changed."""
        spec, logs = self.machine.programs[name].spec, self.around.logs
        for stream, kept in zip(STREAMS, (spec.stdout_log, spec.stderr_log), strict=True):
            key = StreamKey(name, stream)
            if kept is not None and logs.keeps(key):
                logs.open(key, kept, spec.program, spec.instance)

    def life(self, name: str) -> Life | None:
        """The present life of a program, if it has one."""
        return self._lives.get(name)

    def hurry(self, name: str) -> None:
        """Kill a stopping program now, whatever its stop would still have tried, and leave it time to die."""
        program, life = self.machine.programs[name], self._lives.get(name)
        # Once for a hook, and once for each step.
        for _ in range(1 + len(stop_steps(program.spec))):
            killed = life is not None and self._emptiness.kills(life)
            if program.state is not State.STOPPING or program.deadline_s is None or killed:
                return
            self.submit(DeadlinePassed(name))

    # Out

    def _run(self) -> None:
        """Carry actions out in their order; what they lead to comes behind them."""
        if self._running:
            return
        self._running = True
        loop = self.around.loop
        ends_at = loop.time() + TURN_S
        try:
            while self._actions:
                self._carry_out(self._actions.popleft())
                if loop.time() > ends_at:
                    break
        finally:
            self._running = False
            # Also when an action failed: the actions and deadlines of all the others are still to be met.
            if self._actions:
                loop.call_soon(self._run)
            self._arm()
        self.on_change()

    def _carry_out(self, action: Action) -> None:  # noqa: C901 - one arm for each kind of action
        match action:
            case Spawn():
                self._spawn(action.name)
            case Signal():
                self._signal(action)
            case KillTree():
                self._kill(action.name)
            case AwaitEmpty():
                self._await_empty(action.name)
            case Publish():
                _log_transition(action.transition, self.machine)
                self.journal.transition(action.transition)
                if action.transition.new is State.STOPPING:
                    self.checking.end(action.transition.name)
                self.watches.publish(action.transition)
            case RunHook():
                self._run_hook(action)
            case CancelHook():
                self._cancel_hook(action.name)
            case AwaitReady():
                self.checking.await_ready(action.name)
            case WatchHealth():
                self.checking.watch_health(action.name)
            case Forget():
                self._lives.pop(action.name, None)
                self.scheduler.drop(action.name)
                self.watches.forget(action.name)
                self.around.logs.forget(action.name)
            case _:
                assert_never(action)

    def _arm(self) -> None:
        """Keep one timer, for the next deadline of all."""
        deadline = self.machine.next_deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self.around.loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._actions.extend(self.machine.expire(self.around.loop.time()))
        self._run()

    # Lives

    def _spawn(self, name: str) -> None:
        program = self.machine.programs[name]
        if program.state is not State.STARTING:
            self.submit(SpawnFailed(name, "stopped before it was started"))
            return
        life = Life(name, self._cookie(), self._on_exiting, self._on_exited)
        try:
            life.begin(program.spec, self.around)
        except SpawnError as error:
            self.spawns_failed += 1
            self.submit(SpawnFailed(name, str(error)))
            return
        self.spawns += 1
        self._lives[name] = life
        self.submit(SpawnSucceeded(name, life.pid))

    def _signal(self, action: Signal) -> None:
        life = self._lives.get(action.name)
        if life is None:
            return
        try:
            life.signal(action.signal, group=action.group)
        except ProcessExitedAlready:
            # The signal and the death crossed: the exit is on its way to us.
            return
        except PermissionError:
            # It has become another user (sudo, a setuid program), and we are not root.
            log.warning("program may not be signalled", program=action.name, pid=life.pid, signal=action.signal)

    def _kill(self, name: str) -> None:
        life = self._lives.get(name)
        if life is not None:
            self._emptiness.kill(life)

    def _await_empty(self, name: str) -> None:
        life = self._lives[name]
        spec = self.machine.programs[name].spec

        def gone(survivors: tuple[str, ...]) -> None:
            if life.cgroup is not None:
                self.around.cgroups.leave(name)
            life.drain()
            self.around.logs.finish(name)
            self._lives.pop(name, None)
            self.submit(Emptied(name, survivors))

        stop = Stop(spec.stop_signal, told_group=spec.stop_scope is StopScope.GROUP)
        self._emptiness.await_tree(life, stop, gone)

    # Hooks

    def _run_hook(self, action: RunHook) -> None:
        name, hook = action.name, action.hook
        spec = self.machine.programs[name].spec
        if spec.hooks is None:
            raise AssertionError(f"{name} has no hooks, but {hook.value} is to be run")

        def ended(failure: str) -> None:
            self._hooks.pop(name, None)
            if failure:
                log.warning("hook failed", program=name, hook=hook.value, reason=failure)
                self.journal.note("hook failed", name, hook=hook.value, reason=failure)
            if name in self.machine.programs:
                self.submit(HookEnded(name, hook, failure))

        command = self._hooks[name] = Command(ended)
        command.begin(spec, command_of(spec.hooks, hook), self._cookie(), spec.hooks.timeout_s, self.around)

    def _cancel_hook(self, name: str) -> None:
        command = self._hooks.get(name)
        if command is not None:
            command.kill()

    def _cookie(self) -> str:
        return f"{self._run_id}.{next(self._serial)}"

    # Ends

    def _on_exiting(self, life: Life) -> None:
        """Whoever is in the group of a program that died by itself must not live beside the next one."""
        program = self.machine.programs.get(life.name)
        if life.heir is None and (program is None or program.state is not State.STOPPING):
            self._emptiness.kill_group(life)

    def _on_exited(self, life: Life, ended: Exit) -> None:
        if life.heir is not None:
            log.info("first process has left", program=life.name, pid=life.pid, exit=str(ended))
        else:
            self._end(life, ended)

    def _take_over(self, name: str, pid: int) -> None:
        """Follow a program that names another process of its own as its main process."""
        life, program = self._lives.get(name), self.machine.programs[name]
        if life is None or program.pid in {None, pid}:
            return
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        # The number could have changed hands since it was found to be the program's; now it cannot any more.
        if not self.checking.belongs(name, pid):
            os.close(fd)
            return
        if life.heir is not None:
            life.heir.close()
        life.heir = Heir(self.around.loop, pid, fd, partial(self._on_heir_ended, life))
        log.info("program has named its main process", program=name, pid=pid)
        self.submit(MainChanged(name, pid))

    def _on_heir_ended(self, life: Life, heir: Heir) -> None:
        if self.machine.programs.get(life.name) is None or heir is not life.heir:
            return
        if self.machine.programs[life.name].state is not State.STOPPING and not life.process.exited:
            self._emptiness.kill_group(life)
        self._end(life, heir.exit or Exit())

    def _end(self, life: Life, ended: Exit) -> None:
        """Tell the end of a life, once."""
        if life.over:
            return
        life.over = True
        self.checking.end(life.name)
        life.let_go()
        self.around.logs.finish(life.name)
        life.tell_end(ended)
        if self.machine.programs[life.name].state is State.STOPPING:
            self.submit(Exited(life.name, ended))
        else:
            if self._emptiness.await_group(life, lambda: self.submit(Exited(life.name, ended))):
                self.submit(Died(life.name))
            self._emptiness.clean_up(life)

    async def cleaned_up(self, names: Collection[str]) -> None:
        """Wait until nothing is left of earlier lives of programs, either."""
        await self._emptiness.cleaned_up(set(names))

    def orphan_reaped(self, pid: int, ended: Exit) -> None:
        """Take note of a child that nobody here spawned: a program's descendant that had lost its parent."""
        log.debug("orphan reaped", pid=pid, exit=str(ended))
        for life in self._lives.values():
            if life.heir is not None and life.heir.pid == pid:
                life.heir.exit = ended
        self._emptiness.look_again()

    def _strangers(self) -> set[int]:
        """List the main processes of programs that nobody is stopping, and our own: none is part of an end."""
        programs = self.machine.programs
        strangers = {
            pid
            for name, program in programs.items()
            for pid in self._main_pids(name, program)
            if program.state is not State.STOPPING and not program.stuck
        }
        logger = self.around.logs.pid
        return strangers if logger is None else strangers | {logger}

    def _main_pids(self, name: str, program: Program) -> set[int]:
        life = self._lives.get(name)
        pids = {program.pid, life.pid if life is not None and not life.process.exited else None}
        return {pid for pid in pids if pid is not None}

    def close(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
        self._emptiness.close()
        self.checking.close()
        self.usages.close()
        self.scheduler.close()
        self.around.sockets.close()


def _nothing() -> None:
    """Nobody wants to know."""


def _log_transition(transition: Transition, machine: Machine) -> None:
    """Write the one line that each transition leaves."""
    new = transition.new
    if new is State.WAITING:
        return
    facts: dict[str, Any] = {"program": transition.name, "state": new.value, "reason": str(transition.cause)}
    program = machine.programs.get(transition.name)
    if program is not None and program.pid is not None:
        facts["pid"] = program.pid
    if new in _ERRORS:
        log.error("program gave up", **facts)
    elif new in _WARNINGS:
        log.warning("program failed to stay up", **facts)
    else:
        log.info(_PHRASES[new], **facts)


_PHRASES = {
    State.STOPPED: "program stopped",
    State.STARTING: "program starts",
    State.RUNNING: "program runs",
    State.STOPPING: "program is told to stop",
    State.EXITED: "program ended",
}
