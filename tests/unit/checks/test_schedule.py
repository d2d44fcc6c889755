"""Schedules: due at their time, by a clock that may be set."""

from __future__ import annotations

import math
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from procd.checks.schedule import RECHECK_S, Schedule, Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.checks.fake_loop import FakeLoop


@pytest.fixture
def zone() -> Iterator[str]:
    """Berlin, by a rule that needs no time zone database."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield "CET"
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def utc() -> Iterator[None]:
    """Local time is UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC0"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def wall(text: str) -> float:
    """Seconds of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def following(expression: str, start: str, count: int) -> list[str]:
    """The next times of a schedule, in UTC."""
    schedule, moment, found = Schedule(expression), wall(start), []
    for _ in range(count):
        moment = schedule.next_after(moment)
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%m-%d %H:%M"))
    return found


@pytest.mark.usefixtures("zone")
def test_times_are_local() -> None:
    """Three at night is three at night here, in winter and in summer."""
    assert following("0 3 * * *", "2026-01-10T12:00", 1) == ["01-11 02:00"]
    assert following("0 3 * * *", "2026-07-10T12:00", 1) == ["07-11 01:00"]


@pytest.mark.usefixtures("zone")
def test_a_time_that_summer_time_skips_comes_when_it_begins() -> None:
    """02:30 does not exist on that day; the job is not lost."""
    assert following("30 2 * * *", "2026-03-28T12:00", 2) == ["03-29 01:00", "03-30 00:30"]


@pytest.mark.usefixtures("zone")
def test_a_time_that_comes_twice_when_summer_time_ends_is_due_once() -> None:
    """A fixed time is; what is every hour is due in both of them."""
    assert following("30 2 * * *", "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]
    assert following("30 * * * *", "2026-10-25T00:00", 3) == ["10-25 00:30", "10-25 01:30", "10-25 02:30"]


@pytest.mark.usefixtures("utc")
def test_the_next_time_is_after_the_present_one() -> None:
    """Also when it is due just now."""
    assert following("*/5 * * * *", "2026-01-01T00:05", 1) == ["01-01 00:10"]
    assert following("@daily", "2026-01-01T00:00", 1) == ["01-02 00:00"]


def test_a_bad_expression_is_refused() -> None:
    """The configuration has refused it before."""
    with pytest.raises(ValueError, match="bad hour"):
        Schedule("0 25 * * *")


class Clocks:
    """A wall clock beside the virtual time of the loop, which can be set."""

    def __init__(self, loop: FakeLoop, start: str) -> None:
        self.loop = loop
        self.ahead_s = wall(start) - loop.now
        self.due: list[tuple[str, str]] = []
        self.scheduler = Scheduler(loop, self.on_due, wall=self.wall)  # type: ignore[arg-type]

    def wall(self) -> float:
        """What the clock on the wall shows."""
        return self.loop.now + self.ahead_s

    def on_due(self, name: str) -> None:
        """Note what was due, and when."""
        self.due.append((name, datetime.fromtimestamp(self.wall(), UTC).strftime("%H:%M:%S")))

    def set(self, **expressions: str) -> None:
        """Follow schedules."""
        for name, expression in expressions.items():
            self.scheduler.set(name, Schedule(expression))

    def next(self, name: str) -> str:
        """When something is due."""
        due_s = self.scheduler.next_due(name)
        assert due_s is not None
        return datetime.fromtimestamp(due_s, UTC).strftime("%H:%M")


@pytest.fixture
def clocks(loop: FakeLoop, utc: None) -> Clocks:  # noqa: ARG001 - local time is set by it
    """Eight in the morning."""
    return Clocks(loop, "2026-01-05T08:00")


def test_each_is_due_at_its_time(loop: FakeLoop, clocks: Clocks) -> None:
    """In the order of their times, again and again."""
    clocks.set(quarter="*/15 * * * *", hour="0 * * * *")
    assert (clocks.next("quarter"), clocks.next("hour")) == ("08:15", "09:00")
    loop.advance(3600)
    assert clocks.due == [
        ("quarter", "08:15:00"), ("quarter", "08:30:00"), ("quarter", "08:45:00"),
        ("hour", "09:00:00"), ("quarter", "09:00:00"),
    ]  # fmt: skip


def test_without_a_schedule_nothing_wakes_up(loop: FakeLoop, clocks: Clocks) -> None:
    """The clock is looked at only as long as there is one."""
    assert not loop.planned
    clocks.set(hour="0 * * * *")
    assert len(loop.planned) == 1
    clocks.scheduler.drop("hour")
    clocks.scheduler.drop("never had one")
    assert not loop.planned
    assert clocks.scheduler.next_due("hour") is None


def test_a_new_schedule_takes_the_place_of_the_old_one(loop: FakeLoop, clocks: Clocks) -> None:
    """The times of the old one are forgotten."""
    clocks.set(job="10 * * * *")
    clocks.set(job="20 * * * *")
    loop.advance(1800)
    assert clocks.due == [("job", "08:20:00")]


def test_times_that_were_slept_through_come_once(loop: FakeLoop, clocks: Clocks) -> None:
    """The loop's time stood still for five hours; at the next look the job is due, and then in an hour."""
    clocks.set(hour="0 * * * *")
    loop.advance(1)
    clocks.ahead_s += 5 * 3600 + 60
    loop.advance(RECHECK_S)
    assert clocks.due == [("hour", "13:02:00")]
    assert clocks.next("hour") == "14:00"


