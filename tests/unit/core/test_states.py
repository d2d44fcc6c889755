"""The table: every pair of state and trigger is either in it, or refused with nothing changed."""

from __future__ import annotations

from collections import deque

import pytest

from procd.core.gate import Gate
from procd.core.lives import Lives
from procd.core.program import Program
from procd.core.states import TABLE, Effect, IllegalTransition, State, Trigger, next_rule
from tests.unit.core.world import ASKED, snapshot, spec

PAIRS = [(state, trigger) for state in State for trigger in Trigger]


@pytest.mark.parametrize(("state", "trigger"), PAIRS, ids=lambda member: member.name)
def test_a_trigger_leads_where_the_table_says_or_changes_nothing(state: State, trigger: Trigger) -> None:
    """A program in any state takes any trigger, or IllegalTransition tells which pair it was."""
    lives = Lives(Gate(), lambda: 0.5)
    program = Program(spec(), 0.0)
    program.state = state
    before = snapshot(program)
    rule = TABLE[state].get(trigger)
    if rule is None:
        with pytest.raises(IllegalTransition, match=f"web: {trigger.name} in state {state.name}") as refused:
            lives.apply(program, trigger, ASKED, 1.0)
        assert (refused.value.name, refused.value.state, refused.value.trigger) == ("web", state, trigger)
        assert snapshot(program) == before
        assert (lives.actions, lives.touched, lives.starting, lives.active) == ([], deque(), 0, 0)
    else:
        lives.apply(program, trigger, ASKED, 1.0)
        assert program.state is rule.target
        assert (program.cause is ASKED) == (rule.target is not state)


def test_every_request_is_defined_in_every_state() -> None:
    """No verb of an operator is ever an error."""
    for state in State:
        for trigger in (Trigger.START_REQUESTED, Trigger.STOP_REQUESTED, Trigger.RESTART_REQUESTED):
            assert next_rule("web", state, trigger)


def test_every_state_can_be_reached_and_left() -> None:
    """No state is a dead end, none is there for nothing."""
    reached = {
        rule.target for state, rules in TABLE.items() for rule in rules.values() if rule.target is not state
    }
    assert reached == set(State)
    assert all(any(rule.target is not state for rule in rules.values()) for state, rules in TABLE.items())


def test_every_trigger_and_every_effect_is_used() -> None:
    """The words of the table are all spoken."""
    assert {trigger for rules in TABLE.values() for trigger in rules} == set(Trigger)
    assert {effect for rules in TABLE.values() for rule in rules.values() for effect in rule.effects} == set(
        Effect
    )


def test_only_the_start_of_a_start_executes_and_only_stopping_kills() -> None:
    """A process comes from WAITING alone, and SIGKILL from STOPPING alone."""
    for state, rules in TABLE.items():
        effects = {effect for rule in rules.values() for effect in rule.effects}
        assert (Effect.START in effects) == (state is State.WAITING)
        assert (Effect.KILL in effects) == (state is State.STOPPING)
        assert (Effect.STOP in effects) == (state in {State.STARTING, State.RUNNING})
