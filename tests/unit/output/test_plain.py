"""The way back from the formats of a log: what the program wrote, whatever pieces the log is read in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.config.spec import LogFormat
from procd.output.logger.formats import Format
from procd.output.logger.spec import Spec
from procd.output.plain import MAX_LINE_BYTES, Plain
from tests.kernel.logger_daemon import spec

KINDS = list(LogFormat)


def logged(kind: LogFormat, text: bytes) -> bytes:
    """How whole lines stand in a log."""
    return Format(Spec(spec("/l", format=kind.value))).lines(text, 1_800_000_000.25, 4711, continued=False)


@given(
    st.sampled_from(KINDS), st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line)), st.data()
)
def test_every_line_comes_back_as_it_was(kind: LogFormat, lines: list[bytes], data: st.DataObject) -> None:
    """Also what is not UTF-8, quotes, backslashes and control characters."""
    text = b"".join(line + b"\n" for line in lines)
    content = logged(kind, text)
    cut = data.draw(st.integers(0, len(content)))
    plain = Plain(kind)
    assert plain.feed(content[:cut]) + plain.feed(content[cut:]) == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_without_its_end_is_waited_for(kind: LogFormat) -> None:
    """It may be half of one."""
    content = logged(kind, b"hello\n")
    plain = Plain(kind)
    assert plain.feed(content[:-1]) == b""
    assert plain.feed(content[-1:]) == b"hello\n"


@pytest.mark.parametrize("kind", [LogFormat.TIMESTAMP, LogFormat.JSON])
@pytest.mark.parametrize(
    "line",
    [
        b"no format",
        b"2026-11-23T01:40:00Z near",
        b"{",
        b'{"message":1}',
        b"[1]",
        b'{"message":"\\ud800"}',
        b'"x"',
    ],
)
def test_a_line_that_is_not_of_the_format_is_taken_as_it_is(kind: LogFormat, line: bytes) -> None:
    """It was written before the format was set."""
    assert Plain(kind).feed(line + b"\n") == line + b"\n"


@pytest.mark.parametrize("fill", [b"x", b"\\", b'"', b"\x00", "ä".encode(), b"\xff", b"\\\\u00"])
def test_the_beginning_of_an_endless_line_is_enough(fill: bytes) -> None:
    """Wherever the cut falls, in an escape or beside it; and the next line is whole again."""
    text = b"begin " + fill * (MAX_LINE_BYTES // len(fill))
    plain = Plain(LogFormat.JSON)
    said = plain.feed(logged(LogFormat.JSON, text + b"\nnext\n"))
    first, second, rest = said.split(b"\n")
    assert (second, rest) == (b"next", b"")
    assert text.startswith(first)
    assert len(first) > MAX_LINE_BYTES // 7
    assert json.loads(logged(LogFormat.JSON, b"next\n"))["message"] == "next"
