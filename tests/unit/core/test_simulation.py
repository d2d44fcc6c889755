"""Years of supervision, in virtual time, and what has to hold in every moment of them.

CI runs 100 histories with up to 100 instances of 50 programs, some 350 events each; one takes about 60 ms.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procd.core import Exit, Exited, SpawnSucceeded, State
from tests.unit.core.simulation import run_history
from tests.unit.core.world import World, spec

#: How long to wait, what to do, to whom.
STEPS = st.tuples(st.integers(0, 7), st.integers(0, 15), st.integers(0, 99))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), programs=st.integers(1, 50), history=st.lists(STEPS, max_size=60))
def test_the_invariants_hold_in_every_history(
    seed: int, programs: int, history: list[tuple[int, int, int]]
) -> None:
    """Never two lives, no start too early, no wish forgotten, no stop without an end; see `simulation`."""
    run_history(seed, programs, history)


def test_a_year_of_a_program_that_crashes_every_90_seconds() -> None:
    """350,400 lives after good runs: each is followed by the next at once, and nothing has grown."""
    world = World(spec())
    machine, now = world.machine, world.now
    ends_s = now + 365 * 86_400
    spawned, crashed = SpawnSucceeded("web", 1000), Exited("web", Exit(signal=11))
    while now < ends_s:
        machine.handle(spawned, now)
        machine.expire(now + 1)
        now += 90
        machine.handle(crashed, now)
    program = world["web"]
    assert program.restarts == 350_400
    assert (program.state, program.failures, program.failed_at_s) == (State.STARTING, 0, ())
    assert len(machine._lives.deadlines) <= 1
