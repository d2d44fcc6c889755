"""A machine and a clock that a test moves; what the shell would answer, the test says."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from procd.config.spec import Condition, Dependency, Kind, ProgramSpec
from procd.core import (
    Action,
    Actor,
    Add,
    AwaitEmpty,
    BecameReady,
    Cause,
    Emptied,
    Exit,
    Exited,
    Hook,
    HookEnded,
    Machine,
    Restart,
    Shutdown,
    Signal,
    Spawn,
    SpawnSucceeded,
    Start,
    State,
    Stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.core import Event, Program

ANA = Actor(1000, 4711)
ASKED = Cause("asked", ANA)
BOOT = Cause("started with procd")

A = TypeVar("A")


def spec(name: str = "web", /, **keys: Any) -> ProgramSpec:  # noqa: ANN401 - each key has its type
    """A program; `needs` is a dict of names and conditions, or a list of names that have to be ready."""
    needs = keys.pop("needs", ())
    conditions = needs if isinstance(needs, dict) else dict.fromkeys(needs, Condition.READY)
    depends_on = tuple(Dependency(other, condition) for other, condition in conditions.items())
    program, _, instance = name.partition("@")
    number = int(instance) if instance else None
    return ProgramSpec(
        name=name, program=program, instance=number, command=("true",), depends_on=depends_on, **keys
    )


def oneshot(name: str = "job", /, **keys: Any) -> ProgramSpec:  # noqa: ANN401 - as above
    """A program that is done when it exits."""
    return spec(name, kind=Kind.ONESHOT, **keys)


class World:
    """Programs that were added and started at second 100, in one plan."""

    def __init__(
        self,
        *specs: ProgramSpec,
        start: bool = True,
        slots: int | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self.machine = Machine(chance or (lambda: 0.5), slots)
        self.now = 100.0
        self.pids = count(1000)
        self.actions: list[Action] = []
        self.take(*(Add(each, BOOT, start) for each in specs))

    def __getitem__(self, name: str) -> Program:
        return self.machine.programs[name]

    # What happens

    def take(self, *events: Event) -> list[Action]:
        """Hand events in; `actions` are what was decided since."""
        if len(events) == 1:
            self.actions = self.machine.handle(events[0], self.now)
        else:
            self.actions = self.machine.handle_all(events, self.now)
        return self.actions

    def pass_time(self, seconds: float) -> list[Action]:
        """Let time pass; return all that was decided meanwhile."""
        until = self.now + seconds
        self.actions = []
        while (due := self.machine.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.actions += self.machine.expire(self.now)
        self.now = until
        return self.actions

    def start(self, name: str = "web") -> list[Action]:
        """Ask for a start."""
        return self.take(Start(name, ASKED))

    def stop(self, name: str = "web") -> list[Action]:
        """Ask for a stop."""
        return self.take(Stop(name, ASKED))

    def restart(self, name: str = "web") -> list[Action]:
        """Ask for a restart."""
        return self.take(Restart(name, ASKED))

    def shutdown(self) -> list[Action]:
        """Ask for the end of everything."""
        return self.take(Shutdown(ASKED))

    def spawned(self, *names: str) -> list[Action]:
        """Answer spawns with success."""
        return self.take(*(SpawnSucceeded(name, next(self.pids)) for name in names or ("web",)))

    def exited(self, name: str = "web", code: int | None = 1, signal: int | None = None) -> list[Action]:
        """Let the main process end."""
        return self.take(Exited(name, Exit(code=None if signal else code, signal=signal)))

    def emptied(self, name: str = "web", *survivors: str) -> list[Action]:
        """Let nothing of it be left."""
        return self.take(Emptied(name, survivors))

    def ended(self, name: str, hook: Hook, failure: str = "") -> list[Action]:
        """Let a hook end."""
        return self.take(HookEnded(name, hook, failure))

    # Whole stories

    def run(self, *names: str) -> World:
        """Bring programs that are STARTING up: spawned, and ready one after the other."""
        for name in names or ("web",):
            self.spawned(name)
            if self[name].spec.ready is not None:
                self.take(BecameReady(name))
            elif self[name].state is State.STARTING:
                self.take_deadline(name)
            assert self[name].state is State.RUNNING
        return self

    def take_deadline(self, name: str) -> list[Action]:
        """Let time pass until the deadline of a program."""
        due = self[name].deadline_s
        assert due is not None
        return self.pass_time(due - self.now)

    def gone(self, name: str = "web", code: int | None = 0) -> list[Action]:
        """Let a program that was told to stop obey."""
        actions = self.exited(name, code)
        assert AwaitEmpty(name) in actions
        return actions + self.emptied(name)

    def complete(self, name: str = "job") -> World:
        """Let a oneshot that is STARTING succeed."""
        self.spawned(name)
        self.exited(name, 0)
        assert self[name].state is State.EXITED
        return self

    # What is seen

    def state(self, name: str = "web") -> State:
        """Where a program is."""
        return self[name].state

    def states(self, *names: str) -> list[State]:
        """Where several are."""
        return [self[name].state for name in names]

    def why(self, name: str = "web") -> str:
        """Why it is there, in words."""
        return self[name].cause.text

    def spawns(self) -> list[str]:
        """Who was to be executed, by the last actions."""
        return [action.name for action in self.of(Spawn)]

    def signals(self) -> list[tuple[str, int]]:
        """Who was sent which signal, by the last actions."""
        return [(action.name, action.signal) for action in self.of(Signal)]

    def of(self, kind: type[A]) -> list[A]:
        """The last actions of one kind."""
        return [action for action in self.actions if isinstance(action, kind)]


def snapshot(program: Program) -> dict[str, object]:
    """Every fact of a program."""
    return {slot: getattr(program, slot) for slot in program.__slots__}
