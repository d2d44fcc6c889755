"""What a program has done to a terminal, and what undoes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procctl.terminal_modes import TerminalModes


def undone(*pieces: bytes) -> bytes:
    """What undoes what was shown."""
    modes = TerminalModes()
    for piece in pieces:
        modes.feed(piece)
    return modes.undo()


@pytest.mark.parametrize(
    ("shown", "undo"),
    [
        (b"", b""),
        (b"text\r\n", b""),
        (b"text", b"\r\n"),
        (b"\x1b[?25l", b"\x1b[?25h\r\n"),
        (b"\x1b[?7;25l", b"\x1b[?7h\x1b[?25h\r\n"),
        (b"\x1b[?1049h", b"\x1b[?1049l"),
        (b"\x1b[?1049h\x1b[?2004h\x1b[?1002;1006h", b"\x1b[?1002l\x1b[?1006l\x1b[?2004l\x1b[?1049l"),
        (b"\x1b[?1049h\x1b[?1049l\n", b""),
        (b"\x1b[?25l\x1b[?25h\n", b""),
        (b"\x1b[?12h\n", b""),
        (b"\x1b[5;10r\n", b"\x1b7\x1b[r\x1b8"),
        (b"\x1b[5;10r\x1b[r\n", b""),
        (b"\x1b[31mred\n", b"\x1b[m"),
        (b"\x1b[31mred\x1b[0m\n", b""),
        (b"\x1b[31mred\x1b[m\n", b""),
        (b"\x1b=\n", b"\x1b>"),
        (b"\x1b=\x1b>\n", b""),
        (b"\x1b(0lines\n", b"\x1b(B"),
        (b"\x1b(0lines\x1b(B\n", b""),
        (b"\x0elines\n", b"\x0f"),
        (b"\x0elines\x0f\n", b""),
        (b"\x1b[4h\n", b"\x1b[4l"),
        (b"\x1b[5 q\n", b"\x1b[0 q"),
        (b"\x1b[>4;2m\n", b"\x1b[>4m"),
        (b"\x1b[>4;2m\x1b[>4;0m\n", b""),
        (b"\x1b[>1u\x1b[>1u\x1b[<u\n", b"\x1b[<1u"),
        (b"\x1b[10;5Hthere\n", b"\x1b[999;1H\r\n"),
        (b"\x1b[?1049h\x1b[10;5Hthere\n", b"\x1b[?1049l"),
        (b"\x1b[?1049h\x1b[?25l\x1b[31m\x1b[5;6rx\x1bc\n", b""),
        (b"\x1b[?25l\x1b[31m\x1b[4h\x1b[!p\n", b""),
        (b"\x1b]0;title\x07\n", b""),
    ],
)
def test_what_was_done_is_undone_and_nothing_else(shown: bytes, undo: bytes) -> None:
    """A terminal may do something visible where there is nothing to undo."""
    assert undone(shown) == undo


@given(st.integers(1, 30), st.data())
def test_a_sequence_may_come_in_pieces(size: int, data: st.DataObject) -> None:
    """A chunk ends anywhere."""
    shown = b"\x1b[?1049;2004h\x1b[?25l\x1b[2;20r\x1b(0x\x1b(B\x1b=\x1b[1;31mred\x1b[3 q\x1b[>4;1m\x1b[H"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shown)), max_size=size)))
    pieces = [shown[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(shown)], strict=True)]
    assert undone(*pieces) == undone(shown)


@given(st.lists(st.binary(max_size=40) | st.just(b"\x1b[") | st.just(b"\x1b[?1049h"), max_size=20))
def test_anything_may_be_shown(pieces: list[bytes]) -> None:
    """Garbage is no error, and what was undone once is not undone again."""
    modes = TerminalModes()
    for piece in pieces:
        modes.feed(piece)
    modes.undo()
    assert modes.undo() == b""
