"""Dependencies: who waits for whom, in both directions.

A program starts when all its conditions hold, and stops when nothing that needs it runs.  What a condition
means after the start:

* STARTED and COMPLETED are about order only; what happens to the dependency later does not matter.
* READY: the dependent runs on while the dependency is down, but if it ends it waits, and the failure does not
  count.  When somebody stops the dependency, it is *withdrawn*: the dependent is stopped before it, and before
  the dependent whatever needs that; all of them come back when the dependency does.
* HEALTHY: as READY, and the dependent is also stopped when the dependency is not healthy any more.

A oneshot is ready when it has succeeded, so READY and HEALTHY of a oneshot mean COMPLETED.  An instance that is
being removed is nobody's dependency any more: scaling down touches no dependent.

Cycles do not reach this room: the configuration refuses them.
"""

from __future__ import annotations

from bisect import insort
from operator import attrgetter
from typing import TYPE_CHECKING, assert_never

from procd.config.spec import Condition, Kind
from procd.core.policy import is_success
from procd.core.states import Desired, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.core.program import Program

_NUMBER = attrgetter("number")

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
        # In the order in which they were added, also when a spec is replaced, or all are adopted.
        insort(self._instances.setdefault(program.spec.program, []), program, key=_NUMBER)
        for dependency in program.spec.depends_on:
            insort(self._dependents.setdefault(dependency.program, []), program, key=_NUMBER)

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

    # Who needs what

    def dependencies(self, program: Program) -> Iterator[tuple[Program, Condition]]:
        """Every instance that a program depends on, and what it has to be."""
        for dependency in program.spec.depends_on:
            for instance in self._instances.get(dependency.program, ()):
                if not instance.retiring:
                    yield instance, _meant(dependency.condition, instance)

    def dependents(self, program: Program) -> Iterator[tuple[Program, Condition]]:
        """Every instance that depends on a program, and what that one has to be for it."""
        for dependent in self._dependents.get(program.spec.program, ()):
            for dependency in dependent.spec.depends_on:
                if dependency.program == program.spec.program:
                    yield dependent, _meant(dependency.condition, program)

    def neighbours(self, program: Program) -> list[Program]:
        """Everybody for whom a change of this program may change something."""
        if not program.spec.depends_on and program.spec.program not in self._dependents:
            return []
        found = [dependent for dependent, _ in self.dependents(program)]
        for dependency in program.spec.depends_on:
            found += self._instances.get(dependency.program, ())
        return found

    # May it start?

    def unmet(self, program: Program) -> list[tuple[Program, Condition]]:
        """The dependencies whose condition does not hold now."""
        return [
            (other, condition) for other, condition in self.dependencies(program) if not holds(other, condition)
        ]

    def missing(self, program: Program) -> list[str]:
        """Names of dependencies of which there is no instance at all, or none that stays."""
        return [
            dependency.program
            for dependency in program.spec.depends_on
            if all(instance.retiring for instance in self._instances.get(dependency.program, ()))
        ]

    def is_open(self, program: Program) -> bool:
        """Whether nothing of another program keeps this one from starting."""
        return not program.spec.depends_on or not (self.unmet(program) or self.missing(program))

    # Must it stop?

    def is_withdrawn(self, program: Program) -> bool:
        """Whether others have to do without a program, because somebody wants it, or what it needs, to stop."""
        if program.held or not program.spec.depends_on:
            return program.held
        return program.live and self.withdrawn_dependency(program) is not None

    def withdrawn_dependency(self, program: Program) -> Program | None:
        """A withdrawn dependency without which a program must not run on."""
        for other, condition in self.dependencies(program):
            if condition in _LASTING and other.withdrawn:
                return other
        return None

    def first_withdrawn(self, program: Program) -> Program:
        """Where a withdrawal came from: the program that somebody wants to stop."""
        while not program.held and (other := self.withdrawn_dependency(program)) is not None:
            program = other
        return program

    def unhealthy_dependency(self, program: Program) -> Program | None:
        """A dependency that is not healthy any more, for a program that needs it to be."""
        for other, condition in self.dependencies(program):
            unwell = other.health is False or other.state is not State.RUNNING
            if condition is Condition.HEALTHY and unwell:
                return other
        return None

    def holders(self, program: Program) -> Iterator[Program]:
        """The live dependents that have to be gone before a program may be stopped."""
        for dependent, condition in self.dependents(program):
            # A dependent that will outlive an instance that is removed does not keep that one.
            needs = condition in _LASTING and (not program.retiring or dependent.state is State.STOPPING)
            if dependent.live and (needs or dependent.desired is Desired.DOWN):
                yield dependent

    def may_stop(self, program: Program) -> bool:
        """Whether nobody has to be gone before."""
        return next(self.holders(program), None) is None


def _meant(condition: Condition, dependency: Program) -> Condition:
    """What a condition comes to, for this kind of dependency."""
    if condition in _LASTING and dependency.spec.kind is Kind.ONESHOT:
        return Condition.COMPLETED
    return condition


def holds(program: Program, condition: Condition) -> bool:
    """Whether a dependency is what its dependent needs it to be."""
    completed = (
        program.state is State.EXITED
        and program.exit is not None
        and is_success(program.exit, program.spec.success)
    )
    stays = program.desired is Desired.UP and not program.withdrawn
    ready = stays and program.state is State.RUNNING
    match condition:
        case Condition.COMPLETED:
            return completed
        case Condition.STARTED:
            return completed or ready or (stays and program.state is State.STARTING and program.pid is not None)
        case Condition.READY:
            return ready
        case Condition.HEALTHY:
            return ready and (program.health is True or program.spec.health is None)
        case _:
            assert_never(condition)


def is_wanted(program: Program, condition: Condition) -> bool:
    """Whether a dependency is on its way to what it has to be, so that nobody has to ask for it."""
    if holds(program, condition):
        return True
    return program.desired is Desired.UP and program.state not in {State.EXITED, State.FATAL}
