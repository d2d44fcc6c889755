"""Asking again and again: at the interval, with the timeout, one attempt at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procd.checks.asking import MIN_INTERVAL_S, Asking

if TYPE_CHECKING:
    from procd.checks.probe import Answer
    from tests.unit.checks.fake_loop import FakeLoop


class FakeProbe:
    """Answers after a time that the test sets, or never."""

    subject = "look"

    def __init__(self, loop: FakeLoop) -> None:
        self.loop = loop
        self.takes_s: float | None = 0.0
        self.reason = ""
        self.asked_s: list[float] = []
        self.cancelled = 0

    def ask(self, answer: Answer) -> FakeProbe:
        """Begin."""
        self.asked_s.append(self.loop.now - 1000.0)
        self._handle = self.loop.call_later(1e9 if self.takes_s is None else self.takes_s, answer, self.reason)
        return self

    def cancel(self) -> None:
        """End."""
        self._handle.cancel()
        self.cancelled += 1


@pytest.fixture
def probe(loop: FakeLoop) -> FakeProbe:
    """A probe under the test's control."""
    return FakeProbe(loop)


def ask(probe: FakeProbe, *, interval_s: float = 10.0, first_after_s: float = 0.0) -> tuple[Asking, list[str]]:
    """Ask with a timeout of 5 seconds; the answers are in the list."""
    answers: list[str] = []
    asking = Asking(probe.loop, probe, interval_s, 5.0, first_after_s, answers.append)  # type: ignore[arg-type]
    return asking, answers


def test_it_asks_at_once_and_then_at_every_interval(loop: FakeLoop, probe: FakeProbe) -> None:
    """However long the answers take, as long as they come before the interval is over."""
    probe.takes_s = 2.5
    _, answers = ask(probe)
    loop.advance(35)
    assert probe.asked_s == [0, 10, 20, 30]
    assert answers == ["", "", "", ""]


def test_it_can_begin_later(loop: FakeLoop, probe: FakeProbe) -> None:
    """Health is asked for after the first interval."""
    ask(probe, first_after_s=10.0)
    loop.advance(25)
    assert probe.asked_s == [10, 20]


def test_the_reasons_are_passed_on(loop: FakeLoop, probe: FakeProbe) -> None:
    """As the probe gives them."""
    probe.reason = "look: nobody there"
    _, answers = ask(probe)
    loop.advance(0)
    assert answers == ["look: nobody there"]


def test_an_attempt_without_an_answer_is_ended_at_the_timeout(loop: FakeLoop, probe: FakeProbe) -> None:
    """And has failed, in words; the next one comes at its time."""
    probe.takes_s = None
    _, answers = ask(probe)
    loop.advance(5)
    assert probe.cancelled == 1
    assert answers == ["look: no answer within 5s"]
    loop.advance(5)
    assert probe.asked_s == [0, 10]


def test_attempts_do_not_overlap(loop: FakeLoop, probe: FakeProbe) -> None:
    """With a timeout longer than the interval, those in between are left out and the grid is kept."""
    probe.takes_s = 4.5
    ask(probe, interval_s=2.0)
    loop.advance(13)
    assert probe.asked_s == [0, 6, 12]


def test_a_loop_that_was_late_does_not_shift_the_later_attempts(loop: FakeLoop, probe: FakeProbe) -> None:
    """The times of attempts do not drift."""
    ask(probe)
    loop.advance(1)
    loop.now += 9.5  # nothing ran for so long: the second attempt is half a second late
    loop.advance(0)
    loop.advance(20)
    assert probe.asked_s == pytest.approx([0, 10.5, 20, 30])


def test_no_interval_is_no_busy_loop(loop: FakeLoop, probe: FakeProbe) -> None:
    """There is a least interval."""
    ask(probe, interval_s=0.0)
    loop.advance(1.0)
    assert len(probe.asked_s) <= 1.0 / MIN_INTERVAL_S + 2


def test_there_is_one_timer_at_any_time(loop: FakeLoop, probe: FakeProbe) -> None:
    """For the timeout while it waits for an answer, for the next attempt otherwise."""
    probe.takes_s = None
    ask(probe)
    loop.advance(0)
    assert [each for each in loop.planned if each < 1e9] == [1005.0]
    loop.advance(6)
    assert loop.planned == [1010.0]


@pytest.mark.parametrize("when_s", [0.0, 1.0, 7.0])
def test_cancelled_it_leaves_nothing(loop: FakeLoop, probe: FakeProbe, when_s: float) -> None:
    """During an attempt, and between two; a second time does no harm."""
    probe.takes_s = 3.0
    asking, answers = ask(probe)
    loop.advance(when_s)
    answers.clear()
    asking.cancel()
    asking.cancel()
    assert not loop.planned
    loop.advance(100)
    assert not answers


def test_whoever_hears_an_answer_may_cancel(loop: FakeLoop, probe: FakeProbe) -> None:
    """Readiness does, when it has come."""
    asking: list[Asking] = []
    asking.append(
        Asking(loop, probe, 10.0, 5.0, 0.0, lambda _: asking[0].cancel())  # type: ignore[arg-type]
    )
    loop.advance(100)
    assert probe.asked_s == [0]
    assert not loop.planned
