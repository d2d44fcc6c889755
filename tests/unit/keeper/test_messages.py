"""The bytes of the keeper's channel."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.keeper import messages

MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 255),
        st.binary(max_size=messages.MOST_KEY_BYTES),
        st.binary(max_size=200),
        st.integers(0, messages.MOST_FDS),
    )
)


@given(MESSAGES)
def test_what_is_encoded_is_decoded(said: list[tuple[int, bytes, bytes, int]]) -> None:
    """Several messages of a datagram come out as they went in."""
    assert list(messages.decode(b"".join(messages.encode(*each) for each in said))) == said


@given(st.binary(max_size=100))
def test_any_bytes_are_messages_or_refused(noise: bytes) -> None:
    """Nothing but ValueError comes of what is no message, and what comes out adds up to what went in."""
    size = 0
    try:
        for verb, key, value, fds in messages.decode(noise):
            again = messages.HEADER.pack(verb, fds, len(key), len(value)) + key + value
            assert noise[size:].startswith(again)
            size += messages.HEADER.size + len(key) + len(value)
    except ValueError:
        return
    assert size == len(noise)


@pytest.mark.parametrize(
    ("key", "value", "fds"), [(b"k" * 256, b"", 0), (b"", b"v" * 65537, 0), (b"", b"", 254)]
)
def test_what_is_too_large_is_not_encoded(key: bytes, value: bytes, fds: int) -> None:
    """The bounds are the reader's, too."""
    with pytest.raises(ValueError, match="too large"):
        messages.encode(messages.PUT, key, value, fds)


@given(st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), st.from_regex(r"[ -~]*", fullmatch=True)))
def test_fields_are_what_lines_were(said: dict[str, str]) -> None:
    """A value may contain anything but a newline."""
    assert messages.fields(messages.lines(**said)) == said


def test_what_was_sent_before_a_reset_is_received() -> None:
    """The kernel tells of the reset first: the other side died with unread messages."""
    ours, theirs = messages.channel()
    with ours:
        ours.send(b"never read")
        theirs.send(b"before the end")
        theirs.close()
        assert messages.receive(ours) == (b"before the end", [])
        assert messages.receive(ours) is None
        assert messages.send(ours, b"too late") == messages.GONE


def test_the_fate_of_a_datagram_is_told() -> None:
    """A full queue is no error; a descriptor that is none is."""
    ours, theirs = messages.channel()
    with ours, theirs:
        assert messages.send(ours, b"x", (0,)) == messages.SENT
        datagram, fds = messages.receive(theirs) or (b"", [])
        assert (datagram, len(fds)) == (b"x", 1)
        assert not os.get_inheritable(fds[0])
        os.close(fds[0])
        with pytest.raises(OSError, match="Bad file descriptor"):
            messages.send(ours, b"x", (9999,))
        while (fate := messages.send(ours, bytes(60000))) == messages.SENT:
            pass
        assert fate == messages.LATER
