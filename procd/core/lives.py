"""What happens to one program at a time: the facts of its life, and what follows from them for itself.

Owns every change of state, the deadlines, and the actions that wait to be handed out.  Must not know what
programs want of each other, but for one question: whether the way is open for another start.  `machine` decides
who is to run, this module knows how that goes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

from procd.config.spec import StopScope
from procd.core.deadlines import Deadlines
from procd.core.events import (
    Action,
    AwaitEmpty,
    AwaitReady,
    CancelHook,
    Cause,
    CheckFailed,
    CheckPassed,
    Emptied,
    Exited,
    Hook,
    HookEnded,
    KillTree,
    Publish,
    RunHook,
    Signal,
    Spawn,
    Transition,
    WatchHealth,
)
from procd.core.policy import (
    backoff_delay_s,
    recent_failures,
    stop_steps,
    verdict_on_exit,
    verdict_on_failed_start,
    verdict_on_max_runtime,
)
from procd.core.program import ACTIVE, REMEMBERED, Program
from procd.core.states import Effect, State, Trigger, next_rule
from procd.quantities import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.core.gate import Gate

READY = Cause("ready")

#: How long SIGKILL may take.  What lives longer hangs in the kernel (D state), and may do so for ever.
KILL_GRACE_S = 5.0


class Lives:
    """The lives of all programs.

    `touched` are programs of which something changed, in order; `final` is the essential program that ended for
    good.  `starting` and `active` count programs that are STARTING, and that are not at rest.
    """

    def __init__(self, gate: Gate, chance: Callable[[], float]) -> None:
        self.actions: list[Action] = []
        self.touched: deque[Program] = deque()
        self.deadlines = Deadlines()
        self.final: Program | None = None
        self.starting = 0
        self.active = 0
        self._gate = gate
        self._chance = chance

    # Facts of a start

    def on_spawned(self, program: Program, pid: int, now: float) -> None:
        """The program was executed: what it takes to be ready is waited for."""
        self.apply(program, Trigger.SPAWNED, program.cause, now)
        program.pid = pid
        program.started_s = now
        if program.state is not State.STARTING:
            return
        spec = program.spec
        if spec.ready is not None:
            self.deadlines.set(program, now + spec.start_timeout_s)
            self.actions.append(AwaitReady(program.name))
        elif spec.min_uptime_s > 0:
            self.deadlines.set(program, now + spec.min_uptime_s)
        else:
            self.on_ready(program, now)

    def on_ready(self, program: Program, now: float) -> None:
        """It does its work, or what passes for a sign of that."""
        # The answer of a check may come when it does not matter any more.
        if program.state is not State.STARTING or program.pid is None:
            return
        self.apply(program, Trigger.BECAME_READY, READY, now)
        spec = program.spec
        self.limit_runtime(program)
        if spec.health is not None:
            self.actions.append(WatchHealth(program.name))
        if spec.hooks is not None and spec.hooks.after_ready:
            self.actions.append(RunHook(program.name, Hook.AFTER_READY))

    def limit_runtime(self, program: Program) -> None:
        """Give a program that runs the deadline of its `max_runtime`."""
        limit_s, started_s = program.spec.max_runtime_s, program.started_s
        ends_s = None if limit_s is None or started_s is None else started_s + limit_s
        self.deadlines.set(program, ends_s)

    def on_spawn_failed(self, program: Program, reason: str, now: float) -> None:
        """It could not be executed."""
        cause = Cause(reason)
        if program.state is State.STOPPING:
            self.apply(program, Trigger.EMPTIED, program.cause, now)
        else:
            self.judge(program, verdict_on_failed_start(program.spec), cause, now)
        program.exit = None

    def on_timeout_extended(self, program: Program, seconds: float, now: float) -> None:
        """It asks for more time to get ready, or to stop."""
        waits = program.state is State.STOPPING or (
            program.state is State.STARTING and program.spec.ready is not None
        )
        if waits and program.deadline_s is not None:
            self.deadlines.set(program, max(program.deadline_s, now + seconds))

    # Facts of an end

    def on_exited(self, program: Program, event: Exited, now: float) -> None:
        """Its main process is gone."""
        if program.started_s is None:
            raise AssertionError(f"{program.name} exited, but was never spawned")
        uptime_s = now - program.started_s
        if program.state is State.STOPPING:
            self.apply(program, Trigger.EXITED, program.cause, now)
            if program.hook is Hook.BEFORE_STOP:
                self.actions.append(CancelHook(program.name))
        elif program.stuck:
            self.actions.append(AwaitEmpty(program.name))
        else:
            spec = program.spec
            ready = spec.ready is None or program.state is State.RUNNING
            verdict = verdict_on_exit(spec, event.exit, good_run=ready and uptime_s >= spec.min_uptime_s)
            program.exit = event.exit
            self.judge(program, verdict, Cause(f"{event.exit} after {format_duration(uptime_s)}"), now)
        program.exit = event.exit
        program.pid = None

    def judge(self, program: Program, verdict: Trigger, cause: Cause, now: float) -> None:
        """Carry a verdict out: what follows the end of a program that nobody asked for."""
        if verdict is Trigger.RESTART_LATER and not self._gate.is_open(program):
            # It had no chance without its dependency: it waits for that, and the failure does not count.
            verdict = Trigger.RESTART_NOW
        elif verdict is Trigger.RESTART_LATER:
            verdict, cause = self._count_failure(program, cause, now)
        elif verdict is Trigger.RESTART_NOW:
            program.failures = 0
        self.apply(program, verdict, cause, now)
        if verdict is Trigger.RESTART_LATER:
            delay_s = backoff_delay_s(program.spec.backoff, program.failures, self._chance())
            self.deadlines.set(program, now + delay_s)
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

    def on_emptied(self, program: Program, event: Emptied, now: float) -> None:
        """Nothing of its life is left."""
        program.pid = None
        if program.stuck:
            program.stuck = False
            self.touched.append(program)
            return
        cause = program.cause
        if event.survivors:
            cause = Cause(f"{cause.text}; killed what was left: {', '.join(event.survivors)}", cause.actor)
        hooks = program.spec.hooks
        if hooks is not None and hooks.after_stop:
            program.hook = Hook.AFTER_STOP
            program.cause = cause
            self.deadlines.set(program, None)
            self.actions.append(RunHook(program.name, Hook.AFTER_STOP))
        else:
            self.apply(program, Trigger.EMPTIED, cause, now)

    # Checks and hooks

    def on_check(self, program: Program, event: CheckPassed | CheckFailed, now: float) -> None:
        """Its health was looked at."""
        health = program.spec.health
        if program.state is not State.RUNNING or health is None:
            return
        if isinstance(event, CheckPassed):
            if program.health is not True:
                self.touched.append(program)
            program.health, program.health_failures, program.health_reason = True, 0, ""
            return
        program.health_failures += 1
        program.health_reason = event.reason
        if not event.final and program.health_failures < health.failures:
            return
        if program.health is not False:
            self.touched.append(program)
        program.health = False
        if health.restart:
            uptime_s = now - (program.started_s or now)
            good = uptime_s >= program.spec.min_uptime_s
            verdict = Trigger.RESTART_NOW if good else Trigger.RESTART_LATER
            self.stop_for(program, verdict, Cause(f"unhealthy: {event.reason}"), now)

    def stop_for(self, program: Program, after: Trigger | None, cause: Cause, now: float) -> None:
        """Stop a program on procd's own account; when it is empty, `after` is its verdict."""
        self.apply(program, Trigger.STOP_DECIDED, cause, now)
        program.after = after

    def on_hook_ended(self, program: Program, event: HookEnded, now: float) -> None:
        """A hook is over: what waited for it goes on."""
        if program.hook is not event.hook:
            return
        program.hook = None
        match event.hook:
            case Hook.BEFORE_START if program.state is State.STARTING and event.failure:
                cause = Cause(f"hook before_start: {event.failure}")
                self.judge(program, verdict_on_failed_start(program.spec), cause, now)
            case Hook.BEFORE_START if program.state is State.STARTING:
                self.actions.append(Spawn(program.name))
            case Hook.BEFORE_START | Hook.AFTER_STOP:
                self.apply(program, Trigger.EMPTIED, program.cause, now)
            case Hook.BEFORE_STOP if program.pid is not None:
                self._signal(program, now)
            case Hook.BEFORE_STOP | Hook.AFTER_READY:
                # Its program has gone meanwhile; or it is nobody's condition.
                return

    # Deadlines

    def on_deadline(self, program: Program, now: float) -> None:
        """What was waited for did not come, or the time for the next step has."""
        spec = program.spec
        match program.state:
            case State.STARTING if spec.ready is not None:
                cause = Cause(f"not ready within {format_duration(spec.start_timeout_s)}")
                self.stop_for(program, verdict_on_failed_start(spec), cause, now)
            case State.STARTING:
                self.on_ready(program, now)
            case State.RUNNING:
                limit = format_duration(spec.max_runtime_s or 0)
                cause = Cause(f"ran longer than {limit}, its max_runtime")
                self.stop_for(program, verdict_on_max_runtime(spec), cause, now)
            case State.STOPPING:
                self._on_stop_timed_out(program, now)
            case State.BACKOFF:
                program.restarts += 1
                self.apply(program, Trigger.RETRY_DUE, program.cause, now)
            case State.STOPPED | State.WAITING | State.EXITED | State.FATAL:
                raise AssertionError(f"{program.name} has no deadline in state {program.state.name}")

    def _on_stop_timed_out(self, program: Program, now: float) -> None:
        steps = stop_steps(program.spec)
        text, actor = program.cause.text, program.cause.actor
        if program.step + 1 < len(steps):
            program.step += 1
            self.apply(program, Trigger.STEP_TIMED_OUT, program.cause, now)
        elif program.step < len(steps):
            limit = format_duration(sum(step.timeout_s for step in steps))
            program.step = len(steps)
            program.cause = Cause(f"{text}; did not stop within {limit}, killed", actor)
            self.apply(program, Trigger.STOP_TIMED_OUT, program.cause, now)
            self.deadlines.set(program, now + KILL_GRACE_S)
        else:
            program.stuck = True
            pid = f"process {program.pid}" if program.pid is not None else "something of it"
            self.apply(program, Trigger.STUCK, Cause(f"{text}, but {pid} does not die", actor), now)

    # Transitions

    def apply(self, program: Program, trigger: Trigger, cause: Cause, now: float) -> None:
        """Make one transition: the only place where a state changes."""
        old = program.state
        rule = next_rule(program.name, old, trigger)
        if rule.target is not old:
            self._enter(program, rule.target, cause, now)
        for effect in rule.effects:
            self._emit(program, effect, now)
        self.touched.append(program)

    def _enter(self, program: Program, state: State, cause: Cause, now: float) -> None:
        old = program.state
        self.starting += (state is State.STARTING) - (old is State.STARTING)
        self.active += (state in ACTIVE) - (old in ACTIVE)
        program.state = state
        program.cause = cause
        program.since_s = now
        self.deadlines.set(program, None)
        transition = Transition(program.name, old, state, cause, now)
        program.history = (*program.history[1 - REMEMBERED :], transition)
        self.actions.append(Publish(transition))
        if old is State.RUNNING:
            program.health, program.health_failures = None, 0
        if program.spec.essential and state in {State.EXITED, State.FATAL}:
            self.final = program

    def _emit(self, program: Program, effect: Effect, now: float) -> None:
        match effect:
            case Effect.SPAWN:
                self._spawn(program)
            case Effect.SIGNAL:
                self._begin_stop(program, now)
            case Effect.KILL:
                self.actions.append(KillTree(program.name))
            case Effect.AWAIT_EMPTY:
                self.actions.append(AwaitEmpty(program.name))
            case _:
                assert_never(effect)

    def _spawn(self, program: Program) -> None:
        program.after = None
        hooks = program.spec.hooks
        if hooks is not None and hooks.before_start:
            program.hook = Hook.BEFORE_START
            self.actions.append(RunHook(program.name, Hook.BEFORE_START))
        else:
            self.actions.append(Spawn(program.name))

    def _begin_stop(self, program: Program, now: float) -> None:
        """Send the signal of the present step; before the first one comes the hook."""
        hooks = program.spec.hooks
        if program.hook is Hook.BEFORE_START:
            self.actions.append(CancelHook(program.name))
        elif program.step == 0 and program.pid is not None and hooks is not None and hooks.before_stop:
            program.hook = Hook.BEFORE_STOP
            self.actions.append(RunHook(program.name, Hook.BEFORE_STOP))
        else:
            self._signal(program, now)

    def _signal(self, program: Program, now: float) -> None:
        step = stop_steps(program.spec)[program.step]
        group = program.step > 0 or program.spec.stop_scope is StopScope.GROUP
        self.actions.append(Signal(program.name, step.signal, group))
        self.deadlines.set(program, now + step.timeout_s)
