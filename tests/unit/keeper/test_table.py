"""The table of records, and its bounds."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procd.keeper import table
from procd.keeper.table import Refused, Room, Table

CHANGES = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.none() | st.integers(0, 300), st.integers(0, 4)),
    max_size=40,
)


def open_count() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only how many


@settings(deadline=None)
@given(CHANGES)
def test_it_holds_what_a_dictionary_would_within_its_bounds(
    changes: list[tuple[bytes, int | None, int]],
) -> None:
    """Whatever is put and dropped: the descriptors that are open are those of the records, counted exactly."""
    before = open_count()
    room = Room(most_fds=8)
    kept = Table(room)
    model: dict[bytes, tuple[bytes, tuple[int, ...]]] = {}
    for key, size, count in changes:
        if size is None:
            assert kept.drop(key) == (model.pop(key, None) is not None)
            continue
        fds = tuple(os.dup(2) for _ in range(count))
        others = sum(len(its) for name, (_, its) in model.items() if name != key)
        # What is already too much may become less.
        fits = others + count <= 8 or count <= len(model.get(key, (b"", ()))[1])
        try:
            kept.put(key, b"x" * size, fds)
        except Refused:
            assert not fits
        else:
            assert fits
            model[key] = (b"x" * size, fds)
    assert {key: kept.get(key) for key in kept} == model
    assert room.fds == sum(len(fds) for _, fds in model.values()) == open_count() - before
    assert room.records == len(kept) == len(model)
    for key in tuple(model):
        kept.drop(key)
    assert (room.records, room.bytes, room.fds, open_count()) == (0, 0, 0, before)


def test_records_and_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all tables together; and what is refused leaves what was."""
    monkeypatch.setattr(table, "MOST_RECORDS", 3)
    monkeypatch.setattr(table, "MOST_BYTES", 2000)
    room = Room(most_fds=0)
    one, other = Table(room), Table(room)
    one.put(b"a", b"old", ())
    one.put(b"b", b"", ())
    other.put(b"a", b"", ())
    with pytest.raises(Refused, match="3 records"):
        other.put(b"b", b"", ())
    with pytest.raises(Refused, match="bytes"):
        one.put(b"a", bytes(2000), ())
    assert one.get(b"a") == (b"old", ())
    one.drop(b"b")
    other.put(b"b", b"", ())
