"""Watches and arrivals: each who waits is told once, and leaves nothing behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from procd.config.spec import ProgramSpec, Success
from procd.core import Cause, Desired, Exit, Program, State, Transition
from procd.runtime.identity import usage
from procd.runtime.record import exit_to_wire
from procd.runtime.watch import Arrival, Goal, Result, Watches, verdict
from tests.kernel.children import in_loop

if TYPE_CHECKING:
    from collections.abc import Callable


def to(state: State, name: str = "web") -> Transition:
    """A transition of a program into a state."""
    return Transition(name, State.STOPPED, state, Cause("because"), 0.0)


def is_running(transition: Transition) -> str | None:
    """What somebody waits for."""
    return "there" if transition.new is State.RUNNING else None


def test_each_watcher_hears_of_its_program_only() -> None:
    """In order, until it has enough, and once that it is removed."""
    watches, heard = Watches(), []
    remove = watches.add("web", heard.append)
    watches.publish(to(State.STARTING))
    watches.publish(to(State.RUNNING, "other"))
    watches.forget("other")
    watches.publish(to(State.RUNNING))
    watches.forget("web")
    watches.publish(to(State.STOPPED))
    assert heard == [to(State.STARTING), to(State.RUNNING), None]
    remove()
    remove()
    assert watches._by_name == {}


def test_a_watcher_may_leave_while_it_is_told() -> None:
    """And so may another; nobody is left out for that."""
    watches, heard = Watches(), []
    removes: list[Callable[[], None]] = []

    def leave(transition: Transition | None) -> None:
        heard.append(transition)
        for remove in removes:
            remove()

    removes += [watches.add("web", leave), watches.add("web", leave)]
    watches.publish(to(State.RUNNING))
    assert heard == [to(State.RUNNING)] * 2
    assert watches._by_name == {}


@in_loop
async def test_an_arrival_takes_the_first_answer() -> None:
    """And hears no more."""
    watches = Watches()
    arrival = Arrival(watches, "web", is_running)
    watches.publish(to(State.STARTING))
    assert not arrival.future.done()
    watches.publish(to(State.RUNNING))
    assert await arrival.future == "there"
    assert watches._by_name == {}
    arrival.settle("late")
    arrival.cancel()
    assert arrival.future.result() == "there"


@in_loop
async def test_an_arrival_that_is_not_wanted_any_more_is_forgotten() -> None:
    """Whoever waited went away."""
    watches = Watches()
    arrival = Arrival(watches, "web", is_running)
    arrival.cancel()
    assert arrival.future.cancelled()
    assert watches._by_name == {}
    watches.publish(to(State.RUNNING))


@in_loop
async def test_an_arrival_at_a_program_that_is_removed_is_nothing() -> None:
    """None, which is no answer of any test."""
    watches = Watches()
    arrival = Arrival(watches, "web", is_running)
    watches.forget("web")
    assert await arrival.future is None


@pytest.mark.parametrize(
    ("goal", "state", "desired", "expected"),
    [
        (Goal.UP, State.WAITING, Desired.UP, None),
        (Goal.UP, State.STARTING, Desired.UP, None),
        (Goal.UP, State.RUNNING, Desired.UP, True),
        (Goal.UP, State.BACKOFF, Desired.UP, False),
        (Goal.UP, State.FATAL, Desired.UP, False),
        (Goal.UP, State.STOPPING, Desired.UP, None),
        (Goal.UP, State.STOPPED, Desired.UP, None),
        (Goal.UP, State.STOPPED, Desired.DOWN, False),
        (Goal.DOWN, State.STOPPED, Desired.DOWN, True),
        (Goal.DOWN, State.STOPPING, Desired.DOWN, None),
    ],
)
def test_a_goal_is_reached_missed_or_open(
    goal: Goal, state: State, desired: Desired, expected: bool | None
) -> None:
    """A restart passes through STOPPED; a stop that overtakes a start ends there."""
    program = Program(ProgramSpec(name="web", program="web", command=("x",)), 0.0)
    program.desired = desired
    assert verdict(goal, program, state) is expected


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (Exit(code=0), True),
        (Exit(code=7), True),
        (Exit(code=1), False),
        (Exit(signal=15), False),
        (None, False),
    ],
)
def test_an_end_that_is_a_success_was_up(ended: Exit | None, expected: bool) -> None:
    """By the program's own list of successes."""
    spec = ProgramSpec(name="web", program="web", command=("x",), success=Success(codes=frozenset({0, 7})))
    program = Program(spec, 0.0)
    program.exit = ended
    assert verdict(Goal.UP, program, State.EXITED) is expected


def test_a_result_is_a_row() -> None:
    """As it stands in a reply."""
    row = Result("web", ok=True, state=State.RUNNING, reason="ready").to_wire()
    assert row == {"name": "web", "ok": True, "state": "RUNNING", "reason": "ready"}


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (None, None),
        (Exit(code=3), {"code": 3}),
        (Exit(signal=11, core_dumped=True), {"signal": 11, "core_dumped": True}),
        (Exit(), {"unknown": True}),
    ],
)
def test_an_end_is_a_code_a_signal_or_unknown(ended: Exit | None, expected: object) -> None:
    """Unknown is a value of its own, never 0."""
    assert exit_to_wire(ended) == expected


def test_usage_is_that_of_the_kernel() -> None:
    """CPU seconds and resident bytes; None for who is gone, or never was."""
    ours = usage(os.getpid())
    assert ours is not None
    assert ours.cpu_s > 0
    assert ours.rss_bytes > 1_000_000
    assert usage(2**22 + 1) is None