def test_a_clock_set_forward_a_little_makes_it_due_in_time(loop: FakeLoop, clocks: Clocks) -> None:
    """Late by no more than the time between two looks."""
    clocks.set(hour="0 * * * *")
    clocks.ahead_s += 1800
    loop.advance(3600)
    assert clocks.due == [("hour", "09:00:00")]


def test_a_clock_set_back_a_little_repeats_no_fixed_time(loop: FakeLoop, clocks: Clocks) -> None:
    """The job of nine was done at nine; the second nine is not another day, and small steps do not add up."""
    clocks.set(job="0 9 * * *")
    loop.advance(3660)
    for _ in range(3):
        clocks.ahead_s -= 1800
        loop.advance(120)
    loop.advance(5 * 3600)
    assert clocks.due == [("job", "09:00:00")]


def test_a_clock_set_back_makes_frequent_jobs_follow_it(loop: FakeLoop, clocks: Clocks) -> None:
    """What is every minute is every minute, whatever the clock shows."""
    clocks.set(minute="* * * * *")
    loop.advance(600)
    clocks.ahead_s -= 3600
    loop.advance(600)
    assert 19 <= len(clocks.due) <= 20


def test_a_clock_set_back_a_lot_was_wrong_before(loop: FakeLoop, clocks: Clocks) -> None:
    """Schedules follow the new time."""
    clocks.set(job="0 9 * * *")
    loop.advance(3660)
    clocks.ahead_s -= 86400
    loop.advance(RECHECK_S)
    assert clocks.next("job") == "09:00"
    loop.advance(86400)
    assert len(clocks.due) == 2


def test_a_clock_that_runs_slow_is_waited_for(loop: FakeLoop, clocks: Clocks) -> None:
    """The loop's timer comes early then; nothing is due before its time."""
    clocks.set(hour="0 * * * *")
    clocks.ahead_s -= 5
    loop.advance(3604)
    assert not clocks.due
    loop.advance(2)
    assert clocks.due == [("hour", "09:00:00")]


def test_whoever_hears_of_one_may_drop_the_others(loop: FakeLoop, clocks: Clocks) -> None:
    """What was dropped is not reported any more."""
    clocks.set(a="0 * * * *", b="0 * * * *")

    def on_due(name: str) -> None:
        clocks.due.append((name, ""))
        clocks.scheduler.close()

    clocks.scheduler._on_due = on_due
    loop.advance(7200)
    assert clocks.due == [("a", "")]
    assert not loop.planned


def test_an_endless_wait_is_no_error(monkeypatch: pytest.MonkeyPatch, loop: FakeLoop, clocks: Clocks) -> None:
    """A schedule whose time does not come within 50 years has none."""
    monkeypatch.setattr(Schedule, "next_after", lambda _self, _wall_s: math.inf)
    clocks.set(never="0 0 29 2 *")
    loop.advance(1000)
    assert clocks.scheduler.next_due("never") == math.inf
    assert not clocks.due
