"""Asking again and again: one probe, at its interval, with its timeout.

Owns when a program is asked; one timer and at most one attempt at any time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from procd.quantities import format_duration

if TYPE_CHECKING:
    import asyncio

    from procd.checks.probe import Answer, Attempt, Probe

#: Seconds between two attempts, at least: an interval of nothing would take all of the one thread.
MIN_INTERVAL_S = 0.01


class Asking:
    """Asks from construction until it is cancelled; `answer` gets each outcome, as that of one attempt.

    Attempts begin at multiples of the interval after the first one, however long an answer takes; those whose
    time comes while another is under way are left out.
    """

    __slots__ = ("_answer", "_attempt", "_began_s", "_interval_s", "_loop", "_probe", "_timeout_s", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        probe: Probe,
        interval_s: float,
        timeout_s: float,
        first_after_s: float,
        answer: Answer,
    ) -> None:
        self._loop = loop
        self._probe = probe
        self._interval_s = max(interval_s, MIN_INTERVAL_S)
        self._timeout_s = timeout_s
        self._answer = answer
        self._attempt: Attempt | None = None
        self._began_s = loop.time() + first_after_s
        self._timer: asyncio.TimerHandle | None = loop.call_at(self._began_s, self._ask)

    def _ask(self) -> None:
        self._timer = self._loop.call_at(self._loop.time() + self._timeout_s, self._give_up)
        self._attempt = self._probe.ask(self._answered)

    def _give_up(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
        self._answered(f"{self._probe.subject}: no answer within {format_duration(self._timeout_s)}")

    def _answered(self, reason: str) -> None:
        self._attempt = None
        if self._timer is not None:
            self._timer.cancel()
        # By the grid, not by the clock: a loop that was late once does not push all later attempts back.
        passed = math.floor((self._loop.time() - self._began_s) / self._interval_s)
        self._began_s += self._interval_s * max(1, passed + 1)
        self._timer = self._loop.call_at(self._began_s, self._ask)
        # Last: whoever hears it may cancel us.
        self._answer(reason)

    def cancel(self) -> None:
        """Ask no more; nothing is left of an attempt under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
