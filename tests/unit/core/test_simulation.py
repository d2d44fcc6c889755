"""Years of supervision, in virtual time, and what has to hold in every moment of them.

CI runs 100 histories with up to 100 instances of 50 programs, some 350 events each; one takes about 35 ms.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procd.core import State
from tests.unit.core.crashes import live_through_crashes
from tests.unit.core.simulation import run_history

#: How long to wait, what to do, to whom.
STEPS = st.tuples(st.integers(0, 7), st.integers(0, 15), st.integers(0, 99))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), programs=st.integers(1, 50), history=st.lists(STEPS, max_size=60))
def test_the_invariants_hold_in_every_history(
    seed: int, programs: int, history: list[tuple[int, int, int]]
) -> None:
    """Never two lives, no start too early, no wish forgotten, no stop without an end; see `simulation`."""
    run_history(seed, programs, history)


def test_a_month_of_a_program_that_crashes_every_90_seconds() -> None:
    """28,800 lives after good runs: each is followed by the next at once, and nothing has grown.

    A year is twelve times as long and no different: `python -m tests.unit.core.crashes`.
    """
    program, machine = live_through_crashes(days=30)
    assert program.restarts == 28_800
    assert (program.state, program.failures, program.failed_at_s) == (State.STARTING, 0, ())
    assert len(machine._lives.deadlines) <= 1
