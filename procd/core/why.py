"""Why a program is where it is: the chain of causes, as far as the machine knows it.

Owns the walk from a program to what it waits for and what waits for it.  Pure: it reads the machine's records
and builds frozen ones, for somebody else to put into words or on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procd.config.spec import StartLimit
    from procd.core.events import Cause, Transition
    from procd.core.machine import Machine
    from procd.core.outcome import Exit
    from procd.core.program import Program
    from procd.core.states import Desired, State

#: How far a chain of dependencies is followed: nobody reads more, and a wide graph would repeat itself.
MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Blocker:
    """What a program waits for: what it has to be, and why it is not."""

    condition: str
    explanation: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One program, explained.

    `cause` is why it is in its state and `wish` why it is wanted as it is; `for_s` is how long it has been
    there.  `waits_for` are other programs, `obstacles` everything else that it waits for, in words.  `holders`
    are the programs that have to stop before it does.  `recent_failures` count against `start_limit`.
    `history` has the last transitions, the oldest first.
    """

    name: str
    state: State
    desired: Desired
    cause: Cause
    wish: Cause
    for_s: float
    exit: Exit | None
    health_reason: str
    failures: int
    recent_failures: int
    start_limit: StartLimit | None
    waits_for: tuple[Blocker, ...]
    obstacles: tuple[str, ...]
    holders: tuple[str, ...]
    history: tuple[Transition, ...]


def explain(machine: Machine, name: str, now: float) -> Explanation:
    """Explain a program, and what it waits for, each program once.

    Raises KeyError for a program that does not exist.
    """
    return _explain(machine, machine.programs[name], now, {name}, MAX_DEPTH)


def _explain(machine: Machine, program: Program, now: float, seen: set[str], depth: int) -> Explanation:
    unmet = [pair for pair in machine.gate.unmet(program) if pair[0].name not in seen and depth > 0]
    seen.update(other.name for other, _ in unmet)
    waits = machine.waits_for(program)
    limit = program.spec.start_limit
    return Explanation(
        name=program.name,
        state=program.state,
        desired=program.desired,
        cause=program.cause,
        wish=program.wish,
        for_s=now - program.since_s,
        exit=program.exit,
        health_reason=program.health_reason,
        failures=program.failures,
        recent_failures=_recent(limit, program.failed_at_s, now),
        start_limit=limit,
        waits_for=tuple(
            Blocker(condition.value, _explain(machine, other, now, seen, depth - 1))
            for other, condition in (unmet if waits else ())
        ),
        obstacles=tuple(waits) if not unmet else (),
        holders=tuple(holder.name for holder in machine.gate.holders(program)),
        history=program.history,
    )


def _recent(limit: StartLimit | None, failed_at_s: tuple[float, ...], now: float) -> int:
    return 0 if limit is None else sum(at > now - limit.within_s for at in failed_at_s)
