"""What is written into a ring is read once, in its order, as a whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.keeper.ring import SIZE, RingReader, RingWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITTEN = st.integers(1, 3000).map(lambda size: ("write", size)) | st.just(("read", 0))


@pytest.fixture
def writer() -> Iterator[RingWriter]:
    """One side."""
    made = RingWriter()
    yield made
    made.close()


@pytest.fixture
def reader(writer: RingWriter) -> Iterator[RingReader]:
    """The other."""
    made = RingReader(os.dup(writer.fd))
    yield made
    made.close()


@given(st.lists(WRITTEN, max_size=400), st.integers(0, 255))
def test_it_is_a_queue_of_bytes(steps: list[tuple[str, int]], seed: int) -> None:
    """Through any number of rounds; what there is no room for is refused as a whole."""
    writer = RingWriter()
    reader = RingReader(os.dup(writer.fd))
    waiting = bytearray()
    # Beyond the end of the circle, wherever it begins.
    large = bytes([seed]) * (SIZE - 1000)
    assert writer.write(large)
    assert reader.take() == large
    for number, (what, size) in enumerate(steps):
        if what == "read":
            assert reader.take() == bytes(waiting)
            waiting.clear()
            continue
        data = bytes([(seed + number) % 256]) * size
        assert writer.write(data) is (len(waiting) + size <= SIZE)
        if len(waiting) + size <= SIZE:
            waiting += data
    assert reader.take(writer.written) == bytes(waiting)
    assert reader.take() == b""
    reader.close()
    writer.close()


def test_what_there_is_no_room_for_is_refused_until_it_was_read(writer: RingWriter, reader: RingReader) -> None:
    """All of it: nobody reads half a message."""
    assert writer.write(bytes(SIZE))
    assert not writer.write(b"more")
    assert reader.take() == bytes(SIZE)
    assert writer.write(b"more")
    assert reader.take() == b"more"


def test_it_is_read_up_to_where_the_reader_is_told(writer: RingWriter, reader: RingReader) -> None:
    """What comes later was said later."""
    writer.write(b"before")
    told = writer.written
    writer.write(b"after")
    assert reader.take(told) == b"before"
    assert reader.take() == b"after"


def test_what_was_not_counted_was_not_written(writer: RingWriter, reader: RingReader) -> None:
    """A writer that is killed between the two leaves nothing."""
    writer.write(b"whole")
    os.pwrite(writer.fd, b"half", 16 + writer.written)
    assert reader.take() == b"whole"
    assert reader.take() == b""


@pytest.mark.parametrize("end", [-1, SIZE + 1, 1 << 70])
def test_an_end_that_cannot_be_is_refused(writer: RingWriter, reader: RingReader, end: int) -> None:
    """And what can be is read after that."""
    writer.write(b"here")
    with pytest.raises(ValueError, match="cannot have"):
        reader.take(end)
    assert reader.take() == b"here"


def test_what_is_no_ring_is_refused() -> None:
    """A pipe has no places."""
    read_end, write_end = os.pipe()
    reader = RingReader(read_end)
    with pytest.raises(ValueError, match="no ring"):
        reader.take()
    reader.close()
    os.close(write_end)
