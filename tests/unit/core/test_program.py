"""The record of one instance."""

from __future__ import annotations

from itertools import pairwise

from procd.core import Desired, Program, State
from procd.core.program import ACTIVE, LIVE, REMEMBERED
from tests.unit.core.world import World, spec


def test_a_new_program_is_stopped_wanted_by_nobody_and_never_ended() -> None:
    """Three facts, three fields."""
    program = Program(spec("web@1"), 5.0)
    assert (program.state, program.desired, program.exit) == (State.STOPPED, Desired.DOWN, None)
    assert (program.name, program.spec.instance, program.since_s) == ("web@1", 1, 5.0)
    assert str(program.cause) == "not started yet"
    assert not program.live
    assert program.uptime_s(9.0) == 0


def test_a_process_may_exist_in_three_states_and_come_by_itself_in_two_more() -> None:
    """The others are rest."""
    assert {State.STARTING, State.RUNNING, State.STOPPING} == LIVE
    assert {State.WAITING, State.BACKOFF} == ACTIVE - LIVE


def test_the_last_transitions_are_remembered_in_order() -> None:
    """Eight of them: two lives, with what ended the first."""
    world = World(spec(min_uptime_s=0))
    for _ in range(5):
        world.spawned()
        world.exited()
    history = world["web"].history
    assert len(history) == REMEMBERED
    assert all(before.new is after.old for before, after in pairwise(history))
    assert history[-1].new is State.STARTING


def test_uptime_counts_from_the_last_start() -> None:
    """Not from the first."""
    world = World(spec(min_uptime_s=0))
    world.spawned()
    world.pass_time(7)
    assert world["web"].uptime_s(world.now) == 7
    world.exited()
    world.spawned()
    assert world["web"].uptime_s(world.now) == 0
