"""Histories in which machines die, and others go on with what was remembered of them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgpack

from procd.core import AwaitEmpty, AwaitReady, CancelHook, KillTree, Machine, Signal, State, WatchHealth
from procd.core.memory import dump_machine, dump_program
from tests.unit.core.simulation import Simulation

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec
    from procd.core import Action

#: What may be said again; anything else would be a decision, and there is nothing to decide.
SAID_AGAIN = AwaitEmpty | AwaitReady | CancelHook | KillTree | Signal | WatchHealth


class Keeper:
    """Remembers all of a machine, as bytes, and is told only of what the machine says has changed."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.specs: dict[str, ProgramSpec] = {}
        self.successors: dict[str, ProgramSpec] = {}
        self.whole = b""

    def keep(self, machine: Machine) -> None:
        """Take down what the last call has changed."""
        self.whole = msgpack.packb(dump_machine(machine))
        for name in machine.changed:
            self.successors.pop(name, None)
            program = machine.programs.get(name)
            if program is None:
                self.records.pop(name, None)
                self.specs.pop(name, None)
                continue
            self.records[name] = msgpack.packb(dump_program(program))
            self.specs[name] = program.spec
            if program.successor is not None:
                self.successors[name] = program.successor

    def keep_all(self, machine: Machine) -> None:
        """Take down everything, as if there had been nothing before."""
        machine.changed.update(machine.programs)
        self.keep(machine)

    def hand_over(self, machine: Machine, now: float) -> list[Action]:
        """Let another machine go on, which gets the records in any order."""
        records = [msgpack.unpackb(record) for record in self.records.values()]
        records.sort(key=lambda record: str(record["since_s"]) + record["name"][::-1])
        return machine.adopt(msgpack.unpackb(self.whole), records, self.specs, now, self.successors)


class Succession(Simulation):
    """A simulation that notes all that happens; after some steps, as `deaths` has it, another machine goes on.

    With `shell_dies` the shell goes with its machine, and with it all that it had not carried out yet.
    """

    def __init__(
        self, seed: int, programs: int, deaths: float, *, shell_dies: bool = False, slots_change: bool = False
    ) -> None:
        self.keeper = Keeper()
        self.successions = 0
        self.happened: list[tuple[float, list[Action], list[Any]]] = []
        self._deaths = deaths
        self._fate = Random(seed + 1)  # noqa: S311 - not a secret
        self._shell_dies = shell_dies
        self._slots_change = slots_change
        super().__init__(seed, programs)

    def _settled(self, actions: list[Action]) -> None:
        self.keeper.keep(self.machine)
        states = [(each.name, each.state) for each in self.machine.programs.values()]
        self.happened.append((self.shell.now, actions, states))
        if self._fate.random() >= self._deaths:
            super()._settled(actions)
            return
        owed = self.shell.owed()
        again = self._succeed()
        if self._shell_dies:
            self.calls += 1
            self._look()
            self.check_actions([*actions, *again])
            self.check_all()
            self.shell.die(self.machine, again, owed)
        else:
            assert all(isinstance(action, SAID_AGAIN) for action in again)
            self.shell.follow(self.machine)
            super()._settled(actions)

    def _succeed(self) -> list[Action]:
        self.successions += 1
        everything = Keeper()
        everything.keep_all(self.machine)
        assert vars(everything) == vars(self.keeper)
        if self._slots_change:
            starting = sum(each.state is State.STARTING for each in self.machine.programs.values())
            self.slots = self._fate.choice((None, starting + 1, starting + 3))
        self.machine = Machine(self.chance.random, self.slots)
        again = self.keeper.hand_over(self.machine, self.shell.now)
        self.keeper.keep(self.machine)
        # More start slots may be used; nothing else may be anything but what it was.
        assert vars(everything) == vars(self.keeper) or self._slots_change
        return again
