"""Restart policy: what an end means, and how long to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.config.spec import Backoff, Kind, Restart, StartLimit, StopStep, Success
from procd.core import Exit, Trigger
from procd.core.policy import (
    backoff_delay_s,
    is_success,
    recent_failures,
    stop_steps,
    verdict_on_exit,
    verdict_on_failed_start,
    verdict_on_max_runtime,
)
from tests.unit.core.world import oneshot, spec

OK, BAD, KILLED, UNKNOWN = Exit(code=0), Exit(code=1), Exit(signal=15), Exit()
NOW, LATER, DONE, GAVE_UP = Trigger.RESTART_NOW, Trigger.RESTART_LATER, Trigger.FINISHED, Trigger.GAVE_UP


@pytest.mark.parametrize(
    ("ended", "success", "expected"),
    [
        (OK, Success(), True),
        (BAD, Success(), False),
        (Exit(code=3), Success(frozenset({0, 3})), True),
        (OK, Success(frozenset({3})), False),
        (KILLED, Success(), False),
        (KILLED, Success(signals=frozenset({15})), True),
        (Exit(signal=9), Success(signals=frozenset({15})), False),
        (Exit(code=15), Success(signals=frozenset({15})), False),
        (UNKNOWN, Success(), False),
    ],
)
def test_success_is_what_success_exit_status_names(ended: Exit, success: Success, expected: bool) -> None:
    """Codes and signals are told apart, and an end that nobody knows is no success."""
    assert is_success(ended, success) is expected


@pytest.mark.parametrize(
    ("restart", "ended", "good_run", "service", "once"),
    [
        (Restart.ALWAYS, OK, True, NOW, DONE),
        (Restart.ALWAYS, OK, False, LATER, DONE),
        (Restart.ALWAYS, BAD, True, NOW, LATER),
        (Restart.ALWAYS, BAD, False, LATER, LATER),
        (Restart.ON_FAILURE, OK, True, DONE, DONE),
        (Restart.ON_FAILURE, OK, False, DONE, DONE),
        (Restart.ON_FAILURE, BAD, True, NOW, LATER),
        (Restart.ON_FAILURE, BAD, False, LATER, LATER),
        (Restart.ON_FAILURE, UNKNOWN, True, NOW, LATER),
        (Restart.NEVER, OK, True, DONE, DONE),
        (Restart.NEVER, BAD, True, DONE, DONE),
        (Restart.NEVER, BAD, False, DONE, DONE),
    ],
)
def test_what_follows_an_exit(
    restart: Restart, ended: Exit, good_run: bool, service: Trigger, once: Trigger
) -> None:
    """A service comes back as `restart` says, at once after a good run; a oneshot is done when it succeeds."""
    for kind, expected in ((Kind.SERVICE, service), (Kind.ONESHOT, once)):
        assert verdict_on_exit(spec(kind=kind, restart=restart), ended, good_run=good_run) is expected


def test_a_start_that_fails_without_an_exit_is_tried_again_unless_never() -> None:
    """`restart = "never"` gives up at once."""
    assert verdict_on_failed_start(spec()) is LATER
    assert verdict_on_failed_start(spec(restart=Restart.ON_FAILURE)) is LATER
    assert verdict_on_failed_start(spec(restart=Restart.NEVER)) is GAVE_UP


def test_max_runtime_is_a_new_life_for_a_service_and_a_failure_for_a_oneshot() -> None:
    """A oneshot that ran too long never counts as one that has ended as it should."""
    assert verdict_on_max_runtime(spec(restart=Restart.NEVER)) is NOW
    assert verdict_on_max_runtime(oneshot()) is LATER
    assert verdict_on_max_runtime(oneshot(restart=Restart.NEVER)) is GAVE_UP


BACKOFFS = st.builds(
    Backoff,
    initial_s=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    max_s=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
)


@given(BACKOFFS, st.integers(1, 10_000_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_negative_and_never_above_its_maximum(
    backoff: Backoff, failures: int, chance: float
) -> None:
    """Whatever was configured, and however many nights it has failed."""
    delay_s = backoff_delay_s(backoff, failures, chance)
    assert 0 <= delay_s <= backoff.max_s * (1 + backoff.jitter) * (1 + 1e-12)


@given(BACKOFFS, st.integers(1, 200))
def test_delays_do_not_shrink_while_failures_go_on(backoff: Backoff, failures: int) -> None:
    """Without jitter, each delay is at least the one before."""
    assert backoff_delay_s(backoff, failures, 0.5) <= backoff_delay_s(backoff, failures + 1, 0.5)


def test_delays_double_from_the_initial_one_up_to_the_maximum() -> None:
    """100 ms, 200 ms, 400 ms, and so on to 30 s: the defaults of the file."""
    delays = [backoff_delay_s(Backoff(), failures, 0.5) for failures in range(1, 12)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])
    assert backoff_delay_s(Backoff(), 10_000, 0.5) == 30


def test_chance_spreads_a_delay_over_its_jitter() -> None:
    """From 10 % less to 10 % more."""
    assert backoff_delay_s(Backoff(), 1, 0.0) == pytest.approx(0.09)
    assert backoff_delay_s(Backoff(), 1, 1 - 1e-9) == pytest.approx(0.11)
    assert backoff_delay_s(Backoff(jitter=0), 1, 0.0) == 0.1


def test_failures_are_forgotten_when_the_window_has_passed_over_them() -> None:
    """The one of now always counts; without a limit none is remembered."""
    limit = StartLimit(3, 10.0)
    assert recent_failures(limit, (89.0, 90.0, 95.0), 100.0) == (95.0, 100.0)
    assert recent_failures(None, (99.0,), 100.0) == ()


def test_a_stop_is_one_step_unless_steps_are_given() -> None:
    """`stop_signal` and `stop_timeout` are the short form of `stop`."""
    assert stop_steps(spec(stop_signal=2, stop_timeout_s=3.0)) == (StopStep(2, 3.0),)
    steps = (StopStep(2, 5.0), StopStep(15, 5.0))
    assert stop_steps(spec(stop_steps=steps)) == steps
