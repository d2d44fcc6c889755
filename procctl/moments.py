"""Words that people write for a time in the past: `10m`, `today`, `2026-11-23 01:00`.

Pure: the present is given.  Raises InvalidQuantity for anything else.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

from procd.errors import InvalidQuantity
from procd.quantities import parse_duration

MOMENT_SYNTAX = (
    'a time: how long ago ("10m", "2h", "1d"), "today", "yesterday", "14:30", "2026-11-23", '
    '"2026-11-23 14:30:05", "2026-11-23T14:30Z" or "@UNIX_TIME"'
)

_UNIX_TIME = re.compile(r"@([0-9]{1,11}(?:\.[0-9]{1,9})?)", re.ASCII)
_CLOCK = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", re.ASCII)
_CALENDAR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].+)?", re.ASCII)


def parse_moment(word: str, now_s: float) -> float:
    """The Unix time of a word.

    Without a zone of its own it is meant in the local one (TZ).  A time of day is the last one that there was.
    """
    word = word.strip()
    unix = _UNIX_TIME.fullmatch(word)
    if unix:
        return float(unix.group(1))
    now = datetime.fromtimestamp(now_s)  # noqa: DTZ006 - local on purpose
    today = datetime.combine(now.date(), time())
    named = {"now": now, "today": today, "yesterday": today - timedelta(days=1)}.get(word)
    if named is not None:
        return named.timestamp()
    try:
        if _CLOCK.fullmatch(word):
            at = datetime.combine(now.date(), time.fromisoformat(word.zfill(5) if len(word) < 5 else word))
            return (at if at <= now else at - timedelta(days=1)).timestamp()
        if _CALENDAR.fullmatch(word):
            return max(0.0, datetime.fromisoformat(word).timestamp())
        return max(0.0, now_s - parse_duration(word.removesuffix(" ago")))
    except (ValueError, OverflowError, InvalidQuantity) as error:
        raise InvalidQuantity(word, MOMENT_SYNTAX) from error
