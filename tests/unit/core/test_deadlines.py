"""One deadline for each program, one next deadline of all."""

from __future__ import annotations

from procd.core.deadlines import Deadlines
from procd.core.program import Program
from tests.unit.core.world import spec


def programs(count: int) -> list[Program]:
    """So many programs."""
    return [Program(spec(f"p{number}"), 0.0, number) for number in range(count)]


def test_the_next_deadline_is_the_earliest_of_all() -> None:
    """Whatever the order in which they were set."""
    deadlines = Deadlines()
    one, two, three = programs(3)
    for program, at_s in ((one, 30.0), (two, 10.0), (three, 20.0)):
        deadlines.set(program, at_s)
    assert deadlines.next() == 10
    assert [deadlines.pop_passed(25.0), deadlines.pop_passed(25.0), deadlines.pop_passed(25.0)] == [
        two,
        three,
        None,
    ]
    assert deadlines.next() == 30


def test_a_program_has_one_deadline_the_last_that_was_set() -> None:
    """The earlier ones do not wake anybody, be they sooner or later."""
    deadlines = Deadlines()
    (one,) = programs(1)
    for at_s in (10.0, 5.0, 20.0):
        deadlines.set(one, at_s)
    assert deadlines.next() == 20
    assert deadlines.pop_passed(19.0) is None
    assert deadlines.pop_passed(20.0) is one
    assert one.deadline_s is None
    assert deadlines.next() is None


def test_a_deadline_that_is_set_twice_passes_once() -> None:
    """Also where the moment is the same."""
    deadlines = Deadlines()
    (one,) = programs(1)
    deadlines.set(one, 5.0)
    deadlines.set(one, 5.0)
    assert [deadlines.pop_passed(9.0), deadlines.pop_passed(9.0)] == [one, None]


def test_a_deadline_that_was_taken_back_does_not_pass() -> None:
    """None means none."""
    deadlines = Deadlines()
    (one,) = programs(1)
    deadlines.set(one, 5.0)
    deadlines.set(one, None)
    assert deadlines.next() is None
    assert deadlines.pop_passed(9.0) is None


def test_deadlines_of_the_same_moment_pass_in_the_order_in_which_the_programs_were_added() -> None:
    """Whenever they were set: what happens must not depend on what nobody remembers."""
    deadlines = Deadlines()
    several = programs(5)
    for program in (*reversed(several), *several):
        deadlines.set(program, 1.0)
    assert [deadlines.pop_passed(1.0) for _ in several] == several


def test_a_program_that_asks_for_more_time_all_day_costs_no_memory() -> None:
    """Stale entries far ahead are swept out."""
    deadlines = Deadlines()
    several = programs(100)
    for moment in range(10_000):
        deadlines.set(several[moment % 100], 1e6 + moment)
        assert len(deadlines) <= 202
    assert sorted(program.deadline_s or 0 for program in several) == [1e6 + 9_900 + n for n in range(100)]
    assert [deadlines.pop_passed(2e6) for _ in range(100)] == several
    assert deadlines.next() is None
