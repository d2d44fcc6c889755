"""Waiting for a program to get somewhere: what a request waits for, and what is said when it is over.

Works on published transitions only, so that nothing is missed and nothing is polled.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from procd.config.spec import Kind
from procd.core import Desired, State
from procd.core.policy import is_success

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.core import Program, Transition


class Goal(Enum):
    """What somebody who asked for a start, a stop or a restart waits for."""

    UP = "up"
    DOWN = "down"


class Result(Struct, frozen=True):
    """What became of a request for one program."""

    name: str
    ok: bool
    state: State
    reason: str

    def to_wire(self) -> dict[str, Any]:
        """Give the row as it stands in a reply."""
        return {"name": self.name, "ok": self.ok, "state": self.state.value, "reason": self.reason}


_FAILED_STARTS = frozenset({State.BACKOFF, State.FATAL})


def verdict(goal: Goal, program: Program, state: State) -> bool | None:
    """Whether a program that has entered `state` has reached the goal; None while that is open.

    A start has failed at the first failed start, although procd goes on trying: whoever waits wants to know
    now.  A program that has ended, and should have, was up; a oneshot is there only when it has ended.
    """
    if goal is Goal.DOWN:
        # FATAL on the way down: something of it does not die.
        return {State.STOPPED: True, State.FATAL: False}.get(state)
    if state is State.RUNNING:
        return True if program.spec.kind is Kind.SERVICE else None
    if state is State.EXITED:
        return program.exit is not None and is_success(program.exit, program.spec.success)
    if state in _FAILED_STARTS:
        return False
    if state is State.STOPPED and program.desired is Desired.DOWN:
        return False
    return None


class Watches:
    """Who is told of the transitions of which program."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: dict[str, list[Callable[[Transition | None], None]]] = {}

    def add(self, name: str, callback: Callable[[Transition | None], None]) -> Callable[[], None]:
        """Call back at each transition of a program, and with None, last, when it is removed.

        Call what is returned to end that.
        """
        self._by_name.setdefault(name, []).append(callback)

        def remove() -> None:
            callbacks = self._by_name.get(name, [])
            if callback in callbacks:
                callbacks.remove(callback)
            if not callbacks:
                self._by_name.pop(name, None)

        return remove

    def publish(self, transition: Transition) -> None:
        """Tell everybody who watches this program."""
        for callback in tuple(self._by_name.get(transition.name, ())):
            callback(transition)

    def forget(self, name: str) -> None:
        """Tell everybody who watches this program that there is nothing more to wait for."""
        for callback in self._by_name.pop(name, ()):
            callback(None)


class Arrival:
    """A future that gets the first answer of `test` to a transition that is not None.

    It gets None when the program is removed before there is one.
    """

    __slots__ = ("_remove", "_test", "future")

    def __init__(self, watches: Watches, name: str, test: Callable[[Transition], Any]) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._test = test
        self._remove = watches.add(name, self._on_transition)

    def _on_transition(self, transition: Transition | None) -> None:
        answer = None if transition is None else self._test(transition)
        if answer is not None or transition is None:
            self.settle(answer)

    def settle(self, answer: object) -> None:
        """End the waiting with an answer; harmless when it has ended."""
        self._remove()
        if not self.future.done():
            self.future.set_result(answer)

    def cancel(self) -> None:
        """End the waiting without an answer."""
        self._remove()
        self.future.cancel()
