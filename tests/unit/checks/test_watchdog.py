"""The watchdog: fed in time it says nothing, not fed it says so once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procd.checks.notification import Notification
from procd.checks.watchdog import Watchdog

if TYPE_CHECKING:
    from tests.unit.checks.fake_loop import FakeLoop

BEAT = Notification(watchdog=True)
MISSED = ("no WATCHDOG=1 within 30s", True)


class Heard(list[object]):
    """What a watchdog has reported."""

    def failed(self, reason: str, *, final: bool) -> None:
        """Note a failure."""
        self.append((reason, final))

    def passed(self) -> None:
        """Note a pass."""
        self.append("passed")


@pytest.fixture
def heard() -> Heard:
    """Nothing yet."""
    return Heard()


@pytest.fixture
def watchdog(loop: FakeLoop, heard: Heard) -> Watchdog:
    """A watchdog of 30 seconds."""
    return Watchdog(loop, 30.0, heard.passed, heard.failed)  # type: ignore[arg-type]


def test_a_program_that_never_feeds_it_has_failed_for_good(
    loop: FakeLoop, watchdog: Watchdog, heard: Heard
) -> None:
    """Its time begins when it is watched; one silence is one failure."""
    loop.advance(29.9)
    assert not heard
    loop.advance(500)
    assert heard == [MISSED]
    assert not loop.planned
    watchdog.cancel()


def test_fed_in_time_it_stays_quiet(loop: FakeLoop, watchdog: Watchdog, heard: Heard) -> None:
    """That it passes is said once."""
    for _ in range(100):
        loop.advance(29)
        watchdog.notified(BEAT)
    assert heard == ["passed"]
    assert len(loop.planned) == 1
    loop.advance(30)
    assert heard == ["passed", MISSED]


def test_feeding_it_moves_no_timer(loop: FakeLoop, watchdog: Watchdog) -> None:
    """Thousands of beats cost no more than remembering when the last one was."""
    before = loop.planned
    for _ in range(1000):
        watchdog.notified(BEAT)
    assert loop.planned == before


def test_a_program_that_comes_back_passes_again(loop: FakeLoop, watchdog: Watchdog, heard: Heard) -> None:
    """Where unhealthy programs are not restarted, they can recover."""
    loop.advance(31)
    watchdog.notified(BEAT)
    loop.advance(31)
    assert heard == [MISSED, "passed", MISSED]


def test_a_program_can_trigger_it(loop: FakeLoop, watchdog: Watchdog, heard: Heard) -> None:
    """WATCHDOG=trigger is a failure at once."""
    watchdog.notified(Notification(watchdog_failed=True))
    assert heard == [("it sent WATCHDOG=trigger", True)]
    assert not loop.planned


@pytest.mark.parametrize("interval_s", [5.0, 60.0])
def test_a_program_can_change_its_interval(
    loop: FakeLoop, watchdog: Watchdog, heard: Heard, interval_s: float
) -> None:
    """WATCHDOG_USEC, shorter and longer, counts from when it comes."""
    loop.advance(3)
    watchdog.notified(Notification(watchdog_s=interval_s))
    loop.advance(interval_s - 0.1)
    assert not heard
    loop.advance(0.1)
    assert len(heard) == 1


def test_no_interval_is_no_watchdog(loop: FakeLoop, watchdog: Watchdog, heard: Heard) -> None:
    """WATCHDOG_USEC=0 turns it off, as it does in systemd; it still hears."""
    watchdog.notified(Notification(watchdog_s=0.0))
    assert not loop.planned
    watchdog.notified(BEAT)
    assert heard == ["passed"]
    assert not loop.planned


def test_other_words_do_not_feed_it(loop: FakeLoop, watchdog: Watchdog, heard: Heard) -> None:
    """STATUS and READY are no sign of life that was agreed on."""
    loop.advance(20)
    watchdog.notified(Notification(ready=True, status="busy"))
    loop.advance(10)
    assert heard == [MISSED]


def test_cancelled_it_expects_nothing(loop: FakeLoop, watchdog: Watchdog, heard: Heard) -> None:
    """The life is over."""
    watchdog.cancel()
    watchdog.cancel()
    loop.advance(100)
    assert not heard
    assert not loop.planned
