"""Years of supervision, in virtual time, and what has to hold in every moment of them.

CI runs 100 histories with up to 100 instances of 50 programs, some 350 events each; one takes about 35 ms.  Of
smaller ones it runs 200 in which machines die, and are compared with histories in which none does, and 200 in
which the shells die, too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procd.core import State
from procd.core.lives import Lives
from tests.unit.core.crashes import CRASH_EVERY_S, DAY_S, Crashes
from tests.unit.core.simulation import run, run_history
from tests.unit.core.succession import Succession

if TYPE_CHECKING:
    from procd.core import Cause, Program

#: How long to wait, what to do, to whom.
STEPS = st.tuples(st.integers(0, 7), st.integers(0, 15), st.integers(0, 99))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), programs=st.integers(1, 50), history=st.lists(STEPS, max_size=60))
def test_the_invariants_hold_in_every_history(
    seed: int, programs: int, history: list[tuple[int, int, int]]
) -> None:
    """Never two lives, no start too early, no wish forgotten, no stop without an end; see `simulation`."""
    run_history(seed, programs, history)


SUCCESSIONS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = st.integers(1, 8)
SHORT = st.lists(STEPS, max_size=30)


@SUCCESSIONS
@given(seed=st.integers(0, 2**32 - 1), programs=FEW, history=SHORT)
def test_another_machine_goes_on_as_the_one_before_would_have(
    seed: int, programs: int, history: list[tuple[int, int, int]]
) -> None:
    """After every tenth call another is made from what is remembered: not an action is another than without."""
    undisturbed = run(Succession(seed, programs, deaths=0.0), history)
    disturbed = run(Succession(seed, programs, deaths=0.1), history)
    assert disturbed.happened == undisturbed.happened


@SUCCESSIONS
@given(seed=st.integers(0, 2**32 - 1), programs=FEW, history=SHORT)
def test_the_invariants_hold_over_the_death_of_machine_and_shell(
    seed: int, programs: int, history: list[tuple[int, int, int]]
) -> None:
    """At any moment, with all that was decided and not done yet, and with another number of start slots."""
    run(Succession(seed, programs, deaths=0.1, shell_dies=True, slots_change=True), history)


def test_a_year_of_a_program_that_crashes_every_90_seconds_in_under_a_second() -> None:
    """350,400 lives after good runs: each is followed by the next at once, and nothing has grown.

    The first ones and the last two days are stepped through; the crashes in between are leapt over, after it
    was seen that each leaves the machine as the one before did (`crashes`).
    """
    began_s = time.process_time()
    crashes = Crashes()
    crashes.step(10 * CRASH_EVERY_S)
    assert crashes.leap(363 * DAY_S)
    assert crashes.program.restarts == 363 * DAY_S // CRASH_EVERY_S
    crashes.step(365 * DAY_S)
    took_s = time.process_time() - began_s
    program = crashes.program
    assert program.restarts == 350_400
    assert (program.state, program.failures, program.failed_at_s) == (State.STARTING, 0, ())
    assert len(crashes.machine._lives.deadlines) <= 1
    assert took_s < 1.0


def test_leaping_comes_to_what_stepping_comes_to() -> None:
    """For ten days, of which all is compared that the machine holds, and after them it goes on the same."""
    leapt, stepped = Crashes(), Crashes()
    leapt.step(10 * CRASH_EVERY_S)
    assert leapt.leap(10 * DAY_S)
    stepped.step(10 * DAY_S)
    for _ in range(2):
        assert leapt.age_s == stepped.age_s
        one, other = leapt.look(), stepped.look()
        assert (one.state, one.counters) == (other.state, other.counters)
        leapt.step(11 * DAY_S)
        stepped.step(11 * DAY_S)


@pytest.mark.parametrize("flaw", ["history", "failures", "deadlines", "drift"])
def test_a_machine_in_which_something_grows_is_not_leapt_with(
    flaw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four ways of not being the same after each crash."""
    enter = Lives._enter

    def flawed(lives: Lives, program: Program, state: State, cause: Cause, now: float) -> None:
        history = program.history
        enter(lives, program, state, cause, now)
        if flaw == "history":
            program.history = (*history, program.history[-1])
        elif flaw == "failures":
            program.failed_at_s = (*program.failed_at_s, now)
        elif flaw == "deadlines":
            lives.deadlines._too_many += 1
        else:
            program.since_s = 0.0

    monkeypatch.setattr(Lives, "_enter", flawed)
    crashes = Crashes()
    crashes.step(30 * CRASH_EVERY_S)
    assert not crashes.leap(DAY_S)
