"""How lines stand in a log: nothing is lost in any format, however the bytes come."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.output.logger.formats import Format, stamp, whole
from procd.output.logger.spec import Spec
from tests.kernel.logger_daemon import spec, written

pieces = st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)), max_size=8)


def formatted(form: str, parts: list[bytes]) -> bytes:
    """What the log holds when these come one by one."""
    shape = Format(Spec(spec("/log", format=form)))
    log = b""
    for part in parts:
        log += shape.lines(part, 1.5, 42, continued=bool(log) and not log.endswith(b"\n"))
    return log if log.endswith(b"\n") else log + shape.line_end


@given(form=st.sampled_from(["timestamp", "json"]), parts=pieces)
def test_what_was_written_can_be_told_from_the_log(form: str, parts: list[bytes]) -> None:
    """Also NULs, broken UTF-8, and lines that come in pieces."""
    output = b"".join(parts)
    if output:
        assert written(formatted(form, parts), form) == output.removesuffix(b"\n") + b"\n"


@given(parts=pieces)
def test_there_are_as_many_newlines_in_the_log_as_in_the_output(parts: list[bytes]) -> None:
    """The place where a file is rotated is found by counting them."""
    for form in ("timestamp", "json"):
        shape = Format(Spec(spec("/log", format=form)))
        for part in parts:
            assert shape.lines(part, 1.5, 42, continued=False).count(b"\n") == part.count(b"\n")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1))
def test_text_stands_as_itself_in_json(text: str) -> None:
    """No reader has to know of our escapes as long as the output is UTF-8."""
    line = formatted("json", [text.encode() + b"\n"])
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500000Z",
        "program": "web",
        "instance": "0",
        "stream": "stdout",
        "pid": 42,
        "message": text,
    }


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\ntwo\nthr", 8),
        (b"no end", 6),
        ("größe".encode()[:4], 4),
        ("größe".encode()[:3], 2),
        ("a€".encode()[:3], 1),
        ("a😀".encode()[:4], 1),
        ("€".encode()[:2], 2),
        (b"\x80\x80\x80\x80", 4),
        (b"a\xff", 2),
    ],
)
def test_lines_and_characters_are_not_torn_apart(data: bytes, expected: int) -> None:
    """As long as there is something else to write."""
    assert whole(data) == expected


def test_times_are_rfc_3339_with_microseconds() -> None:
    """In UTC."""
    assert stamp(1_795_570_800.123456) == b"2026-11-25T01:40:00.123456Z"
    assert re.fullmatch(rb"[-\d]{10}T[:\d]{8}\.\d{6}Z", stamp(0))


def test_a_remark_of_ours_is_a_line_of_the_format() -> None:
    """In raw logs it is a line in brackets."""
    texts = {
        form: Format(Spec(spec("/log", format=form))).remark("x", 0) for form in ("raw", "timestamp", "json")
    }
    assert texts["raw"] == b"[procd: x]\n"
    assert texts["timestamp"] == b"1970-01-01T00:00:00.000000Z [procd: x]\n"
    assert json.loads(texts["json"])["message"] == "[procd: x]"
