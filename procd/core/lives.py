"""What happens to one program at a time: the facts of its life, and what follows from them for itself.

Owns every change of state, the deadlines, and the actions that wait to be handed out.  Must not know what
programs want of each other, but for one question: whether the way is open for another start.  `machine` decides
who is to run, this module knows how that goes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

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
    Spawn,
    Transition,
    WatchHealth,
)
from procd.core.policy import (
    backoff_delay_s,
    recent_failures,
    signal_of_step,
    stop_steps,
    verdict_on_exit,
    verdict_on_failed_start,
    verdict_on_max_runtime,
)
from procd.core.program import ACTIVE, REMEMBERED, Program
from procd.core.states import Desired, Effect, IllegalTransition, State, Trigger, next_rule
from procd.quantities import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.config.spec import ProgramSpec
    from procd.core.gate import Gate

READY = Cause("ready")

#: How long SIGKILL may take.  What lives longer hangs in the kernel (D state), and may do so for ever.
KILL_GRACE_S = 5.0

#: States that are the end, unless somebody asks for another start.
_FOR_GOOD = frozenset({State.EXITED, State.FATAL})

#: States in which nobody asks a life to end.
_UP = frozenset({State.STARTING, State.RUNNING})

#: Hooks that run while a process of the program exists.
_BESIDE_A_LIFE = frozenset({Hook.AFTER_READY, Hook.BEFORE_STOP})


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

    # What was there before

    def adopt(self, program: Program) -> None:
        """Take a program in as an earlier machine left it."""
        self.starting += program.state is State.STARTING
        self.active += program.state in ACTIVE
        self.deadlines.set(program, program.deadline_s)

    # Facts of a start

    def on_spawned(self, program: Program, pid: int, now: float) -> None:
        """The program was executed: what it takes to be ready is waited for."""
        self._take_answer(program)
        self.apply(program, Trigger.SPAWNED, program.cause, now)
        program.pid = pid
        program.started_s = now
        program.died_s = None
        if program.state is State.STOPPING:
            # The stop overtook the spawn.  Now there is somebody who can be told.
            self._begin_stop(program, now)
        else:
            self._await_ready(program, now)

    def on_spawn_failed(self, program: Program, reason: str, now: float) -> None:
        """It could not be executed."""
        self._take_answer(program)
        if program.state is State.STOPPING:
            self.apply(program, Trigger.EMPTIED, program.cause, now)
        else:
            self._judge_failed_start(program, Cause(reason), now)

    @staticmethod
    def on_main_changed(program: Program, pid: int) -> None:
        """Follow a program to another main process; one that has none has nobody to follow."""
        if program.pid is not None:
            program.pid = pid

    @staticmethod
    def _take_answer(program: Program) -> None:
        """A spawn is answered once; another answer would be another life."""
        if not program.spawning:
            raise IllegalTransition(program.name, program.state, Trigger.SPAWNED)
        program.spawning = False

    def _await_ready(self, program: Program, now: float) -> None:
        spec = program.spec
        if spec.ready is not None:
            self.actions.append(AwaitReady(program.name))
        self._limit_start(program, now)

    def _limit_start(self, program: Program, now: float) -> None:
        """Set the end of a start: too late to be ready, or (without a check) up for long enough to be."""
        spec = program.spec
        if program.died_s is not None:
            return
        if spec.ready is not None:
            self.deadlines.set(program, program.after_start_s(spec.start_timeout_s))
        elif spec.min_uptime_s > 0:
            self.deadlines.set(program, program.after_start_s(spec.min_uptime_s))
        else:
            self._enter_running(program, now)

    def on_ready(self, program: Program, now: float) -> None:
        """It says that it does its work; it may say so when that does not matter any more."""
        lives = program.pid is not None and program.died_s is None
        if program.state is State.STARTING and lives and program.spec.ready is not None:
            self._enter_running(program, now)

    def _enter_running(self, program: Program, now: float) -> None:
        self.apply(program, Trigger.BECAME_READY, READY, now)
        spec = program.spec
        self._limit_runtime(program)
        if spec.health is not None:
            self.actions.append(WatchHealth(program.name))
        if spec.hooks is not None and spec.hooks.after_ready:
            program.hook = Hook.AFTER_READY
            self.actions.append(RunHook(program.name, Hook.AFTER_READY))

    def _limit_runtime(self, program: Program) -> None:
        limit_s = None if program.died_s is not None else program.spec.max_runtime_s
        self.deadlines.set(program, None if limit_s is None else program.after_start_s(limit_s))

    def on_timeout_extended(self, program: Program, seconds: float, now: float) -> None:
        """It asks for more time to get ready, or to stop; it has none to ask for when it has been killed."""
        if program.deadline_s is None or program.hook is not None:
            return
        starts = program.state is State.STARTING and program.spec.ready is not None
        if starts or (program.state is State.STOPPING and not program.killed):
            self.deadlines.set(program, max(program.deadline_s, now + seconds))

    def on_respecified(self, program: Program, old: ProgramSpec, now: float) -> None:
        """The spec of a program changed under its life: what counts from now on is the new one."""
        spec = program.spec
        if program.state is State.RUNNING:
            if spec.health != old.health:
                program.health, program.health_failures, program.health_reason = None, 0, ""
                self.actions.append(WatchHealth(program.name))
            self._limit_runtime(program)
        elif program.state is State.STARTING and program.pid is not None:
            if spec.ready != old.ready:
                self._await_ready(program, now)
            elif (spec.start_timeout_s, spec.min_uptime_s) != (old.start_timeout_s, old.min_uptime_s):
                self._limit_start(program, now)

    # Facts of an end

    def on_died(self, program: Program, now: float) -> None:
        """Its main process is dead: what counts as its run ends here, whatever its end still waits for."""
        if program.pid is None:
            raise IllegalTransition(program.name, program.state, Trigger.EXITED)
        if program.state in _UP:
            program.died_s = now
            self.deadlines.set(program, None)

    def on_exited(self, program: Program, event: Exited, now: float) -> None:
        """Its main process is gone."""
        if program.pid is None:
            raise IllegalTransition(program.name, program.state, Trigger.EXITED)
        program.pid = None
        program.exit = event.exit
        if program.state is State.STOPPING:
            self.apply(program, Trigger.EXITED, program.cause, now)
            if program.hook is Hook.BEFORE_STOP:
                self._cancel_hook(program, now)
        elif program.stuck:
            self.actions.append(AwaitEmpty(program.name))
        else:
            spec = program.spec
            uptime_s = program.uptime_s(now if program.died_s is None else program.died_s)
            ready = spec.ready is None or program.state is State.RUNNING
            verdict = verdict_on_exit(spec, event.exit, good_run=ready and uptime_s >= spec.min_uptime_s)
            self.judge(program, verdict, Cause(f"{event.exit} after {format_duration(uptime_s)}"), now)

    def _judge_failed_start(self, program: Program, cause: Cause, now: float) -> None:
        program.exit = None
        self.judge(program, verdict_on_failed_start(program.spec), cause, now)

    def judge(self, program: Program, verdict: Trigger, cause: Cause, now: float) -> None:
        """Carry a verdict out: what follows the end of a program that nobody asked for."""
        if program.desired is Desired.DOWN:
            # It was about to be stopped, and has saved us the work.
            verdict = Trigger.FINISHED
        elif verdict is Trigger.RESTART_LATER and not self._gate.is_open(program):
            # It had no chance without its dependency: it waits for that, and the failure does not count.
            verdict, cause = Trigger.RESTART_NOW, Cause(f"{cause.text}; not counted, what it needs was missing")
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

    @staticmethod
    def _count_failure(program: Program, cause: Cause, now: float) -> tuple[Trigger, Cause]:
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
        """Nothing of its life is left, but perhaps a hook that is being cancelled."""
        stops = program.state is State.STOPPING and not program.spawning
        if program.empty or not (stops or program.stuck):
            raise IllegalTransition(program.name, program.state, Trigger.EMPTIED)
        program.pid = None
        program.empty = True
        if event.survivors:
            text = f"{program.cause.text}; killed what was left: {', '.join(event.survivors)}"
            program.cause = Cause(text, program.cause.actor)
        if program.hook is None:
            self._end_stop(program, now)
        elif not program.cancelled:
            self._cancel_hook(program, now)

    def _end_stop(self, program: Program, now: float) -> None:
        hooks = program.spec.hooks
        if not program.stuck and hooks is not None and hooks.after_stop:
            self._run_hook(program, Hook.AFTER_STOP, now)
        else:
            self._leave_empty(program, now)

    def _leave_empty(self, program: Program, now: float) -> None:
        program.stuck = False
        self.apply(program, Trigger.EMPTIED, program.cause, now)

    # Checks

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
            good = program.uptime_s(now) >= program.spec.min_uptime_s
            verdict = Trigger.RESTART_NOW if good else Trigger.RESTART_LATER
            self.stop_for(program, verdict, Cause(f"unhealthy: {event.reason}"), now)

    def stop_for(self, program: Program, after: Trigger | None, cause: Cause, now: float) -> None:
        """Stop a program on procd's own account; when it is empty, `after` is its verdict."""
        self.apply(program, Trigger.STOP_DECIDED, cause, now)
        program.after = after

    # Hooks: one at a time for each program, so that their answers cannot be mistaken for one another's

    def _run_hook(self, program: Program, hook: Hook, now: float) -> None:
        program.hook = hook
        program.cancelled = False
        hooks = program.spec.hooks
        timeout_s = hooks.timeout_s if hooks is not None else 0.0
        # The timeout itself is kept by whoever runs the hook.  This is for one that does not die of it.
        self.deadlines.set(program, now + timeout_s + KILL_GRACE_S)
        self.actions.append(RunHook(program.name, hook))

    def _cancel_hook(self, program: Program, now: float) -> None:
        program.cancelled = True
        self.deadlines.set(program, now + KILL_GRACE_S)
        self.actions.append(CancelHook(program.name))

    def on_hook_ended(self, program: Program, event: HookEnded, now: float) -> None:
        """A hook is over: what waited for it goes on."""
        hook = event.hook
        if program.hook is not hook:
            return
        program.hook = None
        if hook is Hook.BEFORE_START and program.state is State.STARTING:
            if event.failure:
                self._judge_failed_start(program, Cause(f"hook before_start: {event.failure}"), now)
            else:
                self.deadlines.set(program, None)
                self._execute(program)
        elif hook in _BESIDE_A_LIFE:
            self._go_on_without_hook(program, hook, now)
        else:
            self._leave_empty(program, now)

    def _go_on_without_hook(self, program: Program, hook: Hook, now: float) -> None:
        """Let a stop go on that had to wait for `after_ready` or `before_stop`, or the next life begin."""
        if not (program.state is State.STOPPING or program.stuck):
            self.touched.append(program)
        elif program.empty:
            self._end_stop(program, now)
        elif program.step < 0 and not program.killed:
            if hook is Hook.AFTER_READY:
                self._begin_stop(program, now)
            else:
                self._next_step(program, now)

    # Deadlines

    def hurry(self, program: Program, now: float) -> None:
        """Let its deadline pass now.  What was killed has its time nevertheless: nothing can be done to it."""
        due_s = program.deadline_s
        if due_s is None or (now < due_s and program.state is State.STOPPING and _only_dies(program)):
            return
        self.deadlines.set(program, None)
        self.on_deadline(program, now)

    def on_deadline(self, program: Program, now: float) -> None:
        """What was waited for did not come, or the time for the next step has."""
        spec = program.spec
        match program.state:
            case State.STARTING if program.hook is not None:
                cause = Cause(f"hook {program.hook.value} does not end")
                self.stop_for(program, verdict_on_failed_start(spec), cause, now)
            case State.STARTING if spec.ready is not None:
                cause = Cause(f"not ready within {format_duration(program.uptime_s(now))}")
                self.stop_for(program, verdict_on_failed_start(spec), cause, now)
            case State.STARTING:
                self._enter_running(program, now)
            case State.RUNNING:
                cause = Cause(f"ran for {format_duration(program.uptime_s(now))}, longer than its max_runtime")
                self.stop_for(program, verdict_on_max_runtime(spec), cause, now)
            case State.STOPPING:
                self._on_stop_timed_out(program, now)
            case State.BACKOFF:
                program.restarts += 1
                self.apply(program, Trigger.RETRY_DUE, program.cause, now)
            case _:
                raise AssertionError(f"{program.name} has no deadline in state {program.state.name}")

    def _on_stop_timed_out(self, program: Program, now: float) -> None:
        steps = stop_steps(program.spec)
        text, actor = program.cause.text, program.cause.actor
        if program.hook is not None and not program.cancelled:
            self._cancel_hook(program, now)
        elif _only_dies(program):
            program.stuck = True
            self.apply(
                program, Trigger.STUCK, Cause(f"{text}, but {_remains(program)} does not die", actor), now
            )
        elif program.step + 1 < len(steps):
            self.apply(program, Trigger.STEP_TIMED_OUT, program.cause, now)
        else:
            program.killed = True
            program.cause = Cause(
                f"{text}; did not stop within {format_duration(sum(step.timeout_s for step in steps))}, killed",
                actor,
            )
            self.apply(program, Trigger.STOP_TIMED_OUT, program.cause, now)
            self.deadlines.set(program, now + KILL_GRACE_S)

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
        if state is State.STOPPING:
            program.begin_stop()
        if old is State.RUNNING:
            program.health, program.health_failures, program.health_reason = None, 0, ""
            if program.hook is not None and state is not State.STOPPING:
                self.actions.append(CancelHook(program.name))
        if program.spec.essential and self.final is None and _ended_for_good(program):
            self.final = program

    def _emit(self, program: Program, effect: Effect, now: float) -> None:
        match effect:
            case Effect.START:
                self._begin_start(program, now)
            case Effect.STOP:
                self._begin_stop(program, now)
            case Effect.SIGNAL:
                self._next_step(program, now)
            case Effect.KILL:
                self.actions.append(KillTree(program.name))
            case Effect.AWAIT_EMPTY:
                self.actions.append(AwaitEmpty(program.name))
            case _:
                assert_never(effect)

    def _begin_start(self, program: Program, now: float) -> None:
        program.after = None
        hooks = program.spec.hooks
        if hooks is not None and hooks.before_start:
            self._run_hook(program, Hook.BEFORE_START, now)
        else:
            self._execute(program)

    def _execute(self, program: Program) -> None:
        program.spawning = True
        self.actions.append(Spawn(program.name))

    def _begin_stop(self, program: Program, now: float) -> None:
        """Say goodbye: no hook of another kind is left, `before_stop` comes first, then the first signal."""
        hooks = program.spec.hooks
        if program.spawning:
            # Nobody is there to be told yet; the answer to the spawn comes soon, and leads here again.
            return
        if program.hook is not None:
            self._cancel_hook(program, now)
        elif program.pid is not None and hooks is not None and hooks.before_stop:
            self._run_hook(program, Hook.BEFORE_STOP, now)
        else:
            self._next_step(program, now)

    def _next_step(self, program: Program, now: float) -> None:
        program.step += 1
        self.actions.append(signal_of_step(program.spec, program.step))
        self.deadlines.set(program, now + stop_steps(program.spec)[program.step].timeout_s)


def _ended_for_good(program: Program) -> bool:
    """Whether nothing starts it any more; what somebody stopped has not ended, and a schedule goes on."""
    return program.state in _FOR_GOOD and program.desired is Desired.UP and not program.armed


def _only_dies(program: Program) -> bool:
    """Whether all was done to end it: it was killed, and so was its hook."""
    return (program.killed or program.empty) and (program.hook is None or program.cancelled)


def _remains(program: Program) -> str:
    if program.pid is not None:
        return f"process {program.pid}"
    return f"its hook {program.hook.value}" if program.hook is not None else "something of it"
