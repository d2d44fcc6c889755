"""The machine: one event in, all its consequences out.

Owns the records of all programs.  `handle` takes an event, lets the table and the policy decide, settles what
follows from it, and returns the actions in the order in which they are to be carried out.  Time is an argument,
chance a function given at birth.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

from procd.config.spec import StopScope
from procd.core.deadlines import Deadlines
from procd.core.events import (
    Action,
    Add,
    AwaitEmpty,
    BecameReady,
    Cause,
    Change,
    DeadlinePassed,
    Emptied,
    Event,
    Exited,
    Forget,
    KillTree,
    Publish,
    Remove,
    Restart,
    Shutdown,
    Signal,
    Spawn,
    SpawnFailed,
    SpawnSucceeded,
    Start,
    Stop,
    Transition,
)
from procd.core.policy import backoff_delay_s, verdict_on_exit, verdict_on_spawn_failure
from procd.core.program import LIVE, Program
from procd.core.states import Desired, Effect, State, Trigger, next_rule
from procd.quantities import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

READY = Cause("ready")

#: States without a process that lead to one by themselves.
_PENDING = frozenset({State.WAITING, State.BACKOFF})
_ACTIVE = LIVE | _PENDING

#: States in which another spec is worth another try at once: what was wrong may have been mended.
_TRYING = frozenset({State.BACKOFF, State.FATAL, *LIVE})

#: What a passed deadline means, by the state that had set it.
_DEADLINE_MEANS = {
    State.STARTING: Trigger.BECAME_READY,
    State.BACKOFF: Trigger.RETRY_DUE,
    State.STOPPING: Trigger.STOP_TIMED_OUT,
}


class Machine:
    """All programs and what is decided about them.

    `chance` returns a number in [0, 1), for the jitter of delays.  `max_concurrent_starts` bounds how many
    programs may be STARTING at once (None: no bound); the others are WAITING, in the order of their requests.
    """

    def __init__(self, chance: Callable[[], float], max_concurrent_starts: int | None = None) -> None:
        self.programs: dict[str, Program] = {}
        self.closing = False
        self._chance = chance
        self._slots = max_concurrent_starts
        self._starting = 0
        self._active = 0
        self._waiting: deque[Program] = deque()
        self._deadlines = Deadlines()
        self._actions: list[Action] = []
        self._touched: list[Program] = []

    # What the shell asks

    def next_deadline(self) -> float | None:
        """The one moment at which `expire` has to be called, or None."""
        return self._deadlines.next()

    def expire(self, now: float) -> list[Action]:
        """Handle every deadline that has passed by `now`."""
        while (program := self._deadlines.pop_passed(now)) is not None:
            self._on_deadline(program, now)
        return self._settle(now)

    def at_rest(self) -> bool:
        """Whether no program has a process, and none is about to get one."""
        return self._active == 0

    # Events

    def handle(self, event: Event, now: float) -> list[Action]:  # noqa: C901 - one arm for each kind of event
        """Take one event in; return what has to be done because of it, in order.

        Raises IllegalTransition, with nothing changed, for an event that its program cannot have in its state,
        and KeyError for a program that does not exist.
        """
        match event:
            case Start() | Stop() | Restart():
                self._on_request(event, now)
            case Add():
                self._on_add(event, now)
            case Remove():
                self._on_remove(self.programs[event.name], event.cause, now)
            case Change():
                self._on_change(self.programs[event.spec.name], event, now)
            case Shutdown():
                self._on_shutdown(event.cause, now)
            case SpawnSucceeded():
                self._on_spawned(self.programs[event.name], event.pid, now)
            case SpawnFailed():
                self._on_spawn_failed(self.programs[event.name], event.reason, now)
            case BecameReady():
                self._apply(self.programs[event.name], Trigger.BECAME_READY, READY, now)
            case Exited():
                self._on_exited(self.programs[event.name], event, now)
            case Emptied():
                self._on_emptied(self.programs[event.name], event, now)
            case DeadlinePassed():
                self._deadlines.set(self.programs[event.name], None)
                self._on_deadline(self.programs[event.name], now)
            case _:
                assert_never(event)
        return self._settle(now)

    # Requests

    def _on_request(self, request: Start | Stop | Restart, now: float) -> None:
        program = self.programs[request.name]
        if isinstance(request, Stop):
            self._want_down(program, request.cause, now)
        elif isinstance(request, Start):
            self._want_up(program, Trigger.START_REQUESTED, request.cause, now)
        else:
            self._want_up(program, Trigger.RESTART_REQUESTED, request.cause, now)

    def _want_up(self, program: Program, trigger: Trigger, cause: Cause, now: float) -> None:
        if self.closing or program.retiring:
            return
        self._apply(program, trigger, cause, now)
        program.desired = Desired.UP
        program.wish = cause
        # Somebody looked after it: failures of the past do not slow it down.
        program.failures = 0

    def _want_down(self, program: Program, cause: Cause, now: float) -> None:
        self._apply(program, Trigger.STOP_REQUESTED, cause, now)
        program.desired = Desired.DOWN
        program.wish = cause

    def _on_add(self, event: Add, now: float) -> None:
        name = event.spec.name
        present = self.programs.get(name)
        if present is not None:
            # It was removed a moment ago and is not yet empty: the new one takes its place when it is.
            present.retiring = False
            present.successor = event.spec
            program = present
        else:
            program = self.programs[name] = Program(event.spec, now)
        if event.start:
            self._want_up(program, Trigger.START_REQUESTED, event.cause, now)

    def _on_remove(self, program: Program, cause: Cause, now: float) -> None:
        self._want_down(program, cause, now)
        program.retiring = True

    def _on_change(self, program: Program, event: Change, now: float) -> None:
        if event.restart and program.live:
            program.successor = event.spec
            anew = program.state is not State.STOPPING
        else:
            program.spec = event.spec
            anew = event.restart and program.state in _TRYING and program.desired is Desired.UP
        if anew:
            self._want_up(program, Trigger.RESTART_REQUESTED, event.cause, now)

    def _on_shutdown(self, cause: Cause, now: float) -> None:
        self.closing = True
        for program in reversed(self.programs.values()):
            if program.live or program.state in _PENDING:
                self._want_down(program, cause, now)

    # Facts

    def _on_spawned(self, program: Program, pid: int, now: float) -> None:
        self._apply(program, Trigger.SPAWNED, program.cause, now)
        program.pid = pid
        program.started_s = now
        if program.state is not State.STARTING:
            return
        if program.spec.min_uptime_s > 0:
            self._deadlines.set(program, now + program.spec.min_uptime_s)
        else:
            self._apply(program, Trigger.BECAME_READY, READY, now)

    def _on_spawn_failed(self, program: Program, reason: str, now: float) -> None:
        cause = Cause(reason)
        program.exit = None
        if program.state is State.STOPPING:
            self._apply(program, Trigger.EMPTIED, cause, now)
        else:
            self._failed_start(program, verdict_on_spawn_failure(program.spec), cause, now)

    def _on_exited(self, program: Program, event: Exited, now: float) -> None:
        if program.started_s is None:
            raise AssertionError(f"{program.name} exited, but was never spawned")
        uptime_s = now - program.started_s
        cause = Cause(f"{event.exit} after {format_duration(uptime_s)}")
        if program.state is State.STOPPING:
            self._apply(program, Trigger.EXITED, program.cause, now)
        else:
            self._failed_start(program, verdict_on_exit(program.spec, event.exit, uptime_s), cause, now)
        program.exit = event.exit
        program.pid = None

    def _failed_start(self, program: Program, verdict: Trigger, cause: Cause, now: float) -> None:
        if verdict is Trigger.RESTART_LATER:
            count = program.failures + 1
            cause = Cause(f"{cause.text}; failed start {count} in a row") if count > 1 else cause
        self._apply(program, verdict, cause, now)
        if verdict is Trigger.RESTART_LATER:
            program.failures += 1
            delay_s = backoff_delay_s(program.spec.backoff, program.failures, self._chance())
            self._deadlines.set(program, now + delay_s)
        elif verdict is Trigger.RESTART_NOW:
            program.failures = 0
            program.restarts += 1

    def _on_emptied(self, program: Program, event: Emptied, now: float) -> None:
        cause = program.cause
        if event.survivors:
            cause = Cause(f"{cause.text}; killed what was left: {', '.join(event.survivors)}", cause.actor)
        self._apply(program, Trigger.EMPTIED, cause, now)

    def _on_deadline(self, program: Program, now: float) -> None:
        trigger = _DEADLINE_MEANS[program.state]
        if trigger is Trigger.BECAME_READY:
            cause = READY
        elif trigger is Trigger.STOP_TIMED_OUT:
            limit = format_duration(program.spec.stop_timeout_s)
            cause = Cause(f"{program.cause.text}; did not stop within {limit}, killed", program.cause.actor)
        else:
            cause = program.cause
            program.restarts += 1
        self._apply(program, trigger, cause, now)

    # Transitions

    def _apply(self, program: Program, trigger: Trigger, cause: Cause, now: float) -> None:
        """Make one transition: the only place where a state changes."""
        old = program.state
        rule = next_rule(program.name, old, trigger)
        if rule.target is not old:
            self._enter(program, rule.target, cause, now)
        elif trigger is Trigger.STOP_TIMED_OUT:
            program.cause = cause
        for effect in rule.effects:
            self._emit(program, effect, now)
        self._touched.append(program)

    def _enter(self, program: Program, state: State, cause: Cause, now: float) -> None:
        old = program.state
        self._starting += (state is State.STARTING) - (old is State.STARTING)
        self._active += (state in _ACTIVE) - (old in _ACTIVE)
        program.state = state
        program.cause = cause
        program.since_s = now
        self._deadlines.set(program, None)
        if state is State.WAITING:
            self._waiting.append(program)
        self._actions.append(Publish(Transition(program.name, old, state, cause, now)))

    def _emit(self, program: Program, effect: Effect, now: float) -> None:
        spec = program.spec
        match effect:
            case Effect.SPAWN:
                self._actions.append(Spawn(program.name))
            case Effect.SIGNAL:
                group = spec.stop_scope is StopScope.GROUP
                self._actions.append(Signal(program.name, spec.stop_signal, group))
                self._deadlines.set(program, now + spec.stop_timeout_s)
            case Effect.KILL:
                self._actions.append(KillTree(program.name))
            case Effect.AWAIT_EMPTY:
                self._actions.append(AwaitEmpty(program.name))
            case _:
                assert_never(effect)

    # Wishes

    def _settle(self, now: float) -> list[Action]:
        """Carry wishes on until nothing moves, then hand the actions out."""
        touched = self._touched
        while touched:
            program = touched.pop()
            if program.state is State.STOPPED:
                self._on_empty(program, now)
            if not touched:
                self._open_gate(now)
        actions, self._actions = self._actions, []
        return actions

    def _on_empty(self, program: Program, now: float) -> None:
        """Nothing of the program is left: what was put off until now happens."""
        if program.retiring:
            if self.programs.pop(program.name, None) is not None:
                self._actions.append(Forget(program.name))
            return
        if program.successor is not None:
            program.spec, program.successor = program.successor, None
        if program.desired is Desired.UP and not self.closing:
            self._apply(program, Trigger.START_REQUESTED, program.wish, now)

    def _open_gate(self, now: float) -> None:
        """Let waiting programs start, first come first served, while there are start slots."""
        while self._waiting and (self._slots is None or self._starting < self._slots):
            program = self._waiting.popleft()
            # One that was stopped while it waited is still in the queue.
            if program.state is State.WAITING:
                self._apply(program, Trigger.CLEARED, program.cause, now)
