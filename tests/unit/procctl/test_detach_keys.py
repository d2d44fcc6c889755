"""The keys that end an attachment, however what is typed is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procctl.detach_keys import DEFAULT, DetachKeys, parse

KEYS = parse(DEFAULT)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a,d", b"\x01d"),
        ("ctrl-A", b"\x01"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("~,.", b"~."),
        ("", b""),
    ],
)
def test_keys_have_names(words: str, keys: bytes) -> None:
    """As docker and others write them."""
    assert parse(words) == keys


@pytest.mark.parametrize("words", ["ctrl-", "ctrl-pq", "ctrl-1", "ab", ",", "ctrl-p,", "é", "\x10", "alt-x"])
def test_what_is_no_key_is_refused(words: str) -> None:
    """With the word at fault."""
    with pytest.raises(ValueError, match="is no key"):
        parse(words)


@given(
    st.lists(st.sampled_from([b"\x10", b"\x11", b"a", b"\x10\x10", b"\x10\x11"]), max_size=12),
    st.sampled_from([KEYS, b"\x10\x10\x11", b"\x10\x11\x10\x10", b"a", b""]),
)
def test_pieces_are_as_the_whole(pieces: list[bytes], keys: bytes) -> None:
    """Nothing before the keys is lost or doubled, nothing behind them is passed on; they are never missed."""
    found, passed, detached = DetachKeys(keys), b"", False
    for piece in pieces:
        part, detached = found.feed(piece)
        passed += part
        if detached:
            break
    whole = b"".join(pieces)
    assert detached == bool(keys and keys in whole)
    if detached:
        assert passed == whole[: whole.index(keys)]
    else:
        held = whole[len(passed) :]
        assert whole.startswith(passed)
        assert not held or (keys.startswith(held) and held != keys)


def test_a_first_key_alone_is_passed_on_with_the_next() -> None:
    """It could have been the beginning."""
    found = DetachKeys(KEYS)
    assert found.feed(b"x\x10") == (b"x", False)
    assert found.feed(b"y") == (b"\x10y", False)
    assert found.feed(b"\x10") == (b"", False)
    assert found.feed(b"\x10\x11z") == (b"\x10", True)
