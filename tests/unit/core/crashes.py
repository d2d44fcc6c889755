"""A program that crashes every 90 seconds, for as long as one likes.

    python -m tests.unit.core.crashes

steps through a year of that, 350,400 lives, and says how long it takes: some 8 seconds.  The tests do not step
through all of it.  What the machine does next depends on nothing but its state and the time that passes: so
when its whole state after one crash is what it was after the crash before, seen from the moment of each, it
goes on like that, crash after crash.  `leap` finds that out, by looking at everything that the machine holds,
and goes on from a later crash.  A machine in which anything grows, or drifts, is never in the same state twice,
and is not leapt with.
"""

from __future__ import annotations

import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from procd.config.spec import ProgramSpec
from procd.core import Exit, Exited, Machine, Program, SpawnSucceeded
from procd.core.deadlines import Deadlines
from procd.core.gate import Gate
from procd.core.lives import Lives
from tests.unit.core.world import World, spec

if TYPE_CHECKING:
    from collections.abc import Callable

CRASH_EVERY_S = 90
DAY_S = 86_400

#: What is a moment, or holds moments.  One that is missing here is never the same, and so is noticed.
MOMENTS = ("at_s", "deadline_s", "died_s", "failed_at_s", "since_s", "started_s")
#: What counts the lives, and is to grow by the same number with each.
COUNTERS = ("restarts", "_tickets")


class Crashes:
    """The program, its machine, and the moment of its last crash: seconds since it was started."""

    def __init__(self) -> None:
        world = World(spec())
        self.machine: Machine = world.machine
        self.program = world["web"]
        self._begun = world.now
        self._now = world.now

    @property
    def age_s(self) -> float:
        """How long this has gone on."""
        return self._now - self._begun

    def step(self, until_s: float) -> None:
        """Let it run, become ready, and crash after 90 seconds, again and again."""
        machine, now, ends = self.machine, self._now, self._begun + until_s
        spawned, crashed = SpawnSucceeded("web", 1000), Exited("web", Exit(signal=11))
        while now < ends:
            machine.handle(spawned, now)
            machine.expire(now + 1)
            now += CRASH_EVERY_S
            machine.handle(crashed, now)
        self._now = now

    def leap(self, until_s: float) -> bool:
        """Go on from the last crash before `until_s` if each leaves all as it was; return whether so."""
        before = self.look()
        self.step(self.age_s + CRASH_EVERY_S)
        between = self.look()
        self.step(self.age_s + CRASH_EVERY_S)
        after = self.look()
        growth = _difference(after.counters, between.counters)
        if not before.state == between.state == after.state or growth != _difference(
            between.counters, before.counters
        ):
            return False
        crashes = int((until_s - self.age_s) // CRASH_EVERY_S)
        _Shift(crashes * CRASH_EVERY_S, {name: each * crashes for name, each in growth.items()}).of(
            self.machine
        )
        self._now += crashes * CRASH_EVERY_S
        return True

    def look(self) -> _Look:
        """Everything that the machine holds."""
        return _Look(self.machine, self._now)


def _difference(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in after}


#: Classes whose attributes belong to the state, each with the names of these.
_PARTS: dict[type, Callable[[Any], list[str]]] = {
    Machine: lambda machine: list(vars(machine)),
    Lives: lambda lives: list(vars(lives)),
    Gate: lambda _: list(Gate.__slots__),
    Deadlines: lambda _: list(Deadlines.__slots__),
    Program: lambda _: list(Program.__slots__),
}


class _Look:
    """The state of a machine as a value, with all times as seen from `now`, and its counters apart.

    Whatever a part of the machine holds is in it, also what somebody adds to one some day; a kind of thing that
    is not known here is a TypeError.
    """

    def __init__(self, machine: Machine, now: float) -> None:
        self._now = now
        self._met: dict[int, int] = {}
        self.counters: dict[str, int] = {}
        self.state = self._of(machine)

    def _of(self, thing: object, *, is_time: bool = False) -> object:
        match thing:
            case float() if is_time:
                return thing - self._now
            case None | bool() | int() | float() | str() | Enum() | ProgramSpec():
                return thing
            case Program() | Machine() | Lives() | Gate() | Deadlines():
                return self._part(thing)
            case Struct():
                return (type(thing), *(self._attribute(thing, name) for name in thing.__struct_fields__))
            case dict():
                return [(self._of(key), self._of(value)) for key, value in thing.items()]
            case tuple() if len(thing) == 3 and isinstance(thing[2], Program):
                # An entry of the heap of deadlines: its moment, and whose it is.
                return (thing[0] - self._now, thing[1], self._of(thing[2]))
            case set():
                return sorted(thing)
            case tuple() | list() | deque():
                return [self._of(each, is_time=is_time) for each in thing]
            case _ if callable(thing):
                return None  # the source of chance
        raise TypeError(f"{type(thing).__name__} is in the machine, and it is not known how to compare it")

    def _part(self, thing: object) -> object:
        if id(thing) in self._met:
            return ("seen before", self._met[id(thing)])
        self._met[id(thing)] = len(self._met)
        names = _PARTS[type(thing)](thing)
        return [(name, self._attribute(thing, name)) for name in names]

    def _attribute(self, owner: object, name: str) -> object:
        value = getattr(owner, name)
        if name in COUNTERS:
            self.counters[name] = value
            return None
        return self._of(value, is_time=name in MOMENTS)


class _Shift:
    """Moves every moment that a machine knows by `seconds`, and adds to its counters what `by` says."""

    def __init__(self, seconds: float, by: dict[str, int]) -> None:
        self._seconds = seconds
        self._by = by

    def of(self, machine: Machine) -> None:
        """Do it."""
        for program in machine.programs.values():
            for name in set(MOMENTS) & set(Program.__slots__):
                setattr(program, name, self._moved(getattr(program, name)))
            program.restarts += self._by["restarts"]
            program.history = tuple(
                structs.replace(each, at_s=each.at_s + self._seconds) for each in program.history
            )
        deadlines = machine._lives.deadlines
        deadlines._heap = [(at + self._seconds, number, program) for at, number, program in deadlines._heap]
        machine._tickets += self._by["_tickets"]

    def _moved(self, moment: object) -> object:
        match moment:
            case float() | int():
                return moment + self._seconds
            case tuple():
                return tuple(self._moved(each) for each in moment)
            case _:
                return moment


if __name__ == "__main__":
    began_s = time.process_time()
    crashes = Crashes()
    crashes.step(365 * DAY_S)
    print(f"{crashes.program.restarts} restarts in {time.process_time() - began_s:.1f} s")
