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
    Died,
    Emptied,
    Event,
    Exited,
    Forget,
    HookEnded,
    MainChanged,
    Remove,
    Restart,
    ScheduleDue,
    Shutdown,
    SpawnFailed,
    SpawnSucceeded,
    Start,
    Stop,
    TimeoutExtended,
)
from procd.core.gate import Gate, holds, is_wanted
from procd.core.lives import Lives
from procd.core.memory import read_machine, read_program
from procd.core.outcome import Final
from procd.core.program import ACTIVE, LIVE, Program
from procd.core.states import Desired, State, Trigger
from procd.core.unfinished import unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from procd.config.spec import Condition, ProgramSpec
    from procd.core.memory import Record

    #: What is about one program that exists.
    _OfOne: TypeAlias = (
        Start | Stop | Restart | Remove | SpawnSucceeded | SpawnFailed | BecameReady | Died | Exited | Emptied
        | DeadlinePassed | CheckPassed | CheckFailed | HookEnded | ScheduleDue | TimeoutExtended | MainChanged
    )  # fmt: skip

#: States in which another spec is worth another try at once: what was wrong may have been mended.
_TRYING = frozenset({State.BACKOFF, State.FATAL, *LIVE})


class Machine:
    """All programs and what is decided about them.

    `chance` returns a number in [0, 1), for the jitter of delays.  `max_concurrent_starts` bounds how many
    programs may be STARTING at once (None: no bound); the others are WAITING, in the order of their requests.
    `final` is the essential program that ended for good, and with it everything.  `changed` are the names of
    all programs of which the last call may have changed what `memory` keeps, also of those that are gone.
    """

    def __init__(self, chance: Callable[[], float], max_concurrent_starts: int | None = None) -> None:
        self.programs: dict[str, Program] = {}
        self.gate = Gate()
        self.closing = False
        self.final: Final | None = None
        self.changed: set[str] = set()
        self._changing: set[str] = set()
        self._lives = Lives(self.gate, chance)
        self._slots = max_concurrent_starts
        self._queue: deque[Program] = deque()
        #: The last number of a program, and the last ticket of the queue, that were given out.
        self._numbers = 0
        self._tickets = 0
        #: Whose dependencies are to be looked at, and whose were since all was settled, asked for or not.
        self._pulling: deque[tuple[Program, bool]] = deque()
        self._pulls: dict[Program, bool] = {}

    # What the shell asks

    def next_deadline(self) -> float | None:
        """The one moment at which `expire` has to be called, or None."""
        return self._lives.deadlines.next()

    def expire(self, now: float) -> list[Action]:
        """Handle every deadline that has passed by `now`."""
        while (program := self._lives.deadlines.pop_passed(now)) is not None:
            self._changing.add(program.name)
            self._lives.on_deadline(program, now)
        return self._settle(now)

    def at_rest(self) -> bool:
        """Whether no program has a process, and none is about to get one."""
        return self._lives.active == 0

    def waits_for(self, program: Program) -> list[str]:
        """What keeps a WAITING program from starting, in words; empty for any other."""
        if program.state is not State.WAITING:
            return []
        unmet = [self.unmet_in_words(other, condition) for other, condition in self.gate.unmet(program)]
        return unmet + self.obstacles(program)

    @staticmethod
    def unmet_in_words(other: Program, condition: Condition) -> str:
        """Say what a dependency has to be, and what it is."""
        leaves = ", and is to stop" if other.state is State.RUNNING and other.withdrawn else ""
        return f"{other.name} to be {condition.value} (it is {other.state.value}{leaves})"

    def obstacles(self, program: Program) -> list[str]:
        """What keeps a WAITING program from starting apart from other programs, in words."""
        if program.state is not State.WAITING:
            return []
        reasons = [f"{name} does not exist" for name in self.gate.missing(program)]
        if program.hook is not None:
            reasons.append(f"the end of its hook {program.hook.value}")
        if not reasons and self._slots is not None and self.gate.is_open(program):
            reasons.append(f"a start slot ({self._lives.starting} of {self._slots} programs are starting)")
        return reasons

    # What was there before

    def adopt(
        self,
        whole: Record,
        records: Iterable[Record],
        specs: Mapping[str, ProgramSpec],
        now: float,
        successors: Mapping[str, ProgramSpec] | None = None,
    ) -> list[Action]:
        """Go on with the programs of an earlier machine, from what `memory` made of it; this one has none yet.

        `specs` has the spec in force for each record, `successors` those that were to take over.  Returns the
        actions of which nobody knows whether they were carried out; all may be carried out twice, but for the
        Signal of a stop, which is to be left out by whoever knows that it was sent.

        What the shell owes, before it calls `expire`: an answer for each record that is `spawning`
        (SpawnSucceeded, with Exited if that is over, or SpawnFailed), HookEnded for each with a `hook`, Exited
        for each `pid` that has ended.  A fact may come with the moment at which it happened, in their order.

        Raises UnreadableRecord for a record that is not one of ours, and KeyError for one that has no spec;
        nothing has changed then.
        """
        if self.programs:
            raise AssertionError("a machine that has programs cannot adopt others")
        decided = read_machine(whole)
        found = sorted((read_program(record, specs) for record in records), key=lambda program: program.number)
        self.closing, self.final = decided.closing, decided.final
        for program in found:
            program.successor = (successors or {}).get(program.name)
            self.programs[program.name] = program
            self.gate.enrol(program)
            self._lives.adopt(program)
        self._queue.extend(sorted((each for each in found if each.queued), key=lambda each: each.queued))
        self._numbers = max((program.number for program in found), default=0)
        self._tickets = max((program.queued for program in found), default=0)
        actions = [action for program in found for action in unfinished(program)]
        self._lives.touched.extend(found)
        return actions + self._settle(now)

    # Events

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event in; return what has to be done because of it, in order.

        Raises IllegalTransition for an event that its program cannot have in its state, and KeyError for a
        program that does not exist; nothing has changed then.  Answers that may come late are not among these:
        BecameReady, CheckPassed, CheckFailed, HookEnded, ScheduleDue, TimeoutExtended and DeadlinePassed are
        without effect where they do not matter any more.
        """
        self._take(event, now)
        return self._settle(now)

    def handle_all(self, events: Iterable[Event], now: float) -> list[Action]:
        """Take several events in before anything is settled: a plan, of which only the whole makes sense.

        Raises as `handle` does; the events before the one at fault have been taken in, and are settled with the
        next that come.
        """
        for event in events:
            self._take(event, now)
        return self._settle(now)

    def _take(self, event: Event, now: float) -> None:
        match event:
            case Add():
                self._on_add(event, now)
            case Change():
                self._changing.add(event.spec.name)
                self._on_change(self.programs[event.spec.name], event, now)
            case Shutdown():
                self._on_shutdown(event.cause)
            case _:
                program = self.programs[event.name]
                self._changing.add(event.name)
                self._hear(program, event, now)

    def _hear(self, program: Program, event: _OfOne, now: float) -> None:  # noqa: C901, PLR0912 - an arm for each
        match event:
            case SpawnSucceeded():
                self._lives.on_spawned(program, event.pid, now)
            case Exited():
                self._lives.on_exited(program, event, now)
            case Start() | Stop() | Restart() | Remove():
                self._on_request(program, event, now)
            case SpawnFailed():
                self._lives.on_spawn_failed(program, event.reason, now)
            case BecameReady():
                self._lives.on_ready(program, now)
            case Emptied():
                self._lives.on_emptied(program, event, now)
            case CheckPassed() | CheckFailed():
                self._lives.on_check(program, event, now)
            case HookEnded():
                self._lives.on_hook_ended(program, event, now)
            case ScheduleDue():
                self._on_schedule(program, now)
            case TimeoutExtended():
                self._lives.on_timeout_extended(program, event.seconds, now)
            case Died():
                self._lives.on_died(program, now)
            case MainChanged():
                self._lives.on_main_changed(program, event.pid)
            case DeadlinePassed():
                self._lives.hurry(program, now)
            case _:
                assert_never(event)

    # Requests

    def _on_request(self, program: Program, request: Start | Stop | Restart | Remove, now: float) -> None:
        match request:
            case Start():
                self._want_up(program, Trigger.START_REQUESTED, request.cause, now, asked=True)
            case Restart():
                self._want_up(program, Trigger.RESTART_REQUESTED, request.cause, now, asked=True)
            case Stop():
                self._want_down(program, request.cause)
            case Remove():
                self._want_down(program, request.cause)
                program.retiring = True
            case _:
                assert_never(request)

    def _want_up(
        self, program: Program, trigger: Trigger, cause: Cause, now: float, *, asked: bool = False
    ) -> None:
        """Have a program run, and all that it needs; `asked`: by somebody, and not by procd's own rules."""
        if self.closing or program.retiring:
            return
        if program.successor is not None:
            # The life that it has, if it still has one, is one of a spec that does not count any more.
            trigger = Trigger.RESTART_REQUESTED
        if program.stuck:
            self._lives.touched.append(program)
        else:
            self._lives.apply(program, trigger, cause, now)
        program.desired = Desired.UP
        program.held = False
        program.wish = cause
        program.armed = program.spec.schedule is not None
        program.after = None
        # Somebody looked after it: failures of the past neither slow it down nor count.
        program.failures = 0
        program.failed_at_s = ()
        self._pull_for(program, asked=asked)

    def _want_down(self, program: Program, cause: Cause) -> None:
        program.desired = Desired.DOWN
        program.held = True
        program.wish = cause
        program.armed = False
        program.after = None
        self._lives.touched.append(program)

    def _on_add(self, event: Add, now: float) -> None:
        spec = event.spec
        program = self.programs.get(spec.name)
        trigger = Trigger.START_REQUESTED
        if program is not None:
            # It was removed a moment ago, and is not empty yet: the new one takes its place when it is.
            program.retiring = False
            self._lives.touched.append(program)
            self._replace(program, spec, now, in_place=False)
            trigger = Trigger.RESTART_REQUESTED
        else:
            self._numbers += 1
            program = self.programs[spec.name] = Program(spec, now, self._numbers)
            self.gate.enrol(program)
            self._lives.touched.append(program)
        if spec.schedule is not None:
            program.armed = event.start and not self.closing
        elif event.start:
            self._want_up(program, trigger, event.cause, now)
        for dependent, _ in self.gate.dependents(program):
            if dependent.desired is Desired.UP:
                self._pull_for(dependent, asked=False)

    def _on_change(self, program: Program, event: Change, now: float) -> None:
        self._replace(program, event.spec, now, in_place=not event.restart)
        if event.restart and program.desired is Desired.UP and program.state in _TRYING:
            self._want_up(program, Trigger.RESTART_REQUESTED, event.cause, now)

    def _replace(self, program: Program, spec: ProgramSpec, now: float, *, in_place: bool) -> None:
        """Give a program another spec: now, or when the life that does not suit it is over."""
        if program.live and not (in_place and program.successor is None):
            program.successor = spec
        else:
            self._respecify(program, spec, now)

    def _respecify(self, program: Program, spec: ProgramSpec, now: float) -> None:
        old = program.spec
        # Those that it needed may have waited for its end, in order to stop.
        self._lives.touched += self.gate.neighbours(program)
        self.gate.strike(program)
        program.spec = spec
        program.successor = None
        self.gate.enrol(program)
        up = program.desired is Desired.UP
        program.armed = spec.schedule is not None and (program.armed or (up and old.schedule is None))
        self._lives.touched.append(program)
        self._lives.on_respecified(program, old, now)
        if up and spec.depends_on != old.depends_on:
            self._pulls.pop(program, None)
            self._pull_for(program, asked=False)

    def _on_shutdown(self, cause: Cause) -> None:
        self.closing = True
        self._changing.update(self.programs)
        for program in self.programs.values():
            program.armed = False
            if program.state in ACTIVE or program.stuck:
                self._want_down(program, cause)

    # Schedules

    def _on_schedule(self, program: Program, now: float) -> None:
        if not program.armed or self.closing:
            return
        if program.state in ACTIVE or program.stuck:
            program.skipped += 1
            return
        self._want_up(program, Trigger.START_REQUESTED, Cause(f"schedule {program.spec.schedule!r}"), now)

    # Wishes

    def _settle(self, now: float) -> list[Action]:
        """Carry wishes on until nothing moves, then hand the actions out."""
        touched = self._lives.touched
        while True:
            if self._lives.final is not None:
                self._close_with(self._lives.final)
            elif self._pulling:
                self._pull(*self._pulling.popleft(), now)
            elif touched:
                program = touched.popleft()
                self._changing.add(program.name)
                self._consider(program, now)
                for neighbour in self.gate.neighbours(program):
                    self._consider(neighbour, now)
            elif self._queue and (self._slots is None or self._lives.starting < self._slots):
                self._open(self._queue.popleft(), now)
            else:
                break
        self._pulls.clear()
        self.changed, self._changing = self._changing, set()
        actions, self._lives.actions = self._lives.actions, []
        return actions

    def _close_with(self, final: Program) -> None:
        self._lives.final = None
        if not self.closing:
            self.final = Final(final.name, final.exit)
            self._on_shutdown(Cause(f"{final.name}, which is essential, ended: {final.cause.text}"))

    def _pull_for(self, program: Program, *, asked: bool) -> None:
        """Look at what a program needs, once in each settling; a second time if somebody asks for it."""
        if program.spec.depends_on and (program not in self._pulls or (asked and not self._pulls[program])):
            self._pulls[program] = asked
            self._pulling.append((program, asked))

    def _pull(self, program: Program, asked: bool, now: float) -> None:  # noqa: FBT001 - as it stands in the queue
        """Whoever wants a program wants what it needs, and what that needs.

        procd's own rules (a schedule, a reload) start only what nobody has had an opinion about: what somebody
        has stopped stays stopped, and what was given up stays given up, until somebody asks.
        """
        for other, condition in self.gate.dependencies(program):
            fresh = other.desired is Desired.DOWN and not other.held
            if fresh or (asked and not is_wanted(other, condition)):
                cause = Cause(f"needed by {program.name}: {program.wish.text}", program.wish.actor)
                self._want_up(other, Trigger.START_REQUESTED, cause, now, asked=asked)
            elif other.desired is Desired.UP and not holds(other, condition):
                self._pull_for(other, asked=asked)

    def _consider(self, program: Program, now: float) -> None:
        """Look whether a wish that could not be carried out can be now."""
        withdrawn = self.gate.is_withdrawn(program)
        if withdrawn is not program.withdrawn:
            program.withdrawn = withdrawn
            self._lives.touched.append(program)
        if program.state is State.STOPPED:
            self._on_rest(program, now)
        elif program.desired is Desired.DOWN:
            self._stop_if_free(program, now)
        elif program.state is State.WAITING:
            self._enqueue(program)
        elif program.spec.depends_on and program.live and program.state is not State.STOPPING:
            self._yield_if_lost(program, now)

    def _on_rest(self, program: Program, now: float) -> None:
        """Nothing of the program is left: what was put off until now happens."""
        if program.retiring:
            # A hook that was cancelled may still have to tell its end.
            if program.hook is None and self.programs.pop(program.name, None) is not None:
                self.gate.strike(program)
                self._lives.actions.append(Forget(program.name))
            return
        if program.successor is not None:
            self._respecify(program, program.successor, now)
        if program.desired is Desired.DOWN:
            return
        after, program.after = program.after, None
        if after is None:
            self._lives.apply(program, Trigger.START_REQUESTED, program.wish, now)
        else:
            self._lives.judge(program, after, program.cause, now)

    def _stop_if_free(self, program: Program, now: float) -> None:
        """Stop a program that is not wanted, once nothing that needs it runs."""
        if (
            program.stuck
            or program.state is State.STOPPING
            or (program.live and not self.gate.may_stop(program))
        ):
            return
        self._lives.apply(program, Trigger.STOP_REQUESTED, program.wish, now)

    def _yield_if_lost(self, program: Program, now: float) -> None:
        """Stop a program that must not run without what it has lost; it waits for that to come back."""
        unwell = self.gate.unhealthy_dependency(program)
        if unwell is not None:
            why = unwell.health_reason if unwell.health is False else unwell.cause.text
            self._lives.stop_for(program, None, Cause(f"{unwell.name} is not healthy: {why}"), now)
            return
        other = self.gate.withdrawn_dependency(program)
        if other is not None and self.gate.may_stop(program):
            root = self.gate.first_withdrawn(other)
            text = f"{root.name}, which it needs, is to stop: {root.wish.text}"
            self._lives.stop_for(program, None, Cause(text, root.wish.actor), now)

    def _enqueue(self, program: Program) -> None:
        if not program.queued and self._may_start(program):
            self._tickets += 1
            program.queued = self._tickets
            self._queue.append(program)
            self._changing.add(program.name)

    def _open(self, program: Program, now: float) -> None:
        """Let the first in the queue start, if it still waits and still may."""
        program.queued = 0
        self._changing.add(program.name)
        if program.state is State.WAITING and self._may_start(program):
            self._lives.apply(program, Trigger.CLEARED, program.cause, now)

    def _may_start(self, program: Program) -> bool:
        return program.hook is None and self.gate.is_open(program)
