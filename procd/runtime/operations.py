"""Start, stop and restart, as whole operations: ask, and wait until it is known what became of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from procd.config.spec import Kind
from procd.core import Cause, Restart, Start, State, Stop
from procd.core.gate import is_wanted
from procd.errors import NoSuchProgram, TimedOut
from procd.runtime.watch import Arrival, Goal, Result, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procd.core import Actor, Program, Transition
    from procd.runtime.runtime import Runtime

_GOALS = {Start: Goal.UP, Restart: Goal.UP, Stop: Goal.DOWN}
_WORDS = {Start: "start", Restart: "restart", Stop: "stop"}


async def carry_out(
    runtime: Runtime,
    request: type[Start | Stop | Restart],
    names: Sequence[str],
    actor: Actor,
    *,
    wait: bool = True,
    timeout_s: float | None = None,
) -> list[Result]:
    """Ask for a start, stop or restart of programs, all at once, and wait for all of them.

    Returns what became of each, in the order of `names`; without `wait`, where each is now.  Raises TimedOut,
    with the results so far in its data, when it takes longer than `timeout_s`; what was asked for goes on.
    """
    cause = Cause(f"{_WORDS[request]} requested", actor)
    goal = _GOALS[request]
    arrivals = [_arrival(runtime, name, goal) for name in names] if wait else []

    def look_for_hopeless() -> None:
        for name, arrival in zip(names, arrivals, strict=False):
            _settle_if_hopeless(runtime, runtime.machine.programs.get(name), arrival)

    depends = goal is Goal.UP and any(runtime.machine.programs[name].spec.depends_on for name in names)
    unwatch = runtime.journal.watch(look_for_hopeless) if depends else _nothing
    try:
        runtime.submit(*(request(name, cause) for name in names))
        if not wait or not names:
            return [_asked(runtime.machine.programs[name]) for name in names]
        for name, arrival in zip(names, arrivals, strict=True):
            _settle_if_there(runtime.machine.programs.get(name), arrival, goal)
        look_for_hopeless()
        futures = [arrival.future for arrival in arrivals]
        await asyncio.wait(futures, timeout=timeout_s)
        results = [
            (arrival.future.done() and arrival.future.result()) or _still(runtime, name)
            for name, arrival in zip(names, arrivals, strict=True)
        ]
        if not all(future.done() for future in futures):
            raise _timed_out(request, timeout_s, results)
        if goal is Goal.DOWN:
            # What ended by itself before may have left something, too; stopped means empty.
            await runtime.cleaned_up(names)
        return results
    finally:
        unwatch()
        for arrival in arrivals:
            arrival.cancel()


def _nothing() -> None:
    """Nothing was watched."""


async def roll(
    runtime: Runtime, names: Sequence[str], actor: Actor, timeout_s: float | None = None
) -> list[Result]:
    """Restart programs one after the other, each when the one before is ready; stop at the first that is not.

    Returns a result for each, also for those that were left alone.  Raises TimedOut as `carry_out` does.
    """
    ends_at = None if timeout_s is None else runtime.around.loop.time() + timeout_s
    results: list[Result] = []
    for name in names:
        if name not in runtime.machine.programs:
            # Removed while the others were restarted, which is no reason to leave those behind it alone.
            results.append(_still(runtime, name))
            continue
        left_s = None if ends_at is None else max(0.0, ends_at - runtime.around.loop.time())
        (result,) = await carry_out(runtime, Restart, [name], actor, timeout_s=left_s)
        results.append(result)
        if not result.ok:
            results += [_left_alone(runtime, other, name) for other in names[len(results) :]]
            break
    return results


def _left_alone(runtime: Runtime, name: str, failed: str) -> Result:
    program = runtime.machine.programs.get(name)
    state = State.STOPPED if program is None else program.state
    return Result(name, ok=False, state=state, reason=f"left as it was, because {failed} did not become ready")


def _arrival(runtime: Runtime, name: str, goal: Goal) -> Arrival:
    program = runtime.machine.programs[name]

    def test(transition: Transition) -> Result | None:
        reached = verdict(goal, program, transition.new)
        if reached is None:
            return None
        return Result(name, reached, transition.new, str(transition.cause))

    return Arrival(runtime.watches, name, test)


def _settle_if_there(program: Program | None, arrival: Arrival, goal: Goal) -> None:
    """Answer at once for a program that already was where it is wanted, and so made no transition."""
    if arrival.future.done() or program is None:
        return
    if goal is Goal.UP and program.state is State.RUNNING and program.spec.kind is Kind.SERVICE:
        arrival.settle(Result(program.name, ok=True, state=program.state, reason="was running"))
    elif goal is Goal.DOWN and program.state is State.STOPPED:
        arrival.settle(Result(program.name, ok=True, state=program.state, reason="was stopped"))
    elif program.stuck:
        # Nobody knows when that changes, if ever; what was asked for follows then.
        arrival.settle(Result(program.name, ok=False, state=program.state, reason=str(program.cause)))


def _settle_if_hopeless(runtime: Runtime, program: Program | None, arrival: Arrival) -> None:
    """Answer for a program that waits for one that nobody will start, and that has stopped trying itself."""
    if program is None or program.state is not State.WAITING or arrival.future.done():
        return
    for other, condition in runtime.machine.gate.unmet(program):
        if not is_wanted(other, condition):
            reason = f"waits for {other.name}, which is {other.state.value}: {other.cause}"
            arrival.settle(Result(program.name, ok=False, state=program.state, reason=reason))
            return


def _asked(program: Program) -> Result:
    return Result(program.name, ok=True, state=program.state, reason=str(program.cause))


def _still(runtime: Runtime, name: str) -> Result:
    program = runtime.machine.programs.get(name)
    if program is None:
        return Result(name, ok=False, state=State.STOPPED, reason="removed meanwhile")
    return Result(name, ok=False, state=program.state, reason=f"not there yet: {program.cause}")


def _timed_out(
    request: type[Start | Stop | Restart], timeout_s: float | None, results: list[Result]
) -> TimedOut:
    late = [result.name for result in results if not result.ok]
    named = ", ".join(late[:3]) + (f" and {len(late) - 3} more" if len(late) > 3 else "")
    return TimedOut(
        f"{_WORDS[request]} of {named} took longer than {timeout_s:g} s",
        "procd goes on with it; see `procctl status`",
        {"programs": [result.to_wire() for result in results]},
    )


async def wait_for(runtime: Runtime, name: str, states: frozenset[State], timeout_s: float | None) -> bool:
    """Wait until a program is in one of `states`; return whether that came true in time.

    Raises NoSuchProgram when the program is removed first.
    """
    if runtime.machine.programs[name].state in states:
        return True
    arrival = Arrival(runtime.watches, name, lambda transition: transition.new in states or None)
    try:
        await asyncio.wait([arrival.future], timeout=timeout_s)
        if arrival.future.done() and arrival.future.result() is None:
            raise NoSuchProgram(f"{name} was removed meanwhile", "`procctl status` lists all programs")
        return arrival.future.done()
    finally:
        arrival.cancel()


async def wait_until_healthy(runtime: Runtime, name: str, timeout_s: float | None) -> bool:
    """Wait until the health check of a program passes; return whether that came true in time.

    Raises NoSuchProgram when the program is removed first.
    """
    program = runtime.machine.programs[name]
    healthy = asyncio.Event()

    def look() -> None:
        if program.health is True or runtime.machine.programs.get(name) is not program:
            healthy.set()

    unwatch = runtime.journal.watch(look)
    try:
        look()
        async with asyncio.timeout(timeout_s):
            await healthy.wait()
    except TimeoutError:
        return False
    finally:
        unwatch()
    if program.health is not True:
        raise NoSuchProgram(f"{name} was removed meanwhile", "`procctl status` lists all programs")
    return True
