"""Who waits for whom: the key `depends_on`, and what is wrong between programs.

Owns the search for names that nobody has, conditions that never hold, and cycles.  It can look only when all
programs are known, so it is told of each and judges at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.config.problems import Mistake, did_you_mean, quoted
from procd.config.spec import Condition, Dependency

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from procd.config.declaration import Declaration
    from procd.config.document import Place
    from procd.config.problems import Problems

_CONDITIONS = {condition.value: condition for condition in Condition}


def dependencies_of(declaration: Declaration) -> tuple[Dependency, ...]:
    """The dependencies of a program, each name once."""
    written = declaration.table.depends_on
    if not written:
        return ()
    if isinstance(written, dict):
        return tuple(Dependency(name, _CONDITIONS[word]) for name, word in written.items())
    return tuple(Dependency(name, Condition.READY) for name in dict.fromkeys(written))


class Dependencies:
    """The dependencies of all programs.  `names` are those of all programs, the ones with problems too."""

    def __init__(self, names: Mapping[str, object], problems: Problems) -> None:
        self._names = names
        self._problems = problems
        self._declarations: dict[str, Declaration] = {}
        self._edges: dict[str, tuple[str, ...]] = {}

    def add(self, declaration: Declaration, dependencies: tuple[Dependency, ...]) -> None:
        """Take a program in."""
        self._declarations[declaration.name] = declaration
        if dependencies:
            self._edges[declaration.name] = tuple(dependency.program for dependency in dependencies)

    def check(self) -> None:
        """Record what is wrong between the programs."""
        for name in self._edges:
            declaration = self._declarations[name]
            for dependency in dependencies_of(declaration):
                with self._problems.at(_place(declaration, dependency.program)):
                    self._require(dependency)
        for cycle in self._cycles():
            self._report_cycle(cycle)

    def _require(self, dependency: Dependency) -> None:
        name = dependency.program
        if name not in self._names:
            program = name.partition("@")[0]
            if program in self._names:
                raise Mistake(f"{name} is an instance", f"write {program}: all of its instances are waited for")
            raise Mistake(f"there is no program {quoted(name)}", did_you_mean(name, self._names, "remove it"))
        other = self._declarations.get(name)
        if other is None:
            return  # it has problems of its own
        if dependency.condition is Condition.HEALTHY and not other.written("health"):
            raise Mistake(f"{name} has no health check", f'write "ready", or give {name} a health table')
        # As written: what is no word at all is reported already, and may have been meant to be another.
        never_ends = other.written("type") in (None, "service") and other.written("restart") in (None, "always")
        if dependency.condition is Condition.COMPLETED and never_ends:
            what = f"{name} never completes: it is a service that is always restarted"
            raise Mistake(what, f'write type = "oneshot" or restart = "on-failure" in {name}')

    def _report_cycle(self, cycle: tuple[str, ...]) -> None:
        declaration = self._declarations[cycle[0]]
        path = " → ".join((*cycle, cycle[0]))
        remedy = "remove one of these dependencies"
        if len(cycle) == 1 and "depends_on" not in declaration.raw:
            remedy = f"write depends_on = [] in [programs.{cycle[0]}]"
        place = _place(declaration, cycle[1] if len(cycle) > 1 else cycle[0])
        self._problems.add(place, f"waits for itself: {path}", remedy)

    def _cycles(self) -> Iterator[tuple[str, ...]]:
        """Cycles that have no program in common, each as its path: who is in one is told of one.

        Without recursion, since a chain of dependencies may be as long as the file.
        """
        done: set[str] = set()
        reported: set[str] = set()
        for start in self._edges:
            if start in done:
                continue
            positions = {start: 0}
            ahead = [iter(self._edges[start])]
            while ahead:
                for name in ahead[-1]:
                    if name in positions:
                        cycle = tuple(positions)[positions[name] :]
                        if reported.isdisjoint(cycle):
                            reported.update(cycle)
                            yield cycle
                    elif name in self._edges and name not in done:
                        positions[name] = len(positions)
                        ahead.append(iter(self._edges[name]))
                        break
                else:
                    ahead.pop()
                    done.add(positions.popitem()[0])


def _place(declaration: Declaration, name: str) -> Place:
    written = declaration.table.depends_on
    return declaration.place("depends_on", name if isinstance(written, dict) else written.index(name))
