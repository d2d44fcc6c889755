"""Times as people write them, for `--since`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from procctl.moments import parse_moment
from procd.errors import InvalidQuantity

if TYPE_CHECKING:
    from collections.abc import Iterator

#: 2026-11-23 01:40:00 in Berlin, an hour before that in UTC.
NOW_S = 1_795_394_400.0


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("word", "ago_s"),
    [
        ("now", 0),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5s", 1.5),
        ("90", 90),
        ("10m ago", 600),
        ("today", 6000),
        ("yesterday", 6000 + 86400),
        ("01:00", 2400),
        ("1:00", 2400),
        ("01:39:30", 30),
        ("23:40", 7200),
        ("2026-11-23", 6000),
        ("2026-11-23 01:00", 2400),
        ("2026-11-23 01:00:30.5", 2369.5),
        ("2026-11-23T01:00", 2400),
        ("2026-11-23T00:00Z", 2400),
        ("2026-11-23 00:00+00:00", 2400),
        ("2026-11-22T19:00:00-05:00", 2400),
        (" 10m ", 600),
        ("@1795394400", 0),
        ("@1795394399.5", 0.5),
        ("100000d", NOW_S),
        ("1960-01-01", NOW_S),
    ],
)
def test_a_time_is_understood(word: str, ago_s: float) -> None:
    """Local, unless it says otherwise; never before 1970."""
    assert parse_moment(word, NOW_S) == pytest.approx(NOW_S - ago_s)


@pytest.mark.parametrize(
    "word",
    ["", "soon", "10 parsecs", "-5m", "25:00", "12:60", "2026-13-01", "2026-11-23 25:00", "2026-11-23 soon",
     "@soon", "@-1", "tomorrow", "2026-11", "1e9", "\N{ARABIC-INDIC DIGIT ONE}h", "9999-12-31T23:59-24:00"],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_right(word: str) -> None:
    """Never taken for something near."""
    with pytest.raises(InvalidQuantity, match="yesterday"):
        parse_moment(word, NOW_S)
