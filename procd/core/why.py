"""Why a program is where it is: the chain of causes, as far as the machine knows it.

Owns the walk from a program to what it waits for and what waits for it, and the words for what comes next.
Pure: it reads the machine's records and builds frozen ones, for somebody else to show or to put on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from procd.core.policy import stop_steps
from procd.core.states import Desired, State, Trigger
from procd.quantities import signal_name

if TYPE_CHECKING:
    from procd.config.spec import StartLimit
    from procd.core.events import Cause, Transition
    from procd.core.machine import Machine
    from procd.core.outcome import Exit
    from procd.core.program import Program

#: How far a chain of dependencies is followed: nobody reads more, and a wide graph would repeat itself.
MAX_DEPTH = 8


class Blocker(Struct, frozen=True):
    """What a program waits for: what it has to be, and why it is not."""

    condition: str
    explanation: Explanation


class Next(Struct, frozen=True):
    """What happens to a program when its deadline passes, in words, and in how many seconds that is."""

    action: str
    in_s: float


class Explanation(Struct, frozen=True, kw_only=True):
    """One program, explained.

    `cause` is why it is in its state and `wish` why it is wanted as it is; `for_s` is how long it has been
    there.  `exit` is how its last life ended, None if there was none or it could not be started.  `next` is
    what comes by itself; `then` what follows the stop that it is in.

    `waits_for` are other programs, `obstacles` everything else that it waits for, in words.  `holders` are the
    programs that have to be gone before it stops, `stops_for` the one because of which it is to stop although
    it is wanted.  `recent_failures` count against `start_limit`; `failures` are those in a row.  `history` has
    the last transitions, the oldest first.
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
    next: Next | None
    then: str
    waits_for: tuple[Blocker, ...]
    obstacles: tuple[str, ...]
    holders: tuple[str, ...]
    stops_for: str
    history: tuple[Transition, ...]


def explain(machine: Machine, name: str, now: float) -> Explanation:
    """Explain a program, and what it waits for, each program once.

    Raises KeyError for a program that does not exist.
    """
    return _explain(machine, machine.programs[name], now, {name}, MAX_DEPTH)


def _explain(machine: Machine, program: Program, now: float, seen: set[str], depth: int) -> Explanation:
    limit = program.spec.start_limit
    unmet = machine.gate.unmet(program) if program.state is State.WAITING else []
    told = [pair for pair in unmet if pair[0].name not in seen and depth > 0]
    # What is explained elsewhere, or would be too deep, is said in a few words.
    brief = [machine.unmet_in_words(*pair) for pair in unmet if pair not in told]
    seen.update(other.name for other, _ in told)
    leaves = program.live and program.state is not State.STOPPING and program.withdrawn
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
        next=_next(program, now),
        then=_then(machine, program),
        waits_for=tuple(
            Blocker(condition.value, _explain(machine, other, now, seen, depth - 1))
            for other, condition in told
        ),
        obstacles=(*brief, *machine.obstacles(program)),
        holders=tuple(holder.name for holder in machine.gate.holders(program)) if leaves else (),
        stops_for=machine.gate.first_withdrawn(program).name if leaves and not program.held else "",
        history=program.history,
    )


def _recent(limit: StartLimit | None, failed_at_s: tuple[float, ...], now: float) -> int:
    return 0 if limit is None else sum(at > now - limit.within_s for at in failed_at_s)


def _next(program: Program, now: float) -> Next | None:
    if program.deadline_s is None:
        return None
    return Next(_next_action(program), max(0.0, program.deadline_s - now))


def _next_action(program: Program) -> str:
    """Say what the deadline of a program is about."""
    hook = program.hook
    match program.state:
        case State.BACKOFF:
            return "start again"
        case State.RUNNING:
            return "stop, its max_runtime is over"
        case State.STARTING if hook is None and program.spec.ready is None:
            return "count as ready"
        case State.STARTING if hook is None:
            return "stop, it was not ready in time"
        case _ if hook is not None and not program.cancelled:
            return f"kill its hook {hook.value}"
        case _ if program.killed or program.empty:
            return "give up, it does not die"
    steps = stop_steps(program.spec)
    if program.step + 1 < len(steps):
        return f"send {signal_name(steps[program.step + 1].signal)}"
    return "kill everything of it"


_AFTERWARDS = {
    Trigger.RESTART_NOW: "start again",
    Trigger.RESTART_LATER: "count a failed start",
    Trigger.GAVE_UP: "give up",
    None: "start again",
}


def _then(machine: Machine, program: Program) -> str:
    """Say what comes when a program that is stopping, or cannot be killed, is empty."""
    if program.state is not State.STOPPING and not program.stuck:
        return ""
    if program.retiring:
        return "be forgotten"
    if program.desired is Desired.DOWN or machine.closing:
        return "stay stopped"
    return _AFTERWARDS[program.after]
