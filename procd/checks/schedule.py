"""Schedules: when the time of a program comes, by the clock on the wall.

Owns the one place in procd where wall time decides something, and the one timer for it.  Must not know what
happens when a time comes.

The wall clock is set, and the machine sleeps, without anybody being told (a timer of the loop counts monotonic
seconds).  So as long as there are schedules the clock is looked at every RECHECK_S seconds at least, and a job
is late by no more than that after a step.  The rules are those of cron(8), less its special cases:

  * times that passed while nobody looked come once, now;
  * a clock that was set back by less than three hours makes no fixed time come again; one that was set back by
    more was wrong before.  Schedules of every minute or hour follow the new time at once.

Days begin in local time; what happens in the hours that summer time skips or repeats is cronsim's, after
Debian's cron.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from procd.config import cron

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Seconds between two looks at the clock while there is a schedule.
RECHECK_S = 60.0
#: Seconds that a clock may be set back without a fixed time coming again.
REPEATS_NOTHING_S = 3 * 3600.0


class Schedule:
    """A cron expression in local time."""

    __slots__ = ("_fields", "expression", "often")

    def __init__(self, expression: str) -> None:
        """Raises ValueError as `cron.validate` does."""
        cron.validate(expression)
        self.expression = expression
        self._fields = cron.expanded(expression)
        minute, hour = self._fields.split()[-5:-3]
        #: Every so many minutes or hours, in the words of cron(8) a wildcard job; no fixed time.
        self.often = minute.startswith("*") or hour.startswith("*")

    def next_after(self, wall_s: float) -> float:
        """The first time after `wall_s`, both in seconds since the epoch; infinity if there is none."""
        from cronsim import CronSim  # noqa: PLC0415 - most have no schedule

        # Its time zone is ours, not a fixed offset: cronsim has to see summer time begin and end.
        start = datetime.fromtimestamp(wall_s, UTC).astimezone(LOCAL)
        moment = next(CronSim(self._fields, start), None)
        return math.inf if moment is None else moment.timestamp()


class Scheduler:
    """Calls `on_due(name)` when the time of a schedule comes; `wall` is time.time, or a test's."""

    __slots__ = ("_due_s", "_latest_s", "_looked_s", "_loop", "_on_due", "_schedules", "_timer", "_wall")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_due: Callable[[str], None],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._on_due = on_due
        self._wall = wall
        self._schedules: dict[str, Schedule] = {}
        self._due_s: dict[str, float] = {}
        #: The last look at the clock, and the latest time that it ever showed.
        self._looked_s = self._latest_s = wall()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, name: str, schedule: Schedule) -> None:
        """Follow a schedule from now on, instead of the one that `name` may have had."""
        self._schedules[name] = schedule
        self._due_s[name] = schedule.next_after(self._wall())
        self._arm()

    def drop(self, name: str) -> None:
        """Follow the schedule of `name` no more, if there is one."""
        if self._schedules.pop(name, None) is not None:
            del self._due_s[name]
            self._arm()

    def next_due(self, name: str) -> float | None:
        """When the time of `name` comes, in seconds since the epoch; None without a schedule."""
        return self._due_s.get(name)

    def close(self) -> None:
        """Look at the clock no more."""
        self._schedules.clear()
        self._due_s.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due_s:
            wait_s = min(self._due_s.values()) - self._wall()
            self._timer = self._loop.call_later(max(0.0, min(wait_s, RECHECK_S)), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._wall()
        if now < self._looked_s:
            self._set_back(now)
        self._looked_s = now
        self._latest_s = max(now, self._latest_s)
        due = sorted((due_s, name) for name, due_s in self._due_s.items() if due_s <= now)
        for _, name in due:
            self._due_s[name] = self._schedules[name].next_after(now)
        self._arm()
        # Last: whoever hears it may set and drop schedules.
        for _, name in due:
            if name in self._schedules:
                self._on_due(name)

    def _set_back(self, now: float) -> None:
        """Follow a clock that shows an earlier time than before."""
        if now < self._latest_s - REPEATS_NOTHING_S:
            self._latest_s = now
        for name, schedule in self._schedules.items():
            self._due_s[name] = schedule.next_after(now if schedule.often else self._latest_s)


class _Local(tzinfo):
    """The time zone of this machine, as libc has it: TZ, or else /etc/localtime.

    The standard library has local time, but as a time zone that knows its changes only by name (zoneinfo), and
    the name is not always known.
    """

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """What local time is ahead of UTC at `moment`."""
        if moment is None:
            return None
        naive = moment.replace(tzinfo=None)
        return timedelta(seconds=round(naive.replace(tzinfo=UTC).timestamp() - naive.timestamp()))

    def dst(self, _: datetime | None) -> timedelta | None:
        """Nobody asks which part of it is summer time."""
        return None

    def tzname(self, _: datetime | None) -> str:
        """A name for people."""
        return "local time"

    def fromutc(self, moment: datetime) -> datetime:
        """Turn a time in UTC, which says that it is in this zone, into local time."""
        seconds = moment.replace(tzinfo=UTC).timestamp()
        return datetime.fromtimestamp(seconds).replace(tzinfo=self)  # noqa: DTZ006 - libc's local time it is


LOCAL = _Local()
