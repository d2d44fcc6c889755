"""Conditions: what a dependency has to be."""

from __future__ import annotations

import pytest

from procd.config.spec import Check, CheckKind, Condition, Health, Kind
from procd.core import Desired, Exit, Program, State
from procd.core.gate import Gate, holds, is_wanted
from tests.unit.core.world import oneshot, spec

STARTED, READY, HEALTHY, COMPLETED = Condition.STARTED, Condition.READY, Condition.HEALTHY, Condition.COMPLETED
HEALTH = Health(check=Check(kind=CheckKind.NOTIFY))


def program(state: State, **facts: object) -> Program:
    """A program that is wanted, in a state."""
    health = HEALTH if "health" in facts else None
    kind = Kind.ONESHOT if state is State.EXITED else Kind.SERVICE
    made = Program(spec("db", health=health, kind=kind), 0.0)
    made.state = state
    made.desired = Desired.UP
    for name, value in facts.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("other", "conditions"),
    [
        (program(State.STOPPED), set()),
        (program(State.WAITING), set()),
        (program(State.BACKOFF), set()),
        (program(State.FATAL), set()),
        (program(State.STOPPING, pid=1), set()),
        (program(State.STARTING), set()),
        (program(State.STARTING, pid=1), {STARTED}),
        (program(State.STARTING, pid=1, desired=Desired.DOWN), set()),
        (program(State.RUNNING, pid=1), {STARTED, READY, HEALTHY}),
        (program(State.RUNNING, pid=1, desired=Desired.DOWN), set()),
        (program(State.RUNNING, pid=1, withdrawn=True), set()),
        (program(State.RUNNING, pid=1, health=None), {STARTED, READY}),
        (program(State.RUNNING, pid=1, health=False), {STARTED, READY}),
        (program(State.RUNNING, pid=1, health=True), {STARTED, READY, HEALTHY}),
        (program(State.EXITED, exit=Exit(code=0)), {STARTED, COMPLETED}),
        (program(State.EXITED, exit=Exit(code=1)), set()),
        (program(State.EXITED), set()),
    ],
    ids=lambda value: f"{value.state.name}" if isinstance(value, Program) else "",
)
def test_when_a_condition_holds(other: Program, conditions: set[Condition]) -> None:
    """What is about to go, by anybody's wish, is nothing to build on."""
    assert {condition for condition in Condition if holds(other, condition)} == conditions


@pytest.mark.parametrize(
    ("state", "desired", "expected"),
    [
        (State.STOPPED, Desired.DOWN, False),
        (State.STOPPED, Desired.UP, True),
        (State.BACKOFF, Desired.UP, True),
        (State.STOPPING, Desired.DOWN, False),
        (State.EXITED, Desired.UP, False),
        (State.FATAL, Desired.UP, False),
    ],
)
def test_who_has_to_be_asked_for(state: State, desired: Desired, expected: bool) -> None:
    """What is wanted and can still get there comes by itself."""
    assert is_wanted(program(state, desired=desired), READY) is expected


def test_what_holds_need_not_be_asked_for() -> None:
    """A oneshot that has succeeded is not run again."""
    assert is_wanted(program(State.EXITED, exit=Exit(code=0)), COMPLETED)


def test_all_instances_of_a_dependency_have_to_meet_the_condition() -> None:
    """One that does not is enough to wait."""
    gate = Gate()
    web, *instances = (Program(each, 0.0) for each in (spec(needs=["app"]), spec("app@0"), spec("app@1")))
    for each in (web, *instances):
        gate.enrol(each)
    for instance in instances:
        instance.state, instance.desired = State.RUNNING, Desired.UP
    assert gate.is_open(web)
    instances[1].state = State.BACKOFF
    assert not gate.is_open(web)
    assert gate.unmet(web) == [(instances[1], READY)]


def test_a_dependency_that_nobody_knows_is_missing() -> None:
    """And so is one of which every instance is being removed."""
    gate = Gate()
    web, database = Program(spec(needs=["db"]), 0.0), Program(spec("db"), 0.0)
    gate.enrol(web)
    assert gate.missing(web) == ["db"]
    assert not gate.is_open(web)
    gate.enrol(database)
    assert gate.missing(web) == []
    database.retiring = True
    assert gate.missing(web) == ["db"]
    assert gate.unmet(web) == []


def test_to_be_ready_means_to_be_completed_for_a_oneshot() -> None:
    """Whoever depends on a migration depends on its success."""
    gate = Gate()
    job, web = Program(oneshot(), 0.0), Program(spec(needs={"job": HEALTHY}), 0.0)
    gate.enrol(job)
    gate.enrol(web)
    assert list(gate.dependencies(web)) == [(job, COMPLETED)]
    assert list(gate.dependents(job)) == [(web, COMPLETED)]


def test_what_was_struck_out_is_nobodys_dependent_and_nobodys_dependency() -> None:
    """Nothing of it is left behind."""
    gate = Gate()
    web, database = Program(spec(needs=["db"]), 0.0), Program(spec("db"), 0.0)
    for each in (web, database):
        gate.enrol(each)
    assert gate.neighbours(web) == [database]
    assert gate.neighbours(database) == [web]
    gate.strike(web)
    gate.strike(database)
    assert gate.neighbours(web) == []
    assert gate.neighbours(database) == []
