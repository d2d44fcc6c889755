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
from msgspec import structs

from procd import faults
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
from procd.process import AdoptedProcess
from procd.process.reaper import outcome_of_peek
from procd.process.start_times import ticks
from procd.runtime.adoption import Adoption
from procd.runtime.checking import Checking
from procd.runtime.emptiness import Emptiness, Told
from procd.runtime.heir import Heir
from procd.runtime.hooks import Command, command_of
from procd.runtime.identity import Usages
from procd.runtime.journal import Journal
from procd.runtime.keeping import HookRecord, Keeping, NotKeptError
from procd.runtime.life import Life
from procd.runtime.transient import Transients
from procd.runtime.wards import Wards
from procd.runtime.watch import Watches

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Iterable, Mapping

    from procd.config.spec import ProgramSpec
    from procd.core import Action, Event, Hook, Program, Transition
    from procd.keeper.client import KeptExit
    from procd.runtime.life import Surroundings
    from procd.runtime.present_memory import RecordedValues
    from procd.runtime.recalled import Recalled

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
        self.keeping = Keeping(around.memory, machine)
        self.watches = Watches()
        self.journal = Journal()
        around.logs.notes.on_note = self._note_of_log
        self.transients = Transients(self)
        self.usages = Usages(around.loop)
        self.began_s = around.loop.time()
        #: How many lives were begun, and how many could not be.
        self.spawns = self.spawns_failed = 0
        self.on_change: Callable[[], None] = _nothing
        self.lives: dict[str, Life] = {}
        self._hooks: dict[str, Command] = {}
        self.checking = Checking(
            around, self.submit, machine.programs, self.lives, self.journal, self._take_over
        )
        self.scheduler = Scheduler(around.loop, lambda name: self.submit(ScheduleDue(name)))
        self.emptiness = Emptiness(
            around.loop, around.reaper, self._strangers, None if around.memory is None else os.getppid()
        )
        self.wards = Wards(around.loop, self.orphan_reaped)
        self._actions: deque[Action] = deque()
        #: Spawns and hooks that are not recorded yet.
        self._withheld: list[Action] = []
        self._running = False
        #: The rest of what is to be carried out, in the next turn.
        self._goes_on: asyncio.Handle | None = None
        #: Lines of the log about what was carried out in this turn.
        self._untold: list[Callable[[], None]] = []
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
        self.decided(self.machine.handle_all(events, now))
        for event in events:
            if isinstance(event, Add | Change):
                self.follow(event.spec)
        self._run()

    def decided(self, actions: Iterable[Action]) -> None:
        """Carry actions out, soon, and record what has changed."""
        self.keeping.changed(self.machine.changed)
        for action in actions:
            if isinstance(action, Publish):
                # Recorded together with what was decided: whoever goes on from that does not tell it again.
                self.journal.transition(action.transition)
            self._actions.append(action)

    def follow(self, spec: ProgramSpec) -> None:
        """Do beside the machine what a spec says that has come into force."""
        if spec.schedule is None:
            self.scheduler.drop(spec.name)
        else:
            self.scheduler.set(spec.name, Schedule(spec.schedule))
        self._follow_logs(spec.name)

    def _follow_logs(self, name: str) -> None:
        """Keep the logs of a program that has some open as its spec in force says, which may have changed."""
        spec, logs = self.machine.programs[name].spec, self.around.logs
        for stream, kept in zip(STREAMS, (spec.stdout_log, spec.stderr_log), strict=True):
            key = StreamKey(name, stream)
            if kept is not None and logs.keeps(key):
                logs.open(key, kept, spec.program, spec.instance)

    def life(self, name: str) -> Life | None:
        """The present life of a program, if it has one."""
        return self.lives.get(name)

    def hurry(self, name: str) -> None:
        """Kill a stopping program now, whatever its stop would still have tried, and leave it time to die."""
        program, life = self.machine.programs[name], self.lives.get(name)
        # Once for a hook, and once for each step.
        for _ in range(1 + len(stop_steps(program.spec))):
            killed = life is not None and self.emptiness.kills(life)
            if program.state is not State.STOPPING or program.deadline_s is None or killed:
                return
            self.submit(DeadlinePassed(name))

    # Out

    def _run(self) -> None:
        """Carry actions out in their order; what they lead to comes behind them."""
        if self._running:
            return
        if self._goes_on is not None:
            # In the next turn of the loop: this one has had its time.  But whoever asked is answered now.
            self.keeping.flush()
            return
        self._running = True
        # What is recorded waits for the next message that has to be sent; a spawn's intent is one, and stands
        # behind what was decided before.
        try:
            with self.keeping.collect():
                self._take_turn()
        finally:
            # Behind all that was done: to write a line takes longer than to decide what it is about.
            untold, self._untold = self._untold, []
            for line in untold:
                line()
        self.on_change()

    def _take_turn(self) -> None:
        loop = self.around.loop
        ends_at = loop.time() + TURN_S
        self.keeping.flush()
        faults.at("decided.recorded", self.keeping.send)
        try:
            while self._actions:
                action = self._actions.popleft()
                if not isinstance(action, Spawn | Publish):
                    # Whatever is done was decided before, also for whoever has to go on from here.
                    self.keeping.send()
                try:
                    self._carry_out(action)
                except NotKeptError:
                    self._withhold(action)
                if loop.time() > ends_at:
                    break
        finally:
            self._running = False
            faults.at("turn.done", self.keeping.send)
            self.keeping.flush()
            # Also when an action failed: the actions and deadlines of all the others are still to be met.
            if self._actions:
                self._goes_on = loop.call_soon(self._go_on)
            self._arm()

    def _go_on(self) -> None:
        self._goes_on = None
        self._run()

    def _withhold(self, action: Action) -> None:
        """Put off what must be recorded before it is done until the keeper is not behind any more.

        Nothing else waits for that: what is decided about its program meanwhile waits for its answer, and what
        is about others is none of its business.
        """
        if not self._withheld:
            self.keeping.when_settled(self._release)
        self._withheld.append(action)

    def _release(self) -> None:
        self._actions.extend(self._withheld)
        self._withheld.clear()
        self._run()

    async def adopt(self, recalled: Recalled, file: Mapping[str, ProgramSpec]) -> None:
        """Go on with the programs of an earlier supervisor.

        `file` has the specs that it had recorded as a whole.

        Raises UnreadableRecord, and ValueError; then nothing has changed.
        """
        adoption = Adoption(self, recalled, file)
        await adoption.find()
        self._running = True
        try:
            adoption.carry_out()
        finally:
            self._running = False
        self._run()

    def bequeath(self) -> None:
        """Record everything: the memory is another one, which has nothing."""
        for name in self.machine.programs:
            self.transients.keep(name)
        self.keeping.again(self.lives.values(), self._hook_records())
        self.around.sockets.keep()
        self.checking.keep()

    def record_in(self, memory: RecordedValues) -> None:
        """Record there what is recorded of programs, lives and logs."""
        keeping = Keeping(memory, self.machine)
        keeping.file = self.keeping.file
        keeping.again(self.lives.values(), self._hook_records())
        self.around.logs.record_in(memory)

    def _hook_records(self) -> dict[str, HookRecord]:
        return {name: hook.record for name, hook in self._hooks.items()}

    def kept_exit(self, kept: KeptExit) -> None:
        """Hear from the keeper how a process ended that an earlier supervisor had started."""
        self.keeping.taken(kept)
        self.wards.told(kept)
        if not self._running:
            self.keeping.flush()

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
                self._tell(action.transition)
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
                self._forget_life(action.name)
                self.scheduler.drop(action.name)
                self.watches.forget(action.name)
                self.around.logs.forget(action.name)
            case _:
                assert_never(action)

    def _tell(self, transition: Transition) -> None:
        """Write, at the end of the turn, the one line that each transition leaves."""
        new = transition.new
        if new is State.WAITING:
            return
        facts: dict[str, Any] = {
            "program": transition.name,
            "state": new.value,
            "reason": str(transition.cause),
        }
        program = self.machine.programs.get(transition.name)
        if program is not None and program.pid is not None:
            facts["pid"] = program.pid
        if new in _ERRORS:
            self._untold.append(partial(log.error, "program gave up", **facts))
        elif new in _WARNINGS:
            self._untold.append(partial(log.warning, "program failed to stay up", **facts))
        else:
            self._untold.append(partial(log.info, _PHRASES[new], **facts))

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
        self.decided(self.machine.expire(self.around.loop.time()))
        self._run()

    # Lives

    def _spawn(self, name: str) -> None:
        program = self.machine.programs[name]
        if program.state is not State.STARTING:
            self.submit(SpawnFailed(name, "stopped before it was started"))
            return
        life = self.make_life(name, self._cookie())
        try:
            life.begin(program.spec, self.around)
        except SpawnError as error:
            self.keeping.unborn(name)
            self.spawns_failed += 1
            self.submit(SpawnFailed(name, str(error)))
            return
        faults.at("spawn.recorded", self.keeping.send)
        self.spawns += 1
        self.lives[name] = life
        self.submit(SpawnSucceeded(name, life.pid))

    def make_life(self, name: str, cookie: str) -> Life:
        """A life that does not live yet, whose end comes to us."""
        return Life(name, cookie, self.keeping, self)

    def _forget_life(self, name: str) -> None:
        if self.lives.pop(name, None) is not None:
            self.keeping.over("life", name)

    def _signal(self, action: Signal) -> None:
        life = self.lives.get(action.name)
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
            return
        life.signalled = self.machine.programs[action.name].step
        self.keeping.life(life)

    def _kill(self, name: str) -> None:
        life = self.lives.get(name)
        if life is not None:
            self.emptiness.kill(life)

    def _await_empty(self, name: str) -> None:
        life = self.lives.get(name)
        if life is None:
            # An earlier supervisor has seen that nothing is left, and died before it could say so.
            self.submit(Emptied(name))
            return
        spec = self.machine.programs[name].spec

        def gone(survivors: tuple[str, ...]) -> None:
            if life.cgroup is not None:
                self.around.cgroups.leave(name)
            life.drain()
            self.around.logs.finish(name)
            self._forget_life(name)
            self.submit(Emptied(name, survivors))

        told = Told(spec.stop_signal, group=spec.stop_scope is StopScope.GROUP)
        self.emptiness.await_tree(life, told, gone)

    # Hooks

    def _run_hook(self, action: RunHook) -> None:
        name, hook = action.name, action.hook
        program = self.machine.programs[name]
        spec = program.spec
        if spec.hooks is None:
            raise AssertionError(f"{name} has no hooks, but {hook.value} is to be run")
        if program.cancelled:
            self.submit(HookEnded(name, hook, "cancelled before it was begun"))
            return
        record = HookRecord(cookie=self._cookie(), hook=hook.value)
        self.keeping.intend_hook(name, record)
        command = self._hooks[name] = self._command(name, hook)
        command.record = record
        command.on_exiting = partial(self._on_hook_exiting, name)
        began = ticks()
        command.begin(spec, command_of(spec.hooks, hook), record.cookie, spec.hooks.timeout_s, self.around)
        if command.pid:
            faults.at("hook.begun")
            start = self.around.start_times.of_child(command.pid, began)
            command.record = structs.replace(record, pid=command.pid, start=start)
            self.keeping.hook(name, command.record)

    def _command(self, name: str, hook: Hook) -> Command:
        def ended(failure: str) -> None:
            self._hooks.pop(name, None)
            self.keeping.over("hook", name)
            if failure:
                log.warning("hook failed", program=name, hook=hook.value, reason=failure)
                self.journal.note("hook failed", name, hook=hook.value, reason=failure)
            if name in self.machine.programs:
                self.submit(HookEnded(name, hook, failure))

        return Command(ended)

    def adopt_hook(self, name: str, hook: Hook, record: HookRecord, pidfd: int) -> Command:
        """Wait for a hook that an earlier supervisor has begun; the pidfd (-1: it is dead) is taken over."""
        spec = self.machine.programs[name].spec
        command = self._hooks[name] = self._command(name, hook)
        argv = command_of(spec.hooks, hook) if spec.hooks is not None else ()
        command.record = record
        AdoptedProcess(self.around.loop, record.pid, pidfd, argv[0] if argv else hook.value, command, {})
        if spec.hooks is not None and spec.hooks.timeout_s is not None and pidfd >= 0:
            command.end_within(spec.hooks.timeout_s, self.around.loop)
        return command

    def _on_hook_exiting(self, name: str, command: Command) -> None:
        command.record = structs.replace(command.record, exit=_peek(command.pid))
        self.keeping.hook(name, command.record)

    def _cancel_hook(self, name: str) -> None:
        command = self._hooks.get(name)
        if command is not None:
            command.kill()

    def _cookie(self) -> str:
        return f"{self._run_id}.{next(self._serial)}"

    # Ends

    def life_exiting(self, life: Life) -> None:
        """Whoever is in the group of a program that died by itself must not live beside the next one."""
        if not life.adopted:
            faults.at("exit.peeked")
            self.keeping.ending(life.name, _peek(life.pid))
            faults.at("exit.recorded")
        program = self.machine.programs.get(life.name)
        if life.heir is None and (program is None or program.state is not State.STOPPING):
            self.emptiness.kill_group(life)

    def life_exited(self, life: Life, ended: Exit) -> None:
        """What was its main process is reaped; unless it has named another, the life is over."""
        if life.heir is not None:
            log.info("first process has left", program=life.name, pid=life.pid, exit=str(ended))
        else:
            self.end(life, ended)

    def _take_over(self, name: str, pid: int) -> None:
        """Follow a program that names another process of its own as its main process."""
        life, program = self.lives.get(name), self.machine.programs[name]
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
        life.heir = Heir(self.around.loop, pid, fd, partial(self.heir_ended, life))
        self.keeping.life(life)
        log.info("program has named its main process", program=name, pid=pid)
        self.submit(MainChanged(name, pid))

    def heir_ended(self, life: Life, heir: Heir) -> None:
        """The main process that a life has named is dead."""
        if self.machine.programs.get(life.name) is None or heir is not life.heir:
            return
        if self.machine.programs[life.name].state is not State.STOPPING and not life.process.exited:
            self.emptiness.kill_group(life)
        self.end(life, heir.exit or Exit())

    def end(self, life: Life, ended: Exit) -> None:
        """Tell the end of a life, once."""
        if life.over:
            return
        faults.at("exit.reaped")
        life.over = True
        life.ended = ended
        # It is recorded with what follows from it: until then its wait status is.
        with self.keeping.collect():
            self.keeping.ended(life)
            self.checking.end(life.name)
            life.let_go()
            self.around.logs.finish(life.name)
            life.tell_end(ended)
            if self.machine.programs[life.name].state is State.STOPPING:
                self.submit(Exited(life.name, ended))
            else:
                if self.emptiness.await_group(life, lambda: self.submit(Exited(life.name, ended))):
                    self.submit(Died(life.name))
                self.emptiness.clean_up(life)

    async def cleaned_up(self, names: Collection[str]) -> None:
        """Wait until nothing is left of earlier lives of programs, either."""
        await self.emptiness.cleaned_up(set(names))

    def orphan_reaped(self, pid: int, ended: Exit) -> None:
        """Take note of a child that nobody here spawned: a program's descendant that had lost its parent."""
        log.debug("orphan reaped", pid=pid, exit=str(ended))
        for life in self.lives.values():
            if life.heir is not None and life.heir.pid == pid:
                life.heir.exit = ended
        self.emptiness.look_again()

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
        life = self.lives.get(name)
        pids = {program.pid, life.pid if life is not None and not life.process.exited else None}
        return {pid for pid in pids if pid is not None}

    def close(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
        self.emptiness.close()
        self.checking.close()
        self.wards.close()
        self.usages.close()
        self.scheduler.close()
        self.around.sockets.close()


def _peek(pid: int) -> Exit:
    """How a child of ours ended that is dead and not reaped."""
    try:
        peeked = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return Exit()
    return Exit() if peeked is None else outcome_of_peek(peeked)


def _nothing() -> None:
    """Nobody wants to know."""


_PHRASES = {
    State.STOPPED: "program stopped",
    State.STARTING: "program starts",
    State.RUNNING: "program runs",
    State.STOPPING: "program is told to stop",
    State.EXITED: "program ended",
}
