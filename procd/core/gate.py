"""Dependencies: who waits for whom, in both directions.

A program starts when all its conditions hold, and stops when nothing that needs it runs.  What a condition
means after the start:

* STARTED and COMPLETED are about order only; what happens to the dependency later does not matter.
* READY: the dependent runs on while the dependency is down, but if it ends it waits, and the failure does not
  count.  When somebody stops the dependency, the dependent is stopped before it and waits until it is back.
* HEALTHY: as READY, and the dependent is also stopped when the dependency is not healthy any more.

Cycles do not reach this room: the configuration refuses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.config.spec import Condition, Kind
from procd.core.policy import is_success
from procd.core.states import Desired, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.core.program import Program

#: Conditions that a dependent needs for as long as it runs.
_LASTING = frozenset({Condition.READY, Condition.HEALTHY})


class Gate:
    """The programs by the name in the file, and who depends on each of these names."""

    __slots__ = ("_dependents", "_instances")

    def __init__(self) -> None:
        self._instances: dict[str, list[Program]] = {}
        self._dependents: dict[str, list[Program]] = {}

    def enrol(self, program: Program) -> None:
        """Take a program in, with its present spec."""
        self._instances.setdefault(program.spec.program, []).append(program)
        for dependency in program.spec.depends_on:
            self._dependents.setdefault(dependency.program, []).append(program)

    def strike(self, program: Program) -> None:
        """Take it out again; to be called before its spec is replaced."""
        self._drop(self._instances, program.spec.program, program)
        for dependency in program.spec.depends_on:
            self._drop(self._dependents, dependency.program, program)

    @staticmethod
    def _drop(index: dict[str, list[Program]], key: str, program: Program) -> None:
        index[key].remove(program)
        if not index[key]:
            del index[key]

    def dependencies(self, program: Program) -> Iterator[tuple[Program, Condition]]:
        """Every instance that a program depends on, and what it has to be."""
        for dependency in program.spec.depends_on:
            for instance in self._instances.get(dependency.program, ()):
                yield instance, dependency.condition

    def dependents(self, program: Program) -> Iterator[tuple[Program, Condition]]:
        """Every instance that depends on a program, and what that one has to be for it."""
        for dependent in self._dependents.get(program.spec.program, ()):
            for dependency in dependent.spec.depends_on:
                if dependency.program == program.spec.program:
                    yield dependent, dependency.condition

    def neighbours(self, program: Program) -> Iterator[Program]:
        """Everybody for whom a change of this program may change something."""
        for dependent, _ in self.dependents(program):
            yield dependent
        for dependency, _ in self.dependencies(program):
            yield dependency

    def unmet(self, program: Program) -> list[tuple[Program, Condition]]:
        """The dependencies whose condition does not hold now."""
        return [
            (other, condition) for other, condition in self.dependencies(program) if not holds(other, condition)
        ]

    def missing(self, program: Program) -> list[str]:
        """Names of dependencies of which there is no instance at all."""
        return [d.program for d in program.spec.depends_on if d.program not in self._instances]

    def is_open(self, program: Program) -> bool:
        """Whether nothing of another program keeps this one from starting."""
        return not program.spec.depends_on or not (self.unmet(program) or self.missing(program))

    def lost(self, program: Program) -> tuple[Program, Condition] | None:
        """A dependency without which a running program must not run on, or None."""
        for other, condition in self.dependencies(program):
            if condition in _LASTING and other.desired is Desired.DOWN:
                return other, condition
            if condition is Condition.HEALTHY and (other.health is False or other.state is not State.RUNNING):
                return other, condition
        return None

    def holders(self, program: Program) -> list[Program]:
        """The live dependents that have to be gone before a program may be stopped."""
        return [
            dependent
            for dependent, condition in self.dependents(program)
            if dependent.live and (condition in _LASTING or dependent.desired is Desired.DOWN)
        ]


def holds(program: Program, condition: Condition) -> bool:
    """Whether a dependency is what its dependent needs it to be."""
    completed = (
        program.state is State.EXITED
        and program.exit is not None
        and is_success(program.exit, program.spec.success)
    )
    ready = program.state is State.RUNNING and program.desired is Desired.UP
    match condition:
        case Condition.COMPLETED:
            return completed
        case Condition.STARTED:
            return completed or ready or (program.state is State.STARTING and program.pid is not None)
        case Condition.READY:
            return completed if program.spec.kind is Kind.ONESHOT else ready
        case Condition.HEALTHY:
            return ready and (program.health is True or program.spec.health is None)


def is_wanted(program: Program, condition: Condition) -> bool:
    """Whether a dependency is on its way to what it has to be, so that nobody has to ask for it."""
    if holds(program, condition):
        return True
    return program.desired is Desired.UP and program.state not in {State.EXITED, State.FATAL}
