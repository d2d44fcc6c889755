"""Cron expressions: those that can be followed are told from those that cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.config.cron import expanded, validate

PIECES = st.sampled_from(
    ["*", "/", "-", ",", "L", "W", "LW", "#", "MON", "jan", "0", "7", "31", "60", " ", "²", "@"]
)


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *", "*/5 8-18 * * mon-fri", "0 3 1,15 * *", "0 0 L * *", "0 0 * * 5#3", "0 0 29 2 *",
        "30 0 3 * * *", "@daily", "@HOURLY", " 0  0 * * 7 ",
    ],
)  # fmt: skip
def test_what_cron_knows_is_taken(expression: str) -> None:
    """Five fields, six with seconds, and the nicknames."""
    validate(expression)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields where five are needed"),
        ("@reboot", "1 fields"),
        ("60 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 0 0 * *", "bad day-of-month"),
        ("0 0 * 13 *", "bad month"),
        ("0 0 * * 8", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 */16 * MON#2", "no such day ever comes"),
        ("0 0 * 2 MON#5,5L/2", "bad day-of-week"),
        ("* " * 200, "longer than"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_words(expression: str, words: str) -> None:
    """The words say which field it is."""
    with pytest.raises(ValueError, match=words):
        validate(expression)


def test_nicknames_stand_for_fields() -> None:
    """As in crontab(5)."""
    assert expanded("@weekly") == "0 0 * * 0"
    assert expanded("1 2 3 4 5") == "1 2 3 4 5"


@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20))
def test_no_text_breaks_it(text: str) -> None:
    """It is taken or refused, in every place."""
    for expression in (text, f"0 0 {text} * *", f"0 0 * * {text}", f"{text} 1 1 1 1"):
        try:
            validate(expression)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - the error is allowed, not expected
