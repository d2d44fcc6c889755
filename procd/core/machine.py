"""The machine: events in, all their consequences out.

Owns the records of all programs, and every wish: who wants which program up or down, and what programs want of
each other.  `handle` takes events, settles what follows from them for everybody, and returns the actions in the
order in which they are to be carried out.  How a single life goes is in `lives`.  Time is an argument, chance a
function given at birth.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

from procd.core.events import (
    Action,
    Add,
    BecameReady,
    Cause,
    Change,
    CheckFailed,
    CheckPassed,
    DeadlinePassed,
    Emptied,
    Event,
    Exited,
    Forget,
    HookEnded,
    Remove,
    Restart,
    ScheduleDue,
    Shutdown,
    SpawnFailed,
    SpawnSucceeded,
    Start,
    Stop,
    TimeoutExtended,
    WatchHealth,
)
from procd.core.gate import Gate, is_wanted
from procd.core.lives import Lives
from procd.core.program import ACTIVE, LIVE, PENDING, Program
from procd.core.states import Desired, State, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procd.config.spec import ProgramSpec

#: States at rest, from which a wish to run is a start at once.
_ENDED = frozenset({State.EXITED, State.FATAL, State.BACKOFF})

#: States in which another spec is worth another try at once: what was wrong may have been mended.
_TRYING = frozenset({State.BACKOFF, State.FATAL, *LIVE})


class Machine:
    """All programs and what is decided about them.

    `chance` returns a number in [0, 1), for the jitter of delays.  `max_concurrent_starts` bounds how many
    programs may be STARTING at once (None: no bound); the others are WAITING, in the order of their requests.
    `final` is the essential program that ended for good, and with it everything.
    """

    def __init__(self, chance: Callable[[], float], max_concurrent_starts: int | None = None) -> None:
        self.programs: dict[str, Program] = {}
        self.gate = Gate()
        self.closing = False
        self.final: Program | None = None
        self._lives = Lives(self.gate, chance)
        self._slots = max_concurrent_starts
        self._queue: deque[Program] = deque()
        self._pulled: deque[Program] = deque()

    # What the shell asks

    def next_deadline(self) -> float | None:
        """The one moment at which `expire` has to be called, or None."""
        return self._lives.deadlines.next()

    def expire(self, now: float) -> list[Action]:
        """Handle every deadline that has passed by `now`."""
        while (program := self._lives.deadlines.pop_passed(now)) is not None:
            self._lives.on_deadline(program, now)
        return self._settle(now)

    def at_rest(self) -> bool:
        """Whether no program has a process, and none is about to get one."""
        return self._lives.active == 0

    def waits_for(self, program: Program) -> list[str]:
        """What keeps a WAITING program from starting, in words; empty for any other."""
        if program.state is not State.WAITING:
            return []
        reasons = [f"{name} does not exist" for name in self.gate.missing(program)]
        for other, condition in self.gate.unmet(program):
            reasons.append(f"{other.name} to be {condition.value} (it is {other.state.value})")
        if program.stuck:
            reasons.append("its last process, which does not die")
        if not reasons and self._slots is not None:
            reasons.append(f"a start slot ({self._lives.starting} of {self._slots} programs are starting)")
        return reasons

    # Events

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event in; return what has to be done because of it, in order.

        Raises IllegalTransition, with nothing changed, for an event that its program cannot have in its state,
        and KeyError for a program that does not exist.
        """
        self._take(event, now)
        return self._settle(now)

    def handle_all(self, events: Iterable[Event], now: float) -> list[Action]:
        """Take several events in before anything is settled: a plan, of which only the whole makes sense."""
        for event in events:
            self._take(event, now)
        return self._settle(now)

    def _take(self, event: Event, now: float) -> None:  # noqa: C901, PLR0912 - one arm for each event
        match event:
            case Start() | Stop() | Restart() | Remove():
                self._on_request(self.programs[event.name], event, now)
            case Add():
                self._on_add(event, now)
            case Change():
                self._on_change(self.programs[event.spec.name], event, now)
            case Shutdown():
                self._on_shutdown(event.cause)
            case SpawnSucceeded():
                self._lives.on_spawned(self.programs[event.name], event.pid, now)
            case SpawnFailed():
                self._lives.on_spawn_failed(self.programs[event.name], event.reason, now)
            case BecameReady():
                self._lives.on_ready(self.programs[event.name], now)
            case Exited():
                self._lives.on_exited(self.programs[event.name], event, now)
            case Emptied():
                self._lives.on_emptied(self.programs[event.name], event, now)
            case CheckPassed() | CheckFailed():
                self._lives.on_check(self.programs[event.name], event, now)
            case HookEnded():
                self._lives.on_hook_ended(self.programs[event.name], event, now)
            case ScheduleDue():
                self._on_schedule(self.programs[event.name], now)
            case TimeoutExtended():
                self._lives.on_timeout_extended(self.programs[event.name], event.seconds, now)
            case DeadlinePassed():
                self._lives.deadlines.set(self.programs[event.name], None)
                self._lives.on_deadline(self.programs[event.name], now)
            case _:
                assert_never(event)

    # Requests

    def _on_request(self, program: Program, request: Start | Stop | Restart | Remove, now: float) -> None:
        match request:
            case Start():
                self._want_up(program, Trigger.START_REQUESTED, request.cause, now)
            case Restart():
                self._want_up(program, Trigger.RESTART_REQUESTED, request.cause, now)
            case Stop():
                self._want_down(program, request.cause)
            case Remove():
                self._want_down(program, request.cause)
                program.retiring = True

    def _want_up(self, program: Program, trigger: Trigger, cause: Cause, now: float) -> None:
        if self.closing or program.retiring:
            return
        self._lives.apply(program, trigger, cause, now)
        program.desired = Desired.UP
        program.wish = cause
        program.armed = program.spec.schedule is not None
        program.after = None
        # Somebody looked after it: failures of the past neither slow it down nor count.
        program.failures = 0
        program.failed_at_s = ()
        if program.spec.depends_on:
            self._pulled.append(program)

    def _want_down(self, program: Program, cause: Cause) -> None:
        program.desired = Desired.DOWN
        program.wish = cause
        program.armed = False
        program.after = None
        self._lives.touched.append(program)

    def _on_add(self, event: Add, now: float) -> None:
        spec = event.spec
        program = self.programs.get(spec.name)
        if program is not None:
            # It was removed a moment ago and is not yet empty: the new one takes its place when it is.
            program.retiring = False
            program.successor = spec
        else:
            program = self.programs[spec.name] = Program(spec, now)
            self.gate.enrol(program)
            self._lives.touched.append(program)
        if spec.schedule is not None:
            program.armed = event.start
        elif event.start:
            self._want_up(program, Trigger.START_REQUESTED, event.cause, now)

    def _on_change(self, program: Program, event: Change, now: float) -> None:
        if event.restart and program.live:
            program.successor = event.spec
            anew = program.state is not State.STOPPING
        else:
            self._respecify(program, event.spec)
            anew = event.restart and program.state in _TRYING and program.desired is Desired.UP
        if anew:
            self._want_up(program, Trigger.RESTART_REQUESTED, event.cause, now)

    def _respecify(self, program: Program, spec: ProgramSpec) -> None:
        old = program.spec
        self.gate.strike(program)
        program.spec = spec
        self.gate.enrol(program)
        program.armed = program.armed and spec.schedule is not None
        self._lives.touched.append(program)
        if program.state is State.RUNNING:
            if spec.health != old.health:
                program.health, program.health_failures, program.health_reason = None, 0, ""
                self._lives.actions.append(WatchHealth(program.name))
            self._lives.limit_runtime(program)

    def _on_shutdown(self, cause: Cause) -> None:
        self.closing = True
        for program in self.programs.values():
            program.armed = False
            if program.state in ACTIVE:
                self._want_down(program, cause)

    # Schedules

    def _on_schedule(self, program: Program, now: float) -> None:
        if not program.armed or self.closing:
            return
        if program.state in ACTIVE:
            program.skipped += 1
            return
        self._want_up(program, Trigger.START_REQUESTED, Cause(f"schedule {program.spec.schedule!r}"), now)

    # Wishes

    def _settle(self, now: float) -> list[Action]:
        """Carry wishes on until nothing moves, then hand the actions out."""
        self._close_with_essential()
        while self._pulled or self._lives.touched or self._may_open():
            if self._pulled:
                self._pull(self._pulled.popleft(), now)
            elif self._lives.touched:
                program = self._lives.touched.popleft()
                self._consider(program, now)
                for neighbour in self.gate.neighbours(program):
                    self._consider(neighbour, now)
            else:
                self._open(self._queue.popleft(), now)
        actions, self._lives.actions = self._lives.actions, []
        return actions

    def _close_with_essential(self) -> None:
        final = self._lives.final
        if final is not None and not self.closing:
            self.final = final
            self._on_shutdown(Cause(f"{final.name}, which is essential, ended: {final.cause.text}"))
        self._lives.final = None

    def _pull(self, program: Program, now: float) -> None:
        """Whoever wants a program wants what it needs."""
        for other, condition in self.gate.dependencies(program):
            if not is_wanted(other, condition):
                cause = Cause(f"needed by {program.name}: {program.wish.text}", program.wish.actor)
                self._want_up(other, Trigger.START_REQUESTED, cause, now)

    def _consider(self, program: Program, now: float) -> None:
        """Look whether a wish that could not be carried out can be now."""
        if program.state is State.STOPPED:
            self._on_rest(program, now)
        elif program.state is State.WAITING and program.desired is Desired.UP:
            self._enqueue(program)
        elif program.desired is Desired.DOWN:
            self._stop_if_free(program, now)
        elif program.live and program.state is not State.STOPPING:
            self._yield_if_lost(program, now)

    def _on_rest(self, program: Program, now: float) -> None:
        """Nothing of the program is left: what was put off until now happens."""
        program.step = 0
        if program.retiring:
            if self.programs.pop(program.name, None) is not None:
                self.gate.strike(program)
                self._lives.actions.append(Forget(program.name))
            return
        if program.successor is not None:
            spec, program.successor = program.successor, None
            self._respecify(program, spec)
        if program.desired is Desired.DOWN or self.closing:
            return
        after, program.after = program.after, None
        if after is None:
            self._lives.apply(program, Trigger.START_REQUESTED, program.wish, now)
        else:
            self._lives.judge(program, after, program.cause, now)

    def _stop_if_free(self, program: Program, now: float) -> None:
        """Stop a program that is not wanted, once nothing that needs it runs."""
        if program.state in PENDING:
            self._lives.apply(program, Trigger.STOP_REQUESTED, program.wish, now)
        elif program.state in _ENDED:
            # A stuck process is not stopped, whatever is wanted.
            if not program.stuck:
                self._lives.apply(program, Trigger.STOP_REQUESTED, program.wish, now)
        elif program.state is not State.STOPPING and not self.gate.holders(program):
            self._lives.apply(program, Trigger.STOP_REQUESTED, program.wish, now)

    def _yield_if_lost(self, program: Program, now: float) -> None:
        """Stop a program that must not run without what it has lost; it waits for that to come back."""
        lost = self.gate.lost(program)
        if lost is None:
            return
        other, condition = lost
        why = other.wish if other.desired is Desired.DOWN else other.cause
        text = f"{other.name} is no longer {condition.value}: {other.health_reason or why.text}"
        self._lives.stop_for(program, None, Cause(text, why.actor), now)

    def _enqueue(self, program: Program) -> None:
        if not program.queued and not program.stuck and self.gate.is_open(program):
            program.queued = True
            self._queue.append(program)

    def _may_open(self) -> bool:
        return bool(self._queue) and (self._slots is None or self._lives.starting < self._slots)

    def _open(self, program: Program, now: float) -> None:
        """Let the first in the queue start, if it still waits and still may."""
        program.queued = False
        if program.state is State.WAITING and self.gate.is_open(program):
            self._lives.apply(program, Trigger.CLEARED, program.cause, now)
