"""The watchdog of a program that notifies: it has to say that it lives before a time is over.

Owns the one timer for that.  Feeding it moves no timer: a program may feed it thousands of times a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from procd.quantities import format_duration

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from procd.checks.notification import Notification


class OnFailed(Protocol):
    """Told why a program is not healthy; `final`: this one failure is enough."""

    def __call__(self, reason: str, *, final: bool) -> None:
        """Take note."""


class Watchdog:
    """Expects WATCHDOG=1 at least every `interval_s` seconds, from now on; 0: only listens to what is said.

    `on_passed` is told of the first one, and of the first one after a failure: a beat that only says that
    nothing has changed is not passed on.
    """

    __slots__ = ("_fed_s", "_healthy", "_interval_s", "_loop", "_on_failed", "_on_passed", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interval_s: float,
        on_passed: Callable[[], None],
        on_failed: OnFailed,
    ) -> None:
        self._loop = loop
        self._interval_s = interval_s
        self._on_passed = on_passed
        self._on_failed = on_failed
        self._healthy = False
        self._fed_s = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    def notified(self, notification: Notification) -> None:
        """Hear what the program says."""
        if notification.watchdog_s is not None:
            self._interval_s = notification.watchdog_s
            self._fed_s = self._loop.time()
            self._arm()
        if notification.watchdog_failed:
            self._fail("it sent WATCHDOG=trigger")
        elif notification.watchdog:
            self._feed()

    def _feed(self) -> None:
        self._fed_s = self._loop.time()
        if self._timer is None:
            self._arm()
        if not self._healthy:
            self._healthy = True
            self._on_passed()

    def _arm(self) -> None:
        self.cancel()
        if self._interval_s > 0:
            self._timer = self._loop.call_at(self._fed_s + self._interval_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._fed_s + self._interval_s > self._loop.time():
            self._arm()
        else:
            self._fail(f"no WATCHDOG=1 within {format_duration(self._interval_s)}")

    def _fail(self, reason: str) -> None:
        # Not armed again before it is fed: one silence is one failure.
        self.cancel()
        self._healthy = False
        self._on_failed(reason, final=True)

    def cancel(self) -> None:
        """Expect nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
