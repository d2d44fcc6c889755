"""Where a log begins that is asked for since a time, or by its last lines."""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procd.output.search import stamp, start_of_last_lines, start_since
from tests.unit.output.written import Written

#: 2025-11-23 01:40:00 UTC.
NOW_S = 1_763_862_000


class Counted:
    """A pause that counts how often others had their turn."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        """Have one."""
        self.count += 1


def line(form: str, at_s: float, text: str = "x") -> bytes:
    """A line as the logger writes it."""
    if form == "json":
        return (
            json.dumps({"time": stamp(at_s).decode(), "message": text}, separators=(",", ":")).encode() + b"\n"
        )
    return stamp(at_s) + f" {text}\n".encode()


def since(log: Written, moment_s: float, form: str, pause: Counted | None = None) -> int:
    """The offset at which a log begins that is asked for since a time."""
    end = len(log.everything)
    return asyncio.run(start_since(log.history, end, moment_s, form, pause or Counted()))


def test_a_time_is_written_as_the_logger_writes_it() -> None:
    """UTC with microseconds; as bytes, times are in order."""
    assert stamp(NOW_S + 0.123456) == b"2025-11-23T01:40:00.123456Z"
    assert stamp(1e300) == b"9999-12-31T23:59:59.000000Z"
    assert stamp(0) < stamp(NOW_S) < stamp(NOW_S + 0.000001) < stamp(NOW_S + 3600)


@pytest.mark.parametrize("form", ["timestamp", "json"])
@pytest.mark.parametrize("compress", [False, True])
def test_the_first_line_at_or_after_a_time_is_found(tmp_path: Path, form: str, *, compress: bool) -> None:
    """Exactly, in whichever file it is, also between files, before all and behind all."""
    log = Written(tmp_path / "log", keep=9)
    offsets = []
    for number in range(40):
        offsets.append(len(log.everything))
        log.write(line(form, NOW_S + 10 * number))
        if number % 10 == 9:
            log.rotate()
    if compress:
        for number in range(2, 5):
            log.compress(number)
    for number, offset in enumerate(offsets):
        assert since(log, NOW_S + 10 * number, form) == offset
        assert since(log, NOW_S + 10 * number - 0.5, form) == offset
    assert since(log, NOW_S + 10 * 40, form) == len(log.everything)
    assert since(log, 0, form) == 0


@pytest.mark.parametrize("compress", [False, True])
def test_a_large_file_is_searched_in_pieces(tmp_path: Path, *, compress: bool) -> None:
    """By halves where that can be done, and everybody else has turns; a long line is in nobody's way."""
    log = Written(tmp_path / "log")
    offsets = []
    for number in range(20_000):
        offsets.append(len(log.everything))
        text = "y" * 300_000 if number == 10_000 else "z" * (number % 300)
        log.everything += line("timestamp", NOW_S + number, text)
    log.path.write_bytes(log.everything)
    log.rotate()
    if compress:
        log.compress(1)
    pieces = len(log.everything) // 65536
    for number in (0, 1, 5_000, 9_999, 10_000, 10_001, 19_999):
        pause = Counted()
        assert since(log, NOW_S + number, "timestamp", pause) == offsets[number]
        if compress:
            assert pause.count >= pieces * number // 20_000
        elif abs(number - 10_000) > 1:
            assert pause.count < 20


def test_what_was_written_before_the_format_changed_is_passed_over(tmp_path: Path) -> None:
    """Lines without a time stand between those with one, and in files of their own."""
    log = Written(tmp_path / "log")
    log.write(b"raw\n" * 5)
    log.rotate()
    os.setxattr(f"{log.path}.1", "user.procd.since", b"%d" % (NOW_S - 1000))
    os.utime(f"{log.path}.1", (NOW_S - 100,) * 2)
    log.write(b"raw\n" + line("timestamp", NOW_S) + b"2026-not a time\n\n")
    offset = len(log.everything)
    log.write(line("timestamp", NOW_S + 10) + b"raw, and not finished")
    assert since(log, NOW_S + 5, "timestamp") == offset
    assert since(log, NOW_S + 10, "timestamp") == offset
    assert since(log, NOW_S, "timestamp") == 20
    assert since(log, NOW_S - 500, "timestamp") == 0
    assert since(log, NOW_S - 2000, "timestamp") == 0


def test_of_a_raw_log_the_file_that_was_being_written_then_is_shown(tmp_path: Path) -> None:
    """By when its first byte came, which is in the file, or at least by when its last one came."""
    log = Written(tmp_path / "log")
    for number in range(3):
        log.write(b"some\n")
        os.utime(log.path, (NOW_S + 100 * number + 99,) * 2)
        os.setxattr(log.path, "user.procd.since", b"%d" % (NOW_S + 100 * number))
        log.rotate()
    log.write(b"some\n")
    os.utime(log.path, (NOW_S + 399,) * 2)
    for at_s, offset in [
        (-1, 0),
        (0, 0),
        (99, 0),
        (100, 5),
        (150, 5),
        (200, 10),
        (299, 10),
        (350, 15),
        (402, 20),
    ]:
        assert since(log, NOW_S + at_s, "raw") == offset, at_s
    for number in (1, 2, 3):
        os.removexattr(f"{log.path}.{number}", "user.procd.since")
    assert since(log, NOW_S + 150, "raw") == 5
    assert since(log, NOW_S + 350, "raw") == 15


@settings(deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0, 0, 0.000001, 1, 100]), max_size=40),
    sizes=st.integers(0, 2**32),
    compressed=st.sets(st.integers(1, 6)),
    wanted_s=st.floats(-1, 300),
    form=st.sampled_from(["timestamp", "json"]),
)
def test_any_log_since_any_time(
    gaps: list[float], sizes: int, compressed: set[int], wanted_s: float, form: str
) -> None:
    """Many lines of one moment, files of a line or none, compressed or not."""
    sized = random.Random(sizes)  # noqa: S311 - a test
    with tempfile.TemporaryDirectory() as place:
        log = Written(Path(place, "log"), keep=50)
        at_s = float(NOW_S)
        expected = None
        for gap_s in gaps:
            at_s += gap_s
            if expected is None and stamp(at_s) >= stamp(NOW_S + wanted_s):
                expected = len(log.everything)
            log.write(line(form, at_s, "x" * sized.choice([0, 3, 1000, 70_000])))
            if sized.random() < 0.2:
                log.rotate()
        for number in compressed:
            log.compress(number)
        assert since(log, NOW_S + wanted_s, form) == (len(log.everything) if expected is None else expected)


def test_lines_are_counted_in_pieces(tmp_path: Path) -> None:
    """Whatever their number, and whatever the file."""
    log = Written(tmp_path / "log")
    log.write(b"1234567\n" * 100_000)
    log.rotate()
    log.write(b"1234567\n" * 100_000)
    for compress in (False, True):
        if compress:
            log.compress(1)
        for lines in (1, 99_999, 100_000, 100_001, 150_000, 199_999, 200_000, 10**12):
            pause = Counted()
            offset = asyncio.run(start_of_last_lines(log.history, 1_600_000, lines, pause))
            assert offset == max(0, 1_600_000 - 8 * lines)
            assert pause.count >= lines * 8 // 65536 or lines > 200_000


def test_the_last_lines_end_where_something_is_missing(tmp_path: Path) -> None:
    """What stands before a hole is not the line before."""
    log = Written(tmp_path / "log")
    for text in (b"a\n", b"b\n", b"c\n"):
        log.write(text)
        log.rotate()
    log.delete(2)
    assert asyncio.run(start_of_last_lines(log.history, 6, 5, Counted())) == 4
