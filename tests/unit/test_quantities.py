"""Durations, sizes and signals, in both directions."""

from __future__ import annotations

import math
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.errors import InvalidQuantity
from procd.quantities import (
    format_duration,
    format_size,
    parse_duration,
    parse_signal,
    parse_size,
    signal_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE = 10**400


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0.0), (3, 3.0), (1.5, 1.5), ("3", 3.0), ("250ms", 0.25), ("1.5s", 1.5), ("10m", 600.0),
        ("2h", 7200.0), ("1d", 86400.0), ("0.5 h", 1800.0), ("007s", 7.0), (2**62, float(2**62)),
    ],
)  # fmt: skip
def test_a_duration_is_seconds(written: object, seconds: float) -> None:
    """A number, or a string with a unit."""
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "s", "1x", "1 s s", "-1s", "+1s", "1e3s", ".5s", "5.s", "1_0s", "1S", "inf", "nan", "\u0661s", "1s\n",
     " 1s", "9" * 400 + "s", -1, -0.1, math.inf, math.nan, HUGE, True, None, [1], {}, b"1s"],
)  # fmt: skip
def test_what_is_no_duration_is_refused(written: object) -> None:
    """Booleans, signs, exponents and what no clock holds."""
    with pytest.raises(InvalidQuantity, match="is not a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0), (512, 512), ("512", 512), ("512B", 512), ("1KB", 1000), ("1KiB", 1024), ("1.5KiB", 1536),
        ("50MiB", 50 * 1024**2), ("2MB", 2_000_000), ("1 GiB", 1024**3), ("1GB", 10**9),
        (2**53 + 1, 2**53 + 1), (str(2**53 + 1), 2**53 + 1), (2**63 - 1, 2**63 - 1),
    ],
)  # fmt: skip
def test_a_size_is_bytes(written: object, size: int) -> None:
    """Exact also where a float would round."""
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written",
    ["", "KiB", "1K", "1kib", "0.5", "1.0001KiB", "-1", "1TiB", "9" * 400, "99999999999GiB", -1, 2**63, HUGE,
     1.0, True, None, [], "1MiB\n"],
)  # fmt: skip
def test_what_is_no_size_is_refused(written: object) -> None:
    """A fraction of a byte among it."""
    with pytest.raises(InvalidQuantity, match="is not a size"):
        parse_size(written)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("TERM", 15), ("SIGTERM", 15), ("term", 15), ("sigHup", 1), (9, 9), ("9", 9), (64, 64), ("RTMIN", 34),
        ("RTMIN+3", 37), ("SIGRTMIN+3", 37), ("RTMAX", 64), ("RTMIN+30", 64), ("CHLD", 17), ("IOT", 6),
    ],
)  # fmt: skip
def test_a_signal_has_a_name_or_a_number(written: object, number: int) -> None:
    """With or without SIG, in any case; those of the kernel's real-time range too."""
    assert parse_signal(written) == number


@pytest.mark.parametrize(
    "written",
    ["", "SIG", "FOO", "0", "65", "SIGSIGTERM", "RTMIN+31", "RTMIN+", "RTMIN-1", "-9", "\u0669", "9" * 5000, 0,
     65, -1, HUGE, 9.0, True, None, ["TERM"], "TERM "],
)  # fmt: skip
def test_what_is_no_signal_is_refused(written: object) -> None:
    """0 among it, which kill(2) takes for a question."""
    with pytest.raises(InvalidQuantity, match="is not a signal"):
        parse_signal(written)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (15, "SIGTERM"),
        (34, "SIGRTMIN"),
        (37, "SIGRTMIN+3"),
        (64, "SIGRTMAX"),
        (32, "signal 32"),
        (77, "signal 77"),
    ],
)
def test_a_signal_is_shown_by_its_name(number: int, name: str) -> None:
    """32 and 33 belong to the C library and have none."""
    assert signal_name(number) == name


@pytest.mark.parametrize("number", sorted(signal.valid_signals()))
def test_a_name_that_is_shown_can_be_written(number: int) -> None:
    """Copied from a status to a command."""
    if not signal_name(number).startswith("signal "):
        assert parse_signal(signal_name(number)) == number


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0ms"), (-1, "0ms"), (0.0004, "0ms"), (0.25, "250ms"), (0.9994, "999ms"), (0.9996, "1s"), (1, "1s"),
        (4.24, "4.2s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m"), (61, "1m 1s"),
        (200, "3m 20s"), (3599.7, "1h"), (7500, "2h 5m"), (86399.9, "1d"),
        (86400 * 12 + 3600 * 3 + 60, "12d 3h"), (86400 * 400, "400d"),
    ],
)  # fmt: skip
def test_a_duration_is_shown_in_two_units_at_most(seconds: float, shown: str) -> None:
    """And never in 60 seconds or 1000 milliseconds."""
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (10 * 1024, "10KiB"),
        (1023 * 1024, "1023KiB"), (1024**2 - 1, "1MiB"), (20 * 1024**2, "20MiB"),
        (1024**3, "1GiB"), (5000 * 1024**3, "5000GiB"),
    ],
)  # fmt: skip
def test_a_size_is_shown_in_the_largest_unit(size: int, shown: str) -> None:
    """Three digits or so."""
    assert format_size(size) == shown


@given(st.floats(0, 1e9))
def test_a_duration_that_is_shown_is_near(seconds: float) -> None:
    """Whatever is rounded is less than the last unit that is shown."""
    words = format_duration(seconds).split()
    shown = sum(parse_duration(word) for word in words)
    last_unit = parse_duration("1" + words[-1].lstrip("0123456789."))
    assert abs(shown - seconds) <= last_unit
    assert len(words) <= 2


@given(st.integers(0, 2**62))
def test_a_size_that_is_shown_is_near(size: int) -> None:
    """Within the digits that are shown."""
    assert abs(parse_size_roughly(format_size(size)) - size) <= max(size * 0.06, 0.5)


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_signal])
@given(
    written=st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none(), st.binary())
)
def test_anything_is_read_or_refused(parse: Callable[[object], float], written: object) -> None:
    """No value of TOML or of a command line raises anything else."""
    with suppress(InvalidQuantity):
        assert 0 <= parse(written) < math.inf


def parse_size_roughly(shown: str) -> float:
    """Bytes of what is shown, a fraction of a byte included."""
    units = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
    unit = shown.lstrip("0123456789.")
    return float(shown.removesuffix(unit)) * units[unit]
