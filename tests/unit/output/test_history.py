"""Reading a log across its files: every byte under its own offset, or counted as missing."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procd.output import history as module
from procd.output.history import CUT, DAMAGED, ROTATED, Extent, Gap, History, Reader
from procd.output.logger.file import START, read_attribute
from procd.output.part import CompressedPart, Part
from procd.output.search import start_of_last_lines
from tests.kernel.children import open_descriptors
from tests.unit.output.written import Written, read_all, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def log(tmp_path: Path) -> Written:
    """A log with four files: 0 to 4 in .3.gz, 4 to 8 in .2, 8 to 12 in .1, 12 to 14 in the present one."""
    log = Written(tmp_path / "web.log")
    for text in (b"012\n", b"456\n", b"89a\n"):
        log.write(text)
        log.rotate()
    log.compress(3)
    log.write(b"cd")
    return log


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@contextlib.contextmanager
def reading(log: Written, offset: int) -> Iterator[Reader]:
    """A reader of a log."""
    reader = Reader(log.history, offset)
    try:
        yield reader
    finally:
        reader.close()


def came_from(log: Written, offset: int, limit: int | None = None) -> list[tuple[int, bytes | Gap]]:
    """What a reader gives from an offset on."""
    with reading(log, offset) as reader:
        return read_all(reader, limit)


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("attributes", [True, False])
def test_any_range_reads_as_it_was_written(tmp_path: Path, *, opened: bool, attributes: bool) -> None:
    """Across every border, whether the logger knows the log or only its files do, with attributes or not."""
    log = Written(tmp_path / "log", attributes=attributes)
    for text in (b"012\n", b"456\n", b"89a\n"):
        log.write(text)
        log.rotate()
    log.compress(3)
    log.write(b"cd")
    log.opened = opened
    for first, end in itertools.combinations(range(15), 2):
        assert text_of(came_from(log, first, end)) == log.everything[first:end]
    assert came_from(log, 14) == []
    assert log.history.extent() == Extent(12, 14)
    assert log.history.first() == 0


def test_what_was_rotated_away_is_a_gap_of_just_its_size(log: Written) -> None:
    """The offsets of what is left stay what they were."""
    log.rotate()
    log.write(b"ef")
    assert came_from(log, 1)[0] == (1, Gap(3, ROTATED))
    assert log.history.first() == 4
    assert text_of(came_from(log, 4)) == b"456\n89a\ncdef"


def test_a_file_that_was_deleted_by_hand_is_a_gap_between_the_others(log: Written) -> None:
    """Not the end of the log, and not a shift."""
    log.delete(2)
    assert came_from(log, 2) == [(2, b"2\n"), (4, Gap(4, CUT)), (8, b"89a\n"), (12, b"cd")]


def test_a_limit_ends_a_gap_too(log: Written) -> None:
    """Who asked for a range is not told of what is behind it."""
    log.delete(2)
    assert came_from(log, 3, 6) == [(3, b"\n"), (4, Gap(2, CUT))]


def test_a_file_that_was_cut_begins_anew(log: Written) -> None:
    """Its offsets go on; what stood in it is missing."""
    log.cut(0)
    log.write(b"new\n")
    assert came_from(log, 8) == [(8, b"89a\n"), (12, Gap(2, CUT)), (14, b"new\n")]


def test_a_cut_that_the_logger_has_not_noticed_is_a_gap(log: Written) -> None:
    """It says that there were bytes which nobody has any more."""
    log.opened = True
    os.truncate(log.path, 1)
    assert came_from(log, 12) == [(12, b"c"), (13, Gap(1, CUT))]
    log.path.unlink()
    assert came_from(log, 11) == [(11, b"\n"), (12, Gap(2, CUT))]


def test_a_reader_of_a_file_that_is_cut_does_not_take_new_bytes_for_old_ones(log: Written) -> None:
    """The file that it has open has other bytes at the same place now."""
    log.opened = True
    log.write(b"0123456789")
    with reading(log, 12) as reader:
        assert reader.step(4) == b"cd01"
        log.cut(0)
        log.write(b"a" * 20)
        assert read_all(reader) == [(16, Gap(8, CUT)), (24, b"a" * 20)]


def test_without_attributes_a_cut_is_known_from_the_logger(tmp_path: Path) -> None:
    """It is the same file, and begins elsewhere; after a rotation it is another file."""
    log = Written(tmp_path / "log", attributes=False)
    log.opened = True
    log.write(b"0123456789")
    with reading(log, 0) as reader:
        assert reader.step(4) == b"0123"
        log.cut(0)
        log.write(b"abcdef")
        assert reader.step(6) is None
        assert reader.step(6) == Gap(6, CUT)
        assert reader.step(2) == b"ab"
        log.rotate()
        log.write(b"ghi")
        assert read_all(reader) == [(12, b"cdef"), (16, b"ghi")]


def test_a_rotation_during_the_look_is_looked_at_again(tmp_path: Path) -> None:
    """Without attributes only the logger knows where a file begins; it may speak of the next one already."""
    log = Written(tmp_path / "log", attributes=False)
    log.opened = True
    log.write(b"0123")
    rotations = iter([True, False])

    def known() -> Extent | None:
        before = log.known()
        if next(rotations, False):
            log.rotate()
            log.write(b"4567")
        return before

    reader = Reader(History(str(log.path), 3, known), 4)
    assert log.known() == Extent(0, 4)
    known()
    rotations = iter([False, True])
    assert read_all(reader, 8) == [(4, b"4567")]
    reader.close()


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("attributes", [True, False])
def test_in_the_middle_of_a_rotation_nothing_is_missing(
    tmp_path: Path, *, made: bool, attributes: bool
) -> None:
    """The present file was moved, the next one is not there yet, or has nothing that says where it begins."""
    log = Written(tmp_path / "log", attributes=attributes)
    for text in (b"0123", b"45", b"6789"):
        log.write(text)
        if text != b"6789":
            log.rotate()
    log.opened = True
    before = log.known()
    grown = b"a" if attributes else b""
    log.write(grown)
    log.rotate()
    log.path.unlink()
    if made:
        log.path.touch()
    history = History(str(log.path), 3, lambda: before)
    for offset in range(10):
        reader = Reader(history, offset)
        assert text_of(read_all(reader)) == b"0123456789"[offset:]
        reader.close()
    assert history.first() == 0


def test_a_reader_finishes_a_file_that_was_deleted(tmp_path: Path) -> None:
    """What it has open it reads to the end; what it had not come to is missing."""
    log = Written(tmp_path / "log", keep=0)
    log.opened = True
    log.write(b"0123")
    with reading(log, 0) as reader:
        assert reader.step(1) == b"0"
        log.write(b"45")
        log.rotate()
        log.write(b"67")
        log.rotate()
        log.write(b"89")
        assert read_all(reader) == [(1, b"12345"), (6, Gap(2, ROTATED)), (8, b"89")]


def test_what_the_logger_may_take_back_is_not_read(log: Written) -> None:
    """A turn that was killed in its middle has bytes in the file that do not count yet."""
    log.opened = True
    with log.path.open("ab") as file:
        file.write(b"half a tu")
    assert text_of(came_from(log, 12)) == b"cd"


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "text"])
def test_a_damaged_compressed_file_is_a_gap(log: Written, damage: str) -> None:
    """What can be read of it is, and the rest is counted; it does not end the reading."""
    place = log.path.with_name("web.log.3.gz")
    whole = gzip.compress(bytes(range(256)) * 40)
    damaged = {
        "cut": whole[: len(whole) // 2],
        "garbage": whole[:40] + b"\xff" * 20 + whole[60:],
        "empty": b"",
        "text": b"no gzip at all, and long enough",
    }[damage]
    place.write_bytes(damaged)
    os.setxattr(place, START, b"0")
    came = came_from(log, 0)
    assert came[-1] == (12, b"cd")
    missing = sum(step.size for _, step in came if isinstance(step, Gap))
    assert missing + sum(len(step) for _, step in came if isinstance(step, bytes)) == 14
    assert {step.reason for _, step in came if isinstance(step, Gap)} <= {CUT, DAMAGED, ROTATED}
    assert missing


@pytest.mark.parametrize("claim", [b"-5", b"99999999999999999999999", b"13", b"x", b"", b"8 ", b"\xd9\xa3"])
def test_a_claim_that_cannot_be_is_not_believed(log: Written, claim: bytes) -> None:
    """Whoever may write the directory may write attributes, too: offsets are computed then."""
    os.setxattr(log.path.with_name("web.log.1"), START, claim)
    assert text_of(came_from(log, 0)) == log.everything


@pytest.mark.parametrize("claim", [b"1" * 19, b"9" * 4001, b"-1", b"1 ", b""])
def test_an_attribute_that_is_no_offset_is_none(tmp_path: Path, claim: bytes) -> None:
    """The logger reads it too, and must not die of what somebody wrote."""
    path = tmp_path / "log"
    path.touch()
    os.setxattr(path, START, claim)
    assert read_attribute(str(path), START) is None
    os.setxattr(path, START, b"1" * 18)
    assert read_attribute(str(path), START) == int("1" * 18)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_none_of_the_log_is_passed_by(log: Written, make: Callable[[Path], None]) -> None:
    """A directory, a fifo or a link in the place of an older file is not read, and is missing."""
    log.delete(1)
    make(log.path.with_name("web.log.1"))
    assert (8, Gap(4, CUT)) in came_from(log, 0)


def test_an_older_file_that_may_not_be_read_is_an_error(log: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there: to call it missing would be a lie."""
    real = module.open_part

    def refuse(path: str) -> Part | None:
        if path.endswith(".1"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(module, "open_part", refuse)
    with reading(log, 0) as reader, pytest.raises(PermissionError):
        reader.step(10)


def test_a_compressed_file_that_is_left_beside_its_original_is_not_read_twice(log: Written) -> None:
    """A compression that was killed just before its end."""
    place = log.path.with_name("web.log.2")
    place.with_name("web.log.2.gz").write_bytes(gzip.compress(place.read_bytes()))
    assert text_of(came_from(log, 0)) == log.everything


def test_numbers_without_files_end_the_search(tmp_path: Path) -> None:
    """Ten thousand may be kept; a hole of some is looked over."""
    log = Written(tmp_path / "log", keep=10_000)
    log.write(b"0")
    log.path.rename(tmp_path / "log.20")
    log.path.touch()
    os.setxattr(log.path, START, b"1")
    assert came_from(log, 0) == [(0, b"0")]


def test_of_more_than_4_gib_gzip_knows_the_remainder(tmp_path: Path) -> None:
    """The next file says how many times 4 GiB there are."""
    place = tmp_path / "log.1.gz"
    place.write_bytes(gzip.compress(b"x" * 100))
    os.setxattr(place, START, b"7")
    part = module.open_part(str(place))
    assert isinstance(part, CompressedPart)
    part.fit(7 + 100)
    assert part.size == 100
    part.fit(7 + 100 + 3 * 2**32)
    assert part.size == 100 + 3 * 2**32
    part.fit(7 + 100 + 4 * 2**32 - 1)
    assert part.size == 100 + 3 * 2**32
    part.close()


def test_steps_in_a_compressed_file_are_bounded(tmp_path: Path) -> None:
    """To skip through 10 MB takes many steps, none of which gives what nobody asked for."""
    log = Written(tmp_path / "log")
    log.write(bytes(10 << 20) + b"here")
    log.rotate()
    log.compress(1)
    with reading(log, 10 << 20) as reader:
        steps = [reader.step(65536) for _ in range(159)]
        assert set(steps) == {None}
        assert read_all(reader) == [(10 << 20, b"here")]


# Anything at all


def texts() -> st.SearchStrategy[bytes]:
    """Lines, pieces of lines, and bytes that are no text."""
    return st.one_of(
        st.binary(max_size=40), st.lists(st.sampled_from([b"a", b"\n", b"bc\n"]), max_size=20).map(b"".join)
    )


def deeds() -> st.SearchStrategy[tuple[str, object]]:
    """What happens to a log."""
    return st.one_of(
        st.tuples(st.just("write"), texts()),
        st.tuples(st.just("rotate"), st.none()),
        st.tuples(st.just("compress"), st.integers(1, 4)),
        st.tuples(st.just("delete"), st.integers(1, 4)),
        st.tuples(st.just("cut"), st.integers(0, 30)),
        st.tuples(st.just("read"), st.integers(1, 6)),
    )


def carry_out(log: Written, deed: str, argument: object) -> None:
    """Do one of them."""
    method = getattr(log, deed)
    method() if argument is None else method(argument)


def present_ranges(log: Written) -> list[tuple[int, int]]:
    """What is in the files, found without the code under test."""
    ranges = []
    for file in [log.path, *(log.older(number) for number in range(1, log.keep + 1))]:
        if file is not None:
            content = file.read_bytes()
            start = int(os.getxattr(file, START))
            ranges.append((start, start + len(gzip.decompress(content) if file.suffix == ".gz" else content)))
    return ranges


def model(log: Written, first: int, end: int) -> list[int | None]:
    """Each byte of a range, None where it is in no file."""
    ranges = present_ranges(log)
    return [
        log.everything[at] if any(low <= at < high for low, high in ranges) else None
        for at in range(first, end)
    ]


def unrolled(came: list[tuple[int, bytes | Gap]], first: int) -> list[int | None]:
    """Each byte that came, None for those in gaps; the offsets have to follow each other."""
    result: list[int | None] = []
    for offset, step in came:
        assert offset == first + len(result)
        result += step if isinstance(step, bytes) else [None] * step.size
    return result


@settings(deadline=None, max_examples=300)
@given(data=st.data(), happened=st.lists(deeds(), max_size=25), opened=st.booleans())
def test_any_range_of_any_log_is_as_the_model_says(
    data: st.DataObject, happened: list[tuple[str, object]], *, opened: bool
) -> None:
    """Random rotations, compressions, deletions and cuts: every byte, or just the missing ones as gaps."""
    with tempfile.TemporaryDirectory() as place:
        log = Written(Path(place, "log"))
        for deed, argument in happened:
            if deed != "read":
                carry_out(log, deed, argument)
        log.opened = opened
        end = len(log.everything)
        first = data.draw(st.integers(0, end))
        limit = data.draw(st.integers(first, end))
        with reading(log, first) as reader:
            came = read_all(reader, limit, data.draw(st.sampled_from([1, 7, 65536])))
        assert unrolled(came, first) == model(log, first, limit)


@settings(deadline=None, max_examples=300)
@given(happened=st.lists(deeds(), max_size=40))
def test_a_follower_of_anything_gets_every_byte_or_its_count(happened: list[tuple[str, object]]) -> None:
    """While all of that happens around it: what it gets is right, what it does not get was gone."""
    with tempfile.TemporaryDirectory() as place:
        log = Written(Path(place, "log"))
        log.opened = True
        came: list[tuple[int, bytes | Gap]] = []
        with reading(log, 0) as reader:
            for deed, argument in happened:
                if deed != "read":
                    carry_out(log, deed, argument)
                    continue
                assert isinstance(argument, int)
                for _ in range(argument):
                    offset = reader.offset
                    step = reader.step(5)
                    if isinstance(step, Gap):
                        assert set(model(log, offset, offset + step.size)) == {None}
                    if step:
                        came.append((offset, step))
            came += read_all(reader)
        got = unrolled(came, 0)
        assert len(got) == len(log.everything)
        assert all(byte is None or byte == log.everything[at] for at, byte in enumerate(got))


@settings(deadline=None, max_examples=300)
@given(
    happened=st.lists(deeds().filter(lambda deed: deed[0] in {"write", "rotate", "compress"}), max_size=25),
    lines=st.integers(0, 12),
)
def test_the_last_lines_of_any_log_are_found(happened: list[tuple[str, object]], lines: int) -> None:
    """Across its files, compressed ones too."""
    with tempfile.TemporaryDirectory() as place:
        log = Written(Path(place, "log"), keep=30)
        for deed, argument in happened:
            carry_out(log, deed, argument)
        end = len(log.everything)
        offset = asyncio.run(start_of_last_lines(log.history, end, lines, lambda: asyncio.sleep(0)))
        all_lines = bytes(log.everything).split(b"\n")
        whole = [line + b"\n" for line in all_lines[:-1]] + ([all_lines[-1]] if all_lines[-1] else [])
        assert log.everything[offset:] == b"".join(whole[len(whole) - min(lines, len(whole)) :])
