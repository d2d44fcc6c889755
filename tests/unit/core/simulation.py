"""Random configurations and random histories, and what has to hold after every step of one.

The rules are written down here a second time, in other words than the machine's: from the specs, the published
transitions and what the shell has seen.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, TypeVar

from procd.config.spec import (
    Backoff,
    Check,
    CheckKind,
    Condition,
    Dependency,
    Health,
    Hooks,
    Kind,
    ProgramSpec,
    Restart,
    StartLimit,
    StopScope,
    StopStep,
    Success,
)
from procd.core import (
    Add,
    BecameReady,
    Cause,
    Change,
    CheckFailed,
    CheckPassed,
    DeadlinePassed,
    Desired,
    Forget,
    Hook,
    HookEnded,
    Machine,
    Publish,
    Remove,
    ScheduleDue,
    Shutdown,
    Start,
    State,
    Stop,
    TimeoutExtended,
)
from procd.core import Restart as RestartRequest
from tests.unit.core.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from procd.core import Action, Event, Program, Transition

CHECK = Check(kind=CheckKind.NOTIFY)
CAUSE = Cause("somebody asked")
LASTING = {Condition.READY, Condition.HEALTHY}
LIVE = {State.STARTING, State.RUNNING, State.STOPPING}
ACTIVE = LIVE | {State.WAITING, State.BACKOFF}
REST = {State.STOPPED, State.EXITED, State.FATAL}

#: Seconds in which everything has to have stopped: fifty programs in a row, each taking all of its time.
ALL_STOPPED_S = 50 * 100.0


# Configurations


def random_spec(chance: Random, number: int, name: str) -> ProgramSpec:
    """A program that may need some of those with a smaller number, so that there are no cycles."""
    oneshot = chance.random() < 0.25
    depends_on: tuple[Dependency, ...] = ()
    if number and chance.random() < 0.6:
        others = chance.sample(range(number), min(number, chance.randint(1, 3)))
        depends_on = tuple(Dependency(f"p{other}", chance.choice(list(Condition))) for other in others)
    return ProgramSpec(
        name=name,
        program=name.partition("@")[0],
        command=("true",),
        depends_on=depends_on,
        kind=Kind.ONESHOT if oneshot else Kind.SERVICE,
        restart=chance.choice((Restart.ALWAYS, Restart.ALWAYS, Restart.ON_FAILURE, Restart.NEVER)),
        success=chance.choice((Success(), Success(), Success(frozenset({0, 3}), frozenset({15})))),
        min_uptime_s=chance.choice((0.0, 0.5, 1.0, 5.0)),
        backoff=chance.choice((Backoff(), Backoff(0.0, 1.0, 0.0, 0.0), Backoff(1.0, 10.0, 50.0, 1.0))),
        start_limit=chance.choice((None, None, StartLimit(0, 10.0), StartLimit(2, 60.0))),
        ready=chance.choice((None, CHECK)),
        start_timeout_s=chance.choice((0.5, 2.0, 10.0)),
        health=chance.choice((None, None, random_health(chance))),
        max_runtime_s=chance.choice((None, None, None, 0.5, 5.0, 60.0)),
        schedule="* * * * *" if oneshot and chance.random() < 0.3 else None,
        essential=chance.random() < 0.01,
        hooks=random_hooks(chance),
        stop_timeout_s=chance.choice((0.0, 1.0, 10.0)),
        stop_steps=chance.choice(((), (), (StopStep(2, 0.5), StopStep(15, 3.0)), (StopStep(1, 0.0),) * 3)),
        stop_scope=chance.choice(list(StopScope)),
    )


def random_health(chance: Random) -> Health:
    """Strict or patient, with or without consequences."""
    return Health(check=CHECK, failures=chance.randint(1, 3), restart=chance.random() < 0.5)


def random_hooks(chance: Random) -> Hooks | None:
    """Most programs have none, some have all."""
    if chance.random() < 0.7:
        return None
    commands = [("x",) if chance.random() < 0.6 else () for _ in Hook]
    before_start, after_ready, before_stop, after_stop = commands
    return Hooks(
        before_start=before_start,
        after_ready=after_ready,
        before_stop=before_stop,
        after_stop=after_stop,
        timeout_s=chance.choice((1.0, 5.0)),
    )


class Simulation:
    """A machine, a shell, and an operator."""

    def __init__(self, seed: int, programs: int) -> None:
        self.chance = Random(seed)  # noqa: S311 - not a secret
        self.slots = self.chance.choice((None, None, 1, 3))
        self.machine = Machine(self.chance.random, self.slots)
        self.shell = Shell(self.machine, self.chance, self.take)
        self.names: list[tuple[int, str]] = []
        #: The state of each program, as the published transitions tell it.
        self.told: dict[str, State] = {}
        #: Who can be needed, by the name in the file.
        self.instances: dict[str, list[Program]] = {}
        #: Programs that somebody has stopped, and nobody has started since.
        self.stopped_by_hand: set[str] = set()
        self.calls = 0
        for number in range(programs):
            instances = self.chance.choice((1, 1, 1, 2))
            self.names += [
                (number, f"p{number}" + (f"@{i}" if instances > 1 else "")) for i in range(instances)
            ]
        self.take_all([self._add(*name) for name in self.names])

    # Events

    def take(self, event: Event) -> None:
        """Hand one event in, look at everything, and let the shell act."""
        self._expect_no_undoing(event)
        self._settled(self.machine.handle(event, self.shell.now))

    def take_all(self, events: list[Event]) -> None:
        """Hand a plan in."""
        for event in events:
            self._expect_no_undoing(event)
        self._settled(self.machine.handle_all(events, self.shell.now))

    def _settled(self, actions: list[Action]) -> None:
        self.calls += 1
        self._look()
        self.check_actions(actions)
        self.check_all()
        self.shell.take(actions)

    def pass_time(self, until_s: float, calls: int) -> bool:
        """Let time pass, but for no more than so many calls; return whether it passed."""
        last = self.calls + calls
        while self.calls < last:
            due, own = self.machine.next_deadline(), self.shell.next()
            if all(moment is None or moment > until_s for moment in (due, own)):
                self.shell.now = max(self.shell.now, until_s)
                return True
            # Of two things at one moment either may be first, and a timer may be late.
            late_s = self.chance.choice((0.0, 0.0, 0.0, 0.02))
            if due is not None and (
                own is None or due + late_s < own or (due == own and self.chance.random() < 0.5)
            ):
                self.shell.now = max(self.shell.now, due)
                self._settled(self.machine.expire(self.shell.now))
            else:
                self.shell.turn()
        return False

    # The operator

    def operate(self, verb: int, target: int) -> None:
        """Do one of the things that people, schedules and programs do."""
        number, name = self.names[target % len(self.names)]
        program = self.machine.programs.get(name)
        if program is None:
            self.take(self._add(number, name))
        elif verb == 8:
            self.take_all(self._reload())
        elif verb == 13:
            self.take(Remove(name, CAUSE))
            self.take(self._add(number, name))
        elif verb >= 14:
            self.take(self._late_fact(program))
        else:
            self.take(self._request(verb, number, name))

    def _add(self, number: int, name: str) -> Add:
        return Add(random_spec(self.chance, number, name), CAUSE, self.chance.random() < 0.8)

    def _request(self, verb: int, number: int, name: str) -> Event:
        match verb:
            case 0 | 1:
                return Start(name, CAUSE)
            case 2 | 3:
                return Stop(name, CAUSE)
            case 4:
                return RestartRequest(name, CAUSE)
            case 5:
                return Remove(name, CAUSE)
            case 6 | 7:
                return Change(random_spec(self.chance, number, name), CAUSE, restart=verb == 6)
            case 9:
                return DeadlinePassed(name)
            case 10 | 11:
                return ScheduleDue(name)
            case _:
                return TimeoutExtended(name, self.chance.choice((0.0, 1.0, 30.0)))

    def _late_fact(self, program: Program) -> Event:
        """A fact that nobody waits for any more."""
        name = program.name
        hooks = [hook for hook in Hook if hook is not program.hook]
        facts = (
            BecameReady(name),
            CheckPassed(name),
            CheckFailed(name, "late"),
            CheckFailed(name, "late", final=True),
            HookEnded(name, self.chance.choice(hooks), "late"),
        )
        return self.chance.choice(facts)

    def _reload(self) -> list[Event]:
        """A plan: some go, some come back, some change, some come."""
        events: list[Event] = []
        for number, name in self.chance.sample(self.names, min(4, len(self.names))):
            choice = self.chance.randrange(4)
            if name not in self.machine.programs:
                events.append(self._add(number, name))
            elif choice == 0:
                events.append(Remove(name, CAUSE))
            elif choice == 1:
                events += [Remove(name, CAUSE), self._add(number, name)]
            else:
                spec = random_spec(self.chance, number, name)
                events.append(Change(spec, CAUSE, restart=choice == 2))
        return events

    # What has to hold

    def _expect_no_undoing(self, event: Event) -> None:
        """Keep book of who is stopped by hand: only a request for it, or for what needs it, lifts that."""
        match event:
            case Stop():
                self.stopped_by_hand.add(event.name)
            case Start() | RestartRequest():
                self.stopped_by_hand -= {program.name for program in self._needed(event.name)}
            case Add():
                self.stopped_by_hand.discard(event.spec.name)

    def _needed(self, name: str) -> list[Program]:
        """A program, and all that it needs, directly or not."""
        found = [self.machine.programs[name]]
        for program in found:
            for other, _ in self._needs(program):
                if other not in found:
                    found.append(other)
        return found

    def _look(self) -> None:
        """Take down who is there, once for all that is checked in a step."""
        self.instances.clear()
        for program in self.machine.programs.values():
            if not program.retiring:
                self.instances.setdefault(program.spec.program, []).append(program)

    def _needs(self, program: Program) -> Iterable[tuple[Program, Condition]]:
        for dependency in program.spec.depends_on:
            for other in self.instances.get(dependency.program, ()):
                oneshot = other.spec.kind is Kind.ONESHOT and dependency.condition in LASTING
                yield other, Condition.COMPLETED if oneshot else dependency.condition

    def _may_start(self, program: Program) -> bool:
        return all(dependency.program in self.instances for dependency in program.spec.depends_on) and all(
            self._holds(other, condition) for other, condition in self._needs(program)
        )

    def _holds(self, other: Program, condition: Condition) -> bool:
        if (
            condition is not Condition.COMPLETED
            and other.desired is Desired.UP
            and not self._is_withdrawn(other)
        ):
            if other.state is State.RUNNING:
                healthy = other.spec.health is None or other.health is True
                return healthy or condition is not Condition.HEALTHY
            if other.state is State.STARTING and condition is Condition.STARTED:
                return other.pid is not None
        if other.state is not State.EXITED or condition not in {Condition.COMPLETED, Condition.STARTED}:
            return False
        ended, success = other.exit, other.spec.success
        return ended is not None and (ended.code in success.codes or ended.signal in success.signals)

    def check_actions(self, actions: list[Action]) -> None:
        """What is said is about programs that exist, in transitions that follow one another."""
        for position, action in enumerate(actions):
            match action:
                case Publish():
                    self._check_transition(action.transition)
                case Forget():
                    assert self.told.pop(action.name, State.STOPPED) is State.STOPPED
                    assert action.name not in self.machine.programs
                    assert action.name not in self.shell.lives
                    assert action.name not in self.shell.hooks
                    later = [each for each in actions[position + 1 :] if not isinstance(each, Publish)]
                    assert all(each.name != action.name for each in later)
                case _:
                    assert action.name in self.machine.programs

    def _check_transition(self, transition: Transition) -> None:
        name = transition.name
        assert transition.old is self.told.get(name, State.STOPPED)
        assert transition.at_s == self.shell.now
        self.told[name] = transition.new
        program = self.machine.programs.get(name)
        if program is None:
            return
        if transition.new is State.STARTING:
            assert not self.machine.closing
            assert self._may_start(program), f"{name} was started before its conditions hold"
            assert not program.stuck
        elif transition.new is State.BACKOFF and program.state is State.BACKOFF:
            self._check_backoff(program)
        elif transition.new is State.STOPPING and transition.cause == program.wish and not program.retiring:
            restarts = program.desired is Desired.UP
            left = [] if restarts else self._live_dependents(program, lasting=True)
            assert not left, f"{name} was stopped before {left[0].name}"

    def _check_backoff(self, program: Program) -> None:
        backoff, limit = program.spec.backoff, program.spec.start_limit
        assert program.deadline_s is not None
        delay_s = program.deadline_s - self.shell.now
        usual_s = min(backoff.initial_s * backoff.factor ** min(program.failures - 1, 100), backoff.max_s)
        assert usual_s * (1 - backoff.jitter) - 1e-6 <= delay_s <= usual_s * (1 + backoff.jitter) + 1e-6
        if limit is not None:
            assert len(program.failed_at_s) <= limit.count

    def check_all(self) -> None:
        """Look at every program after a step that was settled."""
        programs = self.machine.programs.values()
        starting = sum(program.state is State.STARTING for program in programs)
        active = sum(program.state in ACTIVE for program in programs)
        full = self.slots is not None and starting >= self.slots
        for program in programs:
            assert self.told.get(program.name, State.STOPPED) is program.state
            self._check_wish(program)
            self._check_pending(program, full=full)
            if program.spec.depends_on:
                self._check_dependencies(program)
        assert self.slots is None or starting <= self.slots
        assert self.machine.at_rest() is (active == 0)
        for name in self.stopped_by_hand:
            gone = name not in self.machine.programs
            assert gone or self.machine.programs[name].desired is Desired.DOWN, f"{name} was stopped by hand"

    def _check_wish(self, program: Program) -> None:
        """Desired and state agree, or something is on its way."""
        if program.desired is Desired.UP:
            assert program.state is not State.STOPPED
            assert not program.held
        elif program.state not in {State.STOPPED, State.STOPPING}:
            stuck = program.state is State.FATAL and program.stuck
            held_back = program.state in {State.STARTING, State.RUNNING} and self._live_dependents(program)
            assert stuck or held_back, f"{program.name} is not wanted, and {program.state.name}"
        if program.retiring and program.state is State.STOPPED:
            assert program.hook is not None

    def _live_dependents(self, program: Program, *, lasting: bool = False) -> list[Program]:
        """Who lives and needs a program; `lasting`: for as long as it runs."""
        return [
            other
            for other in self.machine.programs.values()
            if other.state in LIVE
            for dependency in other.spec.depends_on
            if dependency.program == program.spec.program
            if not lasting or (dependency.condition in LASTING and program.spec.kind is Kind.SERVICE)
        ]

    def _is_withdrawn(self, program: Program) -> bool:
        """Somebody stopped it, or it lives and needs what is withdrawn."""
        return program.held or (
            program.state in LIVE
            and any(
                condition in LASTING and self._is_withdrawn(other) for other, condition in self._needs(program)
            )
        )

    def _check_pending(self, program: Program, *, full: bool) -> None:
        """Nothing is forgotten: whoever is not at rest has a deadline, or somebody owes it an answer."""
        state = program.state
        has_deadline = program.deadline_s is not None
        if state is State.WAITING:
            assert full or program.hook is not None or not self._may_start(program), (
                f"{program.name} waits for nothing"
            )
        assert has_deadline or state is not State.BACKOFF
        answered = program.spawning or program.died_s is not None
        assert has_deadline or answered or state is not State.STARTING
        assert has_deadline or program.spawning or state is not State.STOPPING
        assert not (has_deadline and (state in REST or state is State.WAITING))
        assert program.pid is None or state in LIVE or program.stuck
        assert program.pid is not None or state is not State.RUNNING
        assert not program.stuck or state is State.FATAL
        assert not (program.spawning and program.hook is not None)

    def _check_dependencies(self, program: Program) -> None:
        """Nobody runs on without what it must not run without."""
        if program.state not in {State.STARTING, State.RUNNING} or program.desired is Desired.DOWN:
            return
        for other, condition in self._needs(program):
            if condition is Condition.HEALTHY:
                assert other.state is State.RUNNING
                assert other.health is not False
            if condition in LASTING and self._is_withdrawn(other):
                assert self._live_dependents(program), f"{program.name} outlives {other.name}"

    # The end

    def shut_down(self) -> None:
        """Everything stops, in time, whatever the programs do."""
        self.take(Shutdown(CAUSE))
        self.pass_time(self.shell.now + ALL_STOPPED_S, 100_000)
        states = {program.name: program.state for program in self.machine.programs.values()}
        assert self.machine.at_rest(), f"not at rest: {states}"
        assert set(states.values()) <= REST
        assert self.machine.next_deadline() is None
        for name, life in self.shell.lives.items():
            assert self.machine.programs[name].stuck, f"{name} lives on"
            assert life.hangs, f"{name} was given up, and would have died"


def run_history(seed: int, programs: int, history: Iterable[tuple[int, int, int]]) -> Simulation:
    """A configuration, what happens to it, and its end."""
    return run(Simulation(seed, programs), history)


S = TypeVar("S", bound=Simulation)


def run(simulation: S, history: Iterable[tuple[int, int, int]]) -> S:
    """What happens to a configuration, and its end."""
    delays = (0.0, 0.0, 0.005, 0.1, 0.7, 3.0, 20.0, 200.0)
    for delay, verb, target in history:
        simulation.pass_time(simulation.shell.now + delays[delay], 60)
        simulation.operate(verb, target)
    simulation.shut_down()
    return simulation
