"""The machine: events in, all their consequences out.

Owns the records of all programs.  `handle` takes events, lets the table and the policy decide, settles what
follows from that for everybody, and returns the actions in the order in which they are to be carried out.  Time
is an argument, chance a function given at birth.

Above 500 lines, because it is one table of answers: one short method for each event, and one for each effect.
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
    AwaitReady,
    BecameReady,
    CancelHook,
    Cause,
    Change,
    CheckFailed,
    CheckPassed,
    DeadlinePassed,
    Emptied,
    Event,
    Exited,
    Forget,
    Hook,
    HookEnded,
    KillTree,
    Publish,
    Remove,
    Restart,
    RunHook,
    ScheduleDue,
    Shutdown,
    Signal,
    Spawn,
    SpawnFailed,
    SpawnSucceeded,
    Start,
    Stop,
    TimeoutExtended,
    Transition,
    WatchHealth,
)
from procd.core.gate import Gate, is_wanted
from procd.core.policy import (
    backoff_delay_s,
    recent_failures,
    stop_steps,
    verdict_on_exit,
    verdict_on_failed_start,
    verdict_on_max_runtime,
)
from procd.core.program import LIVE, REMEMBERED, Program
from procd.core.states import Desired, Effect, State, Trigger, next_rule
from procd.quantities import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procd.config.spec import ProgramSpec

READY = Cause("ready")

#: How long SIGKILL may take.  What lives longer hangs in the kernel (D state), and may do so for ever.
KILL_GRACE_S = 5.0

#: States without a process that lead to one by themselves.
_PENDING = frozenset({State.WAITING, State.BACKOFF})
_ACTIVE = LIVE | _PENDING

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
        self._chance = chance
        self._slots = max_concurrent_starts
        self._starting = 0
        self._active = 0
        self._queue: deque[Program] = deque()
        self._deadlines = Deadlines()
        self._actions: list[Action] = []
        self._touched: deque[Program] = deque()
        self._pulled: deque[Program] = deque()

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
            reasons.append(f"a start slot ({self._starting} of {self._slots} programs are starting)")
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
                self._on_spawned(self.programs[event.name], event.pid, now)
            case SpawnFailed():
                self._on_spawn_failed(self.programs[event.name], event.reason, now)
            case BecameReady():
                self._on_ready(self.programs[event.name], now)
            case Exited():
                self._on_exited(self.programs[event.name], event, now)
            case Emptied():
                self._on_emptied(self.programs[event.name], event, now)
            case CheckPassed() | CheckFailed():
                self._on_check(self.programs[event.name], event, now)
            case HookEnded():
                self._on_hook_ended(self.programs[event.name], event, now)
            case ScheduleDue():
                self._on_schedule(self.programs[event.name], now)
            case TimeoutExtended():
                self._on_timeout_extended(self.programs[event.name], event.seconds, now)
            case DeadlinePassed():
                self._deadlines.set(self.programs[event.name], None)
                self._on_deadline(self.programs[event.name], now)
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
        self._apply(program, trigger, cause, now)
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
        self._touched.append(program)

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
            self._touched.append(program)
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
        self._touched.append(program)
        if program.state is State.RUNNING:
            if spec.health != old.health:
                program.health, program.health_failures, program.health_reason = None, 0, ""
                self._actions.append(WatchHealth(program.name))
            self._limit_runtime(program)

    def _on_shutdown(self, cause: Cause) -> None:
        self.closing = True
        for program in self.programs.values():
            program.armed = False
            if program.state in _ACTIVE:
                self._want_down(program, cause)

    # Facts of a start

    def _on_spawned(self, program: Program, pid: int, now: float) -> None:
        self._apply(program, Trigger.SPAWNED, program.cause, now)
        program.pid = pid
        program.started_s = now
        if program.state is not State.STARTING:
            return
        spec = program.spec
        if spec.ready is not None:
            self._deadlines.set(program, now + spec.start_timeout_s)
            self._actions.append(AwaitReady(program.name))
        elif spec.min_uptime_s > 0:
            self._deadlines.set(program, now + spec.min_uptime_s)
        else:
            self._on_ready(program, now)

    def _on_ready(self, program: Program, now: float) -> None:
        # The answer of a check may come when it does not matter any more.
        if program.state is not State.STARTING or program.pid is None:
            return
        self._apply(program, Trigger.BECAME_READY, READY, now)
        spec = program.spec
        self._limit_runtime(program)
        if spec.health is not None:
            self._actions.append(WatchHealth(program.name))
        if spec.hooks is not None and spec.hooks.after_ready:
            self._actions.append(RunHook(program.name, Hook.AFTER_READY))

    def _limit_runtime(self, program: Program) -> None:
        limit_s, started_s = program.spec.max_runtime_s, program.started_s
        ends_s = None if limit_s is None or started_s is None else started_s + limit_s
        self._deadlines.set(program, ends_s)

    def _on_spawn_failed(self, program: Program, reason: str, now: float) -> None:
        cause = Cause(reason)
        if program.state is State.STOPPING:
            self._apply(program, Trigger.EMPTIED, program.cause, now)
        else:
            self._judge(program, verdict_on_failed_start(program.spec), cause, now)
        program.exit = None

    def _on_timeout_extended(self, program: Program, seconds: float, now: float) -> None:
        waits = program.state is State.STOPPING or (
            program.state is State.STARTING and program.spec.ready is not None
        )
        if waits and program.deadline_s is not None:
            self._deadlines.set(program, max(program.deadline_s, now + seconds))

    # Facts of an end

    def _on_exited(self, program: Program, event: Exited, now: float) -> None:
        if program.started_s is None:
            raise AssertionError(f"{program.name} exited, but was never spawned")
        uptime_s = now - program.started_s
        if program.state is State.STOPPING:
            self._apply(program, Trigger.EXITED, program.cause, now)
            if program.hook is Hook.BEFORE_STOP:
                self._actions.append(CancelHook(program.name))
        elif program.stuck:
            self._actions.append(AwaitEmpty(program.name))
        else:
            spec = program.spec
            ready = spec.ready is None or program.state is State.RUNNING
            verdict = verdict_on_exit(spec, event.exit, good_run=ready and uptime_s >= spec.min_uptime_s)
            program.exit = event.exit
            self._judge(program, verdict, Cause(f"{event.exit} after {format_duration(uptime_s)}"), now)
        program.exit = event.exit
        program.pid = None

    def _judge(self, program: Program, verdict: Trigger, cause: Cause, now: float) -> None:
        """Carry a verdict out: what follows the end of a program that nobody asked for."""
        if verdict is Trigger.RESTART_LATER and not self.gate.is_open(program):
            # It had no chance without its dependency: it waits for that, and the failure does not count.
            verdict = Trigger.RESTART_NOW
        elif verdict is Trigger.RESTART_LATER:
            verdict, cause = self._count_failure(program, cause, now)
        elif verdict is Trigger.RESTART_NOW:
            program.failures = 0
        self._apply(program, verdict, cause, now)
        if verdict is Trigger.RESTART_LATER:
            delay_s = backoff_delay_s(program.spec.backoff, program.failures, self._chance())
            self._deadlines.set(program, now + delay_s)
        elif verdict is Trigger.RESTART_NOW:
            program.restarts += 1

    def _count_failure(self, program: Program, cause: Cause, now: float) -> tuple[Trigger, Cause]:
        limit = program.spec.start_limit
        program.failures += 1
        program.failed_at_s = recent_failures(limit, program.failed_at_s, now)
        if limit is not None and len(program.failed_at_s) > limit.count:
            within = format_duration(limit.within_s)
            text = f"more than {limit.count} failed starts within {within}; the last: {cause.text}"
            return Trigger.GAVE_UP, Cause(text)
        if program.failures > 1:
            cause = Cause(f"{cause.text}; failed start {program.failures} in a row")
        return Trigger.RESTART_LATER, cause

    def _on_emptied(self, program: Program, event: Emptied, now: float) -> None:
        program.pid = None
        if program.stuck:
            program.stuck = False
            self._touched.append(program)
            return
        cause = program.cause
        if event.survivors:
            cause = Cause(f"{cause.text}; killed what was left: {', '.join(event.survivors)}", cause.actor)
        hooks = program.spec.hooks
        if hooks is not None and hooks.after_stop:
            program.hook = Hook.AFTER_STOP
            program.cause = cause
            self._deadlines.set(program, None)
            self._actions.append(RunHook(program.name, Hook.AFTER_STOP))
        else:
            self._apply(program, Trigger.EMPTIED, cause, now)

    # Checks, hooks, schedules

    def _on_check(self, program: Program, event: CheckPassed | CheckFailed, now: float) -> None:
        health = program.spec.health
        if program.state is not State.RUNNING or health is None:
            return
        if isinstance(event, CheckPassed):
            if program.health is not True:
                self._touched.append(program)
            program.health, program.health_failures, program.health_reason = True, 0, ""
            return
        program.health_failures += 1
        program.health_reason = event.reason
        if not event.final and program.health_failures < health.failures:
            return
        if program.health is not False:
            self._touched.append(program)
        program.health = False
        if health.restart:
            uptime_s = now - (program.started_s or now)
            good = uptime_s >= program.spec.min_uptime_s
            verdict = Trigger.RESTART_NOW if good else Trigger.RESTART_LATER
            self._stop_for(program, verdict, Cause(f"unhealthy: {event.reason}"), now)

    def _stop_for(self, program: Program, after: Trigger | None, cause: Cause, now: float) -> None:
        """Stop a program on procd's own account; when it is empty, `after` is its verdict."""
        self._apply(program, Trigger.STOP_DECIDED, cause, now)
        program.after = after

    def _on_hook_ended(self, program: Program, event: HookEnded, now: float) -> None:
        if program.hook is not event.hook:
            return
        program.hook = None
        match event.hook:
            case Hook.BEFORE_START if program.state is State.STARTING and event.failure:
                cause = Cause(f"hook before_start: {event.failure}")
                self._judge(program, verdict_on_failed_start(program.spec), cause, now)
            case Hook.BEFORE_START if program.state is State.STARTING:
                self._actions.append(Spawn(program.name))
            case Hook.BEFORE_START | Hook.AFTER_STOP:
                self._apply(program, Trigger.EMPTIED, program.cause, now)
            case Hook.BEFORE_STOP if program.pid is not None:
                self._signal(program, now)
            case Hook.BEFORE_STOP | Hook.AFTER_READY:
                # Its program has gone meanwhile; or it is nobody's condition.
                return

    def _on_schedule(self, program: Program, now: float) -> None:
        if not program.armed or self.closing:
            return
        if program.state in _ACTIVE:
            program.skipped += 1
            return
        self._want_up(program, Trigger.START_REQUESTED, Cause(f"schedule {program.spec.schedule!r}"), now)

    # Deadlines

    def _on_deadline(self, program: Program, now: float) -> None:
        spec = program.spec
        match program.state:
            case State.STARTING if spec.ready is not None:
                cause = Cause(f"not ready within {format_duration(spec.start_timeout_s)}")
                self._stop_for(program, verdict_on_failed_start(spec), cause, now)
            case State.STARTING:
                self._on_ready(program, now)
            case State.RUNNING:
                limit = format_duration(spec.max_runtime_s or 0)
                cause = Cause(f"ran longer than {limit}, its max_runtime")
                self._stop_for(program, verdict_on_max_runtime(spec), cause, now)
            case State.STOPPING:
                self._on_stop_timed_out(program, now)
            case State.BACKOFF:
                program.restarts += 1
                self._apply(program, Trigger.RETRY_DUE, program.cause, now)
            case State.STOPPED | State.WAITING | State.EXITED | State.FATAL:
                raise AssertionError(f"{program.name} has no deadline in state {program.state.name}")

    def _on_stop_timed_out(self, program: Program, now: float) -> None:
        steps = stop_steps(program.spec)
        text, actor = program.cause.text, program.cause.actor
        if program.step + 1 < len(steps):
            program.step += 1
            self._apply(program, Trigger.STEP_TIMED_OUT, program.cause, now)
        elif program.step < len(steps):
            limit = format_duration(sum(step.timeout_s for step in steps))
            program.step = len(steps)
            program.cause = Cause(f"{text}; did not stop within {limit}, killed", actor)
            self._apply(program, Trigger.STOP_TIMED_OUT, program.cause, now)
            self._deadlines.set(program, now + KILL_GRACE_S)
        else:
            program.stuck = True
            pid = f"process {program.pid}" if program.pid is not None else "something of it"
            self._apply(program, Trigger.STUCK, Cause(f"{text}, but {pid} does not die", actor), now)

    # Transitions

    def _apply(self, program: Program, trigger: Trigger, cause: Cause, now: float) -> None:
        """Make one transition: the only place where a state changes."""
        old = program.state
        rule = next_rule(program.name, old, trigger)
        if rule.target is not old:
            self._enter(program, rule.target, cause, now)
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
        transition = Transition(program.name, old, state, cause, now)
        program.history = (*program.history[1 - REMEMBERED :], transition)
        self._actions.append(Publish(transition))
        if old is State.RUNNING:
            program.health, program.health_failures = None, 0
        if program.spec.essential and state in {State.EXITED, State.FATAL} and not self.closing:
            self.final = program
            self._on_shutdown(Cause(f"{program.name}, which is essential, ended: {cause.text}"))

    def _emit(self, program: Program, effect: Effect, now: float) -> None:
        match effect:
            case Effect.SPAWN:
                self._spawn(program)
            case Effect.SIGNAL:
                self._begin_stop(program, now)
            case Effect.KILL:
                self._actions.append(KillTree(program.name))
            case Effect.AWAIT_EMPTY:
                self._actions.append(AwaitEmpty(program.name))
            case _:
                assert_never(effect)

    def _spawn(self, program: Program) -> None:
        program.after = None
        hooks = program.spec.hooks
        if hooks is not None and hooks.before_start:
            program.hook = Hook.BEFORE_START
            self._actions.append(RunHook(program.name, Hook.BEFORE_START))
        else:
            self._actions.append(Spawn(program.name))

    def _begin_stop(self, program: Program, now: float) -> None:
        """Send the signal of the present step; before the first one comes the hook."""
        hooks = program.spec.hooks
        if program.hook is Hook.BEFORE_START:
            self._actions.append(CancelHook(program.name))
        elif program.step == 0 and program.pid is not None and hooks is not None and hooks.before_stop:
            program.hook = Hook.BEFORE_STOP
            self._actions.append(RunHook(program.name, Hook.BEFORE_STOP))
        else:
            self._signal(program, now)

    def _signal(self, program: Program, now: float) -> None:
        step = stop_steps(program.spec)[program.step]
        group = program.step > 0 or program.spec.stop_scope is StopScope.GROUP
        self._actions.append(Signal(program.name, step.signal, group))
        self._deadlines.set(program, now + step.timeout_s)

    # Wishes

    def _settle(self, now: float) -> list[Action]:
        """Carry wishes on until nothing moves, then hand the actions out."""
        while self._pulled or self._touched or self._may_open():
            if self._pulled:
                self._pull(self._pulled.popleft(), now)
            elif self._touched:
                program = self._touched.popleft()
                self._consider(program, now)
                for neighbour in self.gate.neighbours(program):
                    self._consider(neighbour, now)
            else:
                self._open(self._queue.popleft(), now)
        actions, self._actions = self._actions, []
        return actions

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
                self._actions.append(Forget(program.name))
            return
        if program.successor is not None:
            spec, program.successor = program.successor, None
            self._respecify(program, spec)
        if program.desired is Desired.DOWN or self.closing:
            return
        after, program.after = program.after, None
        if after is None:
            self._apply(program, Trigger.START_REQUESTED, program.wish, now)
        else:
            self._judge(program, after, program.cause, now)

    def _stop_if_free(self, program: Program, now: float) -> None:
        """Stop a program that is not wanted, once nothing that needs it runs."""
        if program.state in _PENDING:
            self._apply(program, Trigger.STOP_REQUESTED, program.wish, now)
        elif program.state in _ENDED:
            # A stuck process is not stopped, whatever is wanted.
            if not program.stuck:
                self._apply(program, Trigger.STOP_REQUESTED, program.wish, now)
        elif program.state is not State.STOPPING and not self.gate.holders(program):
            self._apply(program, Trigger.STOP_REQUESTED, program.wish, now)

    def _yield_if_lost(self, program: Program, now: float) -> None:
        """Stop a program that must not run without what it has lost; it waits for that to come back."""
        lost = self.gate.lost(program)
        if lost is None:
            return
        other, condition = lost
        why = other.wish if other.desired is Desired.DOWN else other.cause
        text = f"{other.name} is no longer {condition.value}: {other.health_reason or why.text}"
        self._stop_for(program, None, Cause(text, why.actor), now)

    def _enqueue(self, program: Program) -> None:
        if not program.queued and not program.stuck and self.gate.is_open(program):
            program.queued = True
            self._queue.append(program)

    def _may_open(self) -> bool:
        return bool(self._queue) and (self._slots is None or self._starting < self._slots)

    def _open(self, program: Program, now: float) -> None:
        """Let the first in the queue start, if it still waits and still may."""
        program.queued = False
        if program.state is State.WAITING and self.gate.is_open(program):
            self._apply(program, Trigger.CLEARED, program.cause, now)
