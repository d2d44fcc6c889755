"""Programs that are in no file: which they are, and that they are forgotten when they are done.

Owns their names, for as long as they are there.  A reload leaves them alone, unless the file has come to name
one of them: then it is the file's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from procd.core import Add, Cause, Remove, State

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec
    from procd.core import Actor, Transition
    from procd.runtime.runtime import Runtime

#: States from which nothing follows by itself, when nobody asks for it.
ENDED = frozenset({State.EXITED, State.STOPPED, State.FATAL})


class Transients:
    """The programs of a runtime that are in no file."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        #: Those that are there, and whether they are forgotten when they have ended.
        self._names: dict[str, bool] = {}
        self._serial = 0

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def free_name(self) -> str:
        """Make a name that no program has: `run-1`, `run-2` and so on."""
        while True:
            self._serial += 1
            name = f"run-{self._serial}"
            if name not in self._runtime.machine.programs:
                return name

    def start(self, spec: ProgramSpec, actor: Actor, *, forget: bool) -> None:
        """Start a program whose name is free; with `forget`, it is gone when it has ended."""
        self._watch(spec.name, forget=forget)
        self._runtime.keeping.transient(spec, forget=forget)
        self._runtime.submit(Add(spec, Cause("run requested", actor), True))

    def resume(self, name: str, *, forget: bool) -> None:
        """Take note of one that an earlier supervisor has started."""
        self._watch(name, forget=forget)
        self._runtime.around.loop.call_soon(self._forget_if_ended, name)

    def keep(self, name: str) -> None:
        """Record a program, if it is one of them."""
        if name in self._names:
            self._runtime.keeping.transient(self._runtime.machine.programs[name].spec, forget=self._names[name])

    def _watch(self, name: str, *, forget: bool) -> None:
        self._names[name] = forget
        self._runtime.watches.add(name, partial(self._on_transition, name))

    def _on_transition(self, name: str, transition: Transition | None) -> None:
        if transition is None:
            self._names.pop(name, None)
        elif self._names.get(name) and transition.new in ENDED:
            # Not now: others are told of this transition after us, and it may not be the last of this turn.
            self._runtime.around.loop.call_soon(self._forget_if_ended, name)

    def _forget_if_ended(self, name: str) -> None:
        program = self._runtime.machine.programs.get(name)
        if program is not None and self._names.get(name) and program.state in ENDED:
            self.forget(name, Cause("run once, and ended"))

    def forget(self, name: str, cause: Cause) -> None:
        """Remove one of them; it is stopped first if it runs."""
        self._runtime.submit(Remove(name, cause))

    def give_up(self, name: str) -> None:
        """Take note that a program is one of the file now."""
        self._names.pop(name, None)
        self._runtime.keeping.let_go(name, "transient")
