"""The stream of a log: where it begins, what it sends, what it tells, and that it lets go."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from procd.config.spec import LogFormat, LogSpec
from procd.control.log_stream import REST_CHUNKS, Beginning, LogStream
from procd.control.streams import Streams
from procd.errors import Failed
from procd.output.history import CUT, ROTATED, Extent
from procd.output.streams import StreamKey
from procd.wire import MAX_CHUNK_BYTES
from tests.kernel.children import in_loop, open_descriptors, until
from tests.unit.control.outlet import Outlet
from tests.unit.output.written import Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.output.logs import Watcher

WEB = StreamKey("web", "stdout")


class FakeLogs:
    """The face of the output room that a stream looks at, over files that the test writes."""

    def __init__(self, written: Written) -> None:
        self.written = written
        self.watchers: list[Watcher] = []

    def path(self, key: StreamKey) -> str:
        """Where the log is."""
        assert key == WEB
        return str(self.written.path)

    def starts(self, _: StreamKey) -> int:
        """Where the present file begins."""
        return (self.written.known() or Extent(0, 0)).start

    def reaches(self, _: StreamKey) -> int:
        """How far the log reaches."""
        return (self.written.known() or Extent(0, 0)).end

    def watch(self, _: StreamKey, watcher: Watcher) -> Callable[[], None]:
        """Remember."""
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher) if watcher in self.watchers else None

    def write(self, content: bytes) -> None:
        """Write to the log, and tell."""
        self.written.write(content)
        self.tell()

    def tell(self) -> None:
        """Say that it has grown."""
        for watcher in tuple(self.watchers):
            watcher.grown()

    def end(self, reason: str) -> None:
        """Say that it is over."""
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            watcher.over(reason)


class Followed:
    """A log that grows, and a stream of it."""

    def __init__(self, path: Path, *, keep: int = 3, form: LogFormat = LogFormat.RAW) -> None:
        self.written = Written(path, keep=keep)
        self.written.opened = True
        self.logs = FakeLogs(self.written)
        self.outlet = Outlet()
        self.streams = Streams(self.outlet)
        self.spec: LogSpec | None = LogSpec(str(path), keep=keep, format=form)

    def stream(self, *, follow: bool = True) -> LogStream:
        """Make a stream."""
        return LogStream(self.logs, WEB, lambda: self.spec, follow=follow)  # type: ignore[arg-type]

    async def begin(self, **where: Any) -> int:  # noqa: ANN401
        """Follow."""
        stream = self.stream()
        await stream.start_at(Beginning(**where), self.streams.pause)
        return self.streams.begin(stream)

    async def once(self, **where: Any) -> Outlet:  # noqa: ANN401
        """Send what there is."""
        outlet = Outlet()
        stream = self.stream(follow=False)
        await stream.start_at(Beginning(**where), outlet.room)
        await stream.run(1, outlet)
        return outlet

    async def until_sent(self, content: bytes) -> None:
        """Wait for what the stream has sent in all."""
        await until(lambda: self.outlet.content == content)

    async def close(self) -> None:
        """End it all, and look whether anything stayed open."""
        self.streams.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert self.logs.watchers == []


@pytest.mark.parametrize(
    ("content", "lines", "expected"),
    [
        pytest.param(b"a\nb\nc\n", 2, b"b\nc\n", id="the last of three"),
        pytest.param(b"a\nb\nc", 2, b"b\nc", id="without a newline at the end"),
        pytest.param(b"a\nb\nc\n", 3, b"a\nb\nc\n", id="as many as there are"),
        pytest.param(b"a\nb\nc\n", 9, b"a\nb\nc\n", id="more than there are"),
        pytest.param(b"a\nb\n", 0, b"", id="none"),
        pytest.param(b"", 5, b"", id="of an empty log"),
        pytest.param(b"\n\n\n", 2, b"\n\n", id="empty lines"),
        pytest.param(b"only", 1, b"only", id="a line that is not finished"),
        pytest.param(b"x" * 200_000 + b"\ny\n", 1, b"y\n", id="behind a long line"),
        pytest.param(b"a\n" + b"x" * 200_000 + b"\n", 1, b"x" * 200_000 + b"\n", id="a long line"),
        pytest.param(b"12345678\n" * 20_000, 19_999, b"12345678\n" * 19_999, id="across many pieces"),
        pytest.param(b"\xff\x00\r\n\xfe", 1, b"\xfe", id="bytes that are no text"),
    ],
)
@pytest.mark.parametrize("opened", [True, False])
def test_the_last_lines_are_found(
    tmp_path: Path, content: bytes, lines: int, expected: bytes, *, opened: bool
) -> None:
    """Whatever the lines look like, and whether the program ran in the life of this daemon or not."""
    followed = Followed(tmp_path / "log")
    followed.written.write(content)
    followed.written.opened = opened
    outlet = asyncio.run(followed.once(lines=lines))
    assert outlet.content == expected
    assert outlet.reason == "end of log"


def test_lines_go_back_into_older_files(tmp_path: Path) -> None:
    """Compressed ones, too."""
    followed = Followed(tmp_path / "log")
    for number in range(8):
        followed.written.write(b"%d\n" % number)
        if number % 2:
            followed.written.rotate()
    followed.written.compress(2)
    for lines in range(7):
        content = asyncio.run(followed.once(lines=lines)).content
        assert content == b"".join(b"%d\n" % number for number in range(8 - lines, 8))


def test_without_a_place_it_begins_with_the_oldest_byte_that_is_left(tmp_path: Path) -> None:
    """What was rotated away long ago is not missing for whoever asks for all that there is."""
    followed = Followed(tmp_path / "log", keep=1)
    for text in (b"0\n", b"1\n", b"2\n"):
        followed.written.write(text)
        followed.written.rotate()
    outlet = asyncio.run(followed.once())
    assert outlet.content == b"2\n"
    assert outlet.gaps == []
    outlet = asyncio.run(followed.once(offset=1))
    assert outlet.gaps == [(3, ROTATED)]


def test_a_time_is_where_it_begins(tmp_path: Path) -> None:
    """In the format that the log has now."""
    followed = Followed(tmp_path / "log", form=LogFormat.TIMESTAMP)
    followed.written.write(b"2025-11-23T01:40:00.000000Z a\n2025-11-23T01:40:01.000000Z b\n")
    assert asyncio.run(followed.once(since_s=1_763_862_000.5)).content == b"2025-11-23T01:40:01.000000Z b\n"
    assert asyncio.run(followed.once(since_s=0.0)).content == followed.written.everything


def test_an_offset_is_where_a_client_goes_on(tmp_path: Path) -> None:
    """Without a gap and without a repeat; each chunk says where it is from."""
    followed = Followed(tmp_path / "log")
    followed.written.write(b"0123")
    followed.written.rotate()
    followed.written.write(b"456789")
    outlet = asyncio.run(followed.once(offset=3))
    assert outlet.sent == [
        ("stream.data", {"data": b"3", "offset": 3}),
        ("stream.data", {"data": b"456789", "offset": 4}),
        ("stream.end", {"reason": "end of log"}),
    ]
    assert asyncio.run(followed.once(offset=10)).content == b""


def test_an_offset_beyond_the_end_is_of_another_log(tmp_path: Path) -> None:
    """The present file is all new, and the client learns that something is missing; 2**64 is none either."""
    followed = Followed(tmp_path / "log")
    followed.written.write(b"old")
    followed.written.rotate()
    followed.written.write(b"new")
    for offset in (100, 2**64 - 1):
        outlet = asyncio.run(followed.once(offset=offset))
        assert [size for size, _ in outlet.gaps] == [offset - 6]
        assert outlet.content == b"new"


def test_a_large_log_comes_in_chunks(tmp_path: Path) -> None:
    """None larger than a client has to take."""
    followed = Followed(tmp_path / "log")
    followed.written.write(b"x" * (MAX_CHUNK_BYTES + 1))
    outlet = asyncio.run(followed.once(offset=0))
    assert [len(body["data"]) for method, body in outlet.sent if method == "stream.data"] == [
        MAX_CHUNK_BYTES,
        1,
    ]


@in_loop
async def test_a_log_that_grows_while_it_is_shown_has_an_end(tmp_path: Path) -> None:
    """What was there when it was asked for; a flood is not run after."""
    followed = Followed(tmp_path / "log")
    followed.written.write(b"x" * 3 * MAX_CHUNK_BYTES)
    outlet = Outlet()

    async def room() -> None:
        followed.written.write(b"y" * MAX_CHUNK_BYTES)

    outlet.room = room  # type: ignore[method-assign]
    stream = followed.stream(follow=False)
    await stream.start_at(Beginning(), Outlet().room)
    await stream.run(1, outlet)
    assert outlet.content == b"x" * 3 * MAX_CHUNK_BYTES


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
@pytest.mark.parametrize("where", [{"lines": 3}, {"offset": 0}, {"since_s": 5.0}, {}])
def test_what_is_no_log_is_not_read(
    tmp_path: Path, make: Callable[[Path], None], where: dict[str, float]
) -> None:
    """A fifo would be emptied, a directory has no lines, a link leads elsewhere; nothing stays open."""
    followed = Followed(tmp_path / "log")
    followed.written.opened = False
    (tmp_path / "log").unlink()
    make(tmp_path / "log")
    before = open_descriptors()
    with pytest.raises(Failed, match="cannot be read"):
        asyncio.run(followed.once(**where))
    with pytest.raises(Failed, match="cannot be read"):
        asyncio.run(followed.begin(**where))
    assert open_descriptors() == before
    assert followed.logs.watchers == []


def test_a_log_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    """The program was never started."""
    followed = Followed(tmp_path / "log")
    (tmp_path / "log").unlink()
    followed.written.opened = False
    for where in ({"lines": 10}, {"offset": 0}, {"since_s": 0.0}, {}):
        outlet = asyncio.run(followed.once(**where))
        assert outlet.sent == [("stream.end", {"reason": "end of log"})]


@in_loop
async def test_a_follower_may_begin_before_there_is_a_log(tmp_path: Path) -> None:
    """It sees what comes then."""
    followed = Followed(tmp_path / "log")
    followed.written.opened = False
    (tmp_path / "log").unlink()
    await followed.begin(lines=10)
    await asyncio.sleep(0)
    (tmp_path / "log").touch()
    followed.written.opened = True
    followed.logs.write(b"one\n")
    await followed.until_sent(b"one\n")
    followed.logs.write(b"two\n")
    await followed.until_sent(b"one\ntwo\n")
    await followed.close()


@in_loop
async def test_a_follower_goes_on_across_rotations(tmp_path: Path) -> None:
    """One that is slow too, as long as its files are there; of the others it learns how much they held."""
    followed = Followed(tmp_path / "log", keep=2)
    await followed.begin()
    followed.logs.write(b"0")
    await followed.until_sent(b"0")
    followed.written.rotate()
    followed.logs.write(b"1")
    await followed.until_sent(b"01")
    followed.outlet.has_room.clear()
    for number in range(2, 7):
        followed.written.write(b"%d" % number)
        followed.written.rotate()
        followed.written.compress(2)
        followed.logs.tell()
        await asyncio.sleep(0)
    followed.logs.write(b"7")
    followed.outlet.has_room.set()
    # It had the file of "1" open, which has "2" too; "3" and "4" are gone, "5" is compressed, "6" is not.
    await until(lambda: followed.outlet.content == b"012567")
    assert followed.outlet.gaps == [(2, ROTATED)]
    await followed.close()


@in_loop
async def test_a_follower_goes_on_when_less_is_kept(tmp_path: Path) -> None:
    """The configuration may change while it reads."""
    followed = Followed(tmp_path / "log", keep=1)
    for text in (b"0", b"1"):
        followed.written.write(text)
        followed.written.rotate()
    followed.written.keep = 3
    followed.spec = LogSpec(str(tmp_path / "log"), keep=3)
    await followed.begin(offset=1)
    await followed.until_sent(b"1")
    followed.outlet.has_room.clear()
    followed.written.write(b"2")
    followed.written.rotate()
    followed.written.write(b"3")
    followed.written.rotate()
    followed.logs.write(b"4")
    followed.outlet.has_room.set()
    await followed.until_sent(b"1234")
    await followed.close()


@in_loop
async def test_a_follower_of_a_file_that_is_cut_goes_on_behind_a_gap(tmp_path: Path) -> None:
    """With what is there then, under its own offsets; a follower that had read all has missed nothing."""
    followed = Followed(tmp_path / "log")
    followed.written.write(b"long ago\n")
    await followed.begin(offset=4)
    await followed.until_sent(b" ago\n")
    followed.written.cut(0)
    followed.logs.write(b"now\n")
    await followed.until_sent(b" ago\nnow\n")
    followed.outlet.has_room.clear()
    followed.logs.write(b"lost\n")
    followed.written.cut(0)
    followed.logs.write(b"more\n")
    followed.outlet.has_room.set()
    await until(lambda: followed.outlet.content == b" ago\nnow\nmore\n")
    assert followed.outlet.gaps == [(5, CUT)]
    await followed.close()


@in_loop
async def test_a_slow_reader_is_not_read_for(tmp_path: Path) -> None:
    """Nothing is held for it; when it has room again it has missed nothing."""
    followed = Followed(tmp_path / "log")
    await followed.begin()
    followed.outlet.has_room.clear()
    for _ in range(20):
        followed.logs.write(b"0123456789" * 1000)
        await asyncio.sleep(0)
    assert followed.outlet.sent == []
    followed.outlet.has_room.set()
    await followed.until_sent(b"0123456789" * 20_000)
    await followed.close()


@in_loop
async def test_a_follower_of_a_removed_program_gets_the_last_words_and_the_reason(tmp_path: Path) -> None:
    """It does not wait for what will never come."""
    followed = Followed(tmp_path / "log")
    await followed.begin()
    followed.written.write(b"last")
    followed.written.opened = False
    followed.spec = None
    followed.logs.end("the program was removed")
    await until(lambda: followed.outlet.reason)
    assert followed.outlet.content == b"last"
    assert followed.outlet.reason == "the program was removed"
    assert followed.outlet.ended == 1
    assert not followed.streams.any()
    await followed.close()


def move(followed: Followed, path: Path, before: bytes = b"") -> None:
    """Give the log another path, as a reload does; where something may be already."""
    followed.written = followed.logs.written = Written(path)
    followed.written.opened = True
    followed.spec = LogSpec(str(path))
    if before:
        followed.written.write(before)
        os.setxattr(path, "user.procd.since", b"1763862000")


@in_loop
async def test_a_follower_goes_on_in_a_log_that_moves(tmp_path: Path) -> None:
    """It gets all of the old one, and all of the new one, which counts its own bytes."""
    followed = Followed(tmp_path / "log")
    await followed.begin()
    followed.written.write(b"one\n")
    move(followed, tmp_path / "other")
    followed.written.write(b"two\n")
    # Before it is told: what the logger knows now is about the other file.
    followed.logs.tell()
    await followed.until_sent(b"one\n")
    followed.logs.end("the log goes on in /other")
    await until(lambda: len(followed.outlet.sent) == 3)
    followed.logs.write(b"three\n")
    await until(lambda: len(followed.outlet.sent) == 4)
    assert followed.outlet.sent == [
        ("stream.data", {"data": b"one\n", "offset": 0}),
        ("stream.gap", {"bytes": 0, "reason": "the log goes on in /other", "next": 0}),
        ("stream.data", {"data": b"two\n", "offset": 0}),
        ("stream.data", {"data": b"three\n", "offset": 4}),
    ]
    await followed.close()


@in_loop
async def test_a_follower_of_a_log_that_moves_into_another_is_told_where(tmp_path: Path) -> None:
    """What stood there before is not what it asked for, so the stream ends."""
    followed = Followed(tmp_path / "log")
    await followed.begin()
    followed.written.write(b"one\n")
    move(followed, tmp_path / "other", b"from long ago")
    followed.logs.end("the log goes on in /other")
    await until(lambda: followed.outlet.reason == "the log goes on in /other")
    assert followed.outlet.content == b"one\n"
    await followed.close()


@in_loop
async def test_a_stream_keeps_one_file_open_and_none_when_it_is_closed(tmp_path: Path) -> None:
    """Whichever files it came through."""
    before = open_descriptors()
    followed = Followed(tmp_path / "log")
    for number in range(3):
        followed.written.write(b"%d\n" % number)
        followed.written.rotate()
    followed.written.compress(3)
    await followed.begin()
    followed.logs.write(b"3\n")
    await followed.until_sent(b"0\n1\n2\n3\n")
    assert len(open_descriptors() - before) == 1
    await followed.close()
    assert open_descriptors() == before


@in_loop
async def test_what_cannot_be_read_any_more_ends_the_stream(tmp_path: Path) -> None:
    """In the words of the system."""
    followed = Followed(tmp_path / "log")
    followed.written.opened = False
    await followed.begin()
    (tmp_path / "log").unlink()
    (tmp_path / "log").mkdir()
    followed.logs.tell()
    await until(lambda: followed.outlet.reason == "the log cannot be read: it is not a regular file")
    await followed.close()


@in_loop
async def test_the_rest_is_sent_to_a_bound(tmp_path: Path) -> None:
    """At the end of procd nobody is asked whether there is room."""
    followed = Followed(tmp_path / "log")
    await followed.begin()
    followed.outlet.has_room.clear()
    followed.logs.write(b"x" * (REST_CHUNKS + 1) * MAX_CHUNK_BYTES)
    followed.streams.send_rest()
    assert len(followed.outlet.content) == REST_CHUNKS * MAX_CHUNK_BYTES
    followed.streams.send_rest()
    assert len(followed.outlet.content) == (REST_CHUNKS + 1) * MAX_CHUNK_BYTES
    await followed.close()
