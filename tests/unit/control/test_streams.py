"""Streams: where they begin, what they send, and that each has an end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from procd.control.streams import MAX_STREAMS, LogStream, Streams
from procd.errors import Failed, TooLarge
from procd.output import Logs
from procd.wire import MAX_CHUNK_BYTES
from tests.kernel.children import in_loop, open_descriptors, until
from tests.unit.output.pipes import WEB, Pen

if TYPE_CHECKING:
    from pathlib import Path


class Outlet:
    """A connection that remembers what it was sent, and has room when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.ended = 0
        self.has_room = asyncio.Event()
        self.has_room.set()

    def notify(self, method: str, params: list[Any]) -> None:
        """Remember."""
        self.sent.append((method, params[-1]))

    async def room(self) -> None:
        """Wait for the test."""
        await asyncio.sleep(0)
        await self.has_room.wait()

    def stream_ended(self) -> None:
        """Count."""
        self.ended += 1

    @property
    def content(self) -> bytes:
        """All data, which has to be of one piece since the last gap."""
        result, expected = b"", None
        for method, body in self.sent:
            if method == "stream.data":
                assert expected in {None, body["offset"]}
                expected = body["offset"] + len(body["data"])
                result += body["data"]
            else:
                expected = None
        return result

    @property
    def reason(self) -> str | None:
        """Why the stream ended, if it did."""
        method, body = self.sent[-1] if self.sent else ("", {})
        return body["reason"] if method == "stream.end" else None


async def sent_of(path: Path, *, lines: int | None = None, offset: int | None = None) -> Outlet:
    """What a stream that is not followed sends."""
    outlet = Outlet()
    stream = LogStream(Logs(asyncio.get_running_loop()), WEB, str(path), follow=False)
    await stream.start_at(lines=lines, offset=offset)
    await stream.run(1, outlet)
    return outlet


class Followed:
    """A log that grows, and a stream that follows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = Logs(asyncio.get_running_loop())
        self.outlet = Outlet()
        self.streams = Streams(self.outlet)

    async def begin(self, *, lines: int | None = None, offset: int | None = None) -> int:
        """Follow."""
        stream = LogStream(self.logs, WEB, str(self.path), follow=True)
        await stream.start_at(lines=lines, offset=offset)
        return self.streams.begin(stream)

    def pen(self) -> Pen:
        """Begin a life of the program."""
        self.logs.open(WEB, str(self.path))
        return Pen(self.logs)

    async def until_sent(self, content: bytes) -> None:
        """Wait for what the stream has sent in all."""
        await until(lambda: self.outlet.content == content)

    async def close(self) -> None:
        """End it all."""
        self.streams.close()
        self.logs.close()
        await asyncio.sleep(0)


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
def test_the_last_lines_are_found(tmp_path: Path, content: bytes, lines: int, expected: bytes) -> None:
    """Whatever the lines look like, and wherever the pieces that are looked through end."""
    path = tmp_path / "log"
    path.write_bytes(content)
    outlet = asyncio.run(sent_of(path, lines=lines))
    assert outlet.content == expected
    assert outlet.reason == "end of log"


def test_an_offset_is_where_a_client_goes_on(tmp_path: Path) -> None:
    """Without a gap and without a repeat; each chunk says where it is from."""
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    outlet = asyncio.run(sent_of(path, offset=4))
    assert outlet.sent == [
        ("stream.data", {"data": b"456789", "offset": 4}),
        ("stream.end", {"reason": "end of log"}),
    ]
    assert asyncio.run(sent_of(path, offset=10)).content == b""
    assert asyncio.run(sent_of(path)).content == b"0123456789"


def test_a_log_that_was_cut_while_the_client_was_away_is_a_gap(tmp_path: Path) -> None:
    """What is there is all new, and the client learns that something is missing; 2**64 is no offset either."""
    path = tmp_path / "log"
    path.write_bytes(b"new")
    for offset in (100, 2**64 - 1):
        outlet = asyncio.run(sent_of(path, offset=offset))
        assert outlet.sent[0] == ("stream.gap", {"bytes": offset - 3, "reason": "the log file was cut"})
        assert outlet.content == b"new"


def test_a_large_log_comes_in_chunks(tmp_path: Path) -> None:
    """None larger than a client has to take."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * (MAX_CHUNK_BYTES + 1))
    outlet = asyncio.run(sent_of(path))
    assert [len(body["data"]) for method, body in outlet.sent if method == "stream.data"] == [
        MAX_CHUNK_BYTES,
        1,
    ]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
@pytest.mark.parametrize("where", [{"lines": 3}, {"offset": 0}])
def test_what_is_no_log_is_not_read(tmp_path: Path, make: Any, where: dict[str, int]) -> None:  # noqa: ANN401
    """A fifo would be emptied, a directory has no lines, a link leads elsewhere; nothing stays open."""
    path = tmp_path / "log"
    make(path)
    before = open_descriptors()
    with pytest.raises(Failed, match="cannot be read"):
        asyncio.run(sent_of(path, **where))
    assert open_descriptors() == before


def test_a_log_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    """The program was never started."""
    outlet = asyncio.run(sent_of(tmp_path / "log", lines=10))
    assert outlet.sent == [("stream.end", {"reason": "end of log"})]


@in_loop
async def test_a_follower_sees_what_comes_also_of_the_first_life(tmp_path: Path) -> None:
    """It may begin before there is a file, and lives longer than the program."""
    followed = Followed(tmp_path / "log")
    await followed.begin(lines=10)
    first = followed.pen()
    first.write(b"one\n")
    await followed.until_sent(b"one\n")
    first.close()
    second = followed.pen()
    second.write(b"two\n")
    await followed.until_sent(b"one\ntwo\n")
    second.close()
    await followed.close()


@in_loop
async def test_a_follower_of_a_file_that_is_cut_goes_on_behind_a_gap(tmp_path: Path) -> None:
    """From the beginning of what is there then."""
    followed = Followed(tmp_path / "log")
    pen = followed.pen()
    pen.write(b"long ago\n")
    await followed.begin()
    await followed.until_sent(b"long ago\n")
    os.truncate(followed.path, 0)
    pen.write(b"now\n")
    await followed.until_sent(b"long ago\nnow\n")
    assert followed.outlet.sent[1] == ("stream.gap", {"bytes": 5, "reason": "the log file was cut"})
    assert followed.outlet.sent[2] == ("stream.data", {"data": b"now\n", "offset": 0})
    pen.close()
    await followed.close()


@in_loop
async def test_a_slow_reader_is_not_read_for(tmp_path: Path) -> None:
    """Nothing is held for it; when it has room again it has missed nothing."""
    followed = Followed(tmp_path / "log")
    pen = followed.pen()
    await followed.begin()
    followed.outlet.has_room.clear()
    left = memoryview(b"0123456789" * 20_000)
    while left:
        with contextlib.suppress(BlockingIOError):
            left = left[pen.write(left) :]
        await asyncio.sleep(0)
    await until(lambda: followed.logs.reaches(WEB) == 200_000)
    assert followed.outlet.sent == []
    followed.outlet.has_room.set()
    await until(lambda: followed.outlet.content == followed.path.read_bytes())
    pen.close()
    await followed.close()


@in_loop
async def test_a_follower_of_a_removed_program_gets_the_last_words_and_the_reason(tmp_path: Path) -> None:
    """It does not wait for what will never come."""
    followed = Followed(tmp_path / "log")
    pen = followed.pen()
    await followed.begin()
    pen.write(b"last")
    followed.logs.forget("web")
    await until(lambda: followed.outlet.reason)
    assert followed.outlet.content == b"last"
    assert followed.outlet.reason == "the program was removed"
    assert followed.outlet.ended == 1
    assert not followed.streams.any()
    pen.close()
    await followed.close()


@in_loop
async def test_a_follower_of_a_log_that_moves_is_told_where_to(tmp_path: Path) -> None:
    """Its offsets mean nothing in another file, so the stream ends."""
    followed = Followed(tmp_path / "log")
    pen = followed.pen()
    await followed.begin()
    followed.logs.open(WEB, str(tmp_path / "other"))
    await until(lambda: followed.outlet.reason == f"the log goes on in {tmp_path / 'other'}")
    pen.close()
    await followed.close()


@in_loop
async def test_a_cancelled_stream_says_nothing_more_and_lets_go(tmp_path: Path) -> None:
    """Also one that had not begun; a second time there is nothing to cancel."""
    before = open_descriptors()
    followed = Followed(tmp_path / "log")
    pen = followed.pen()
    pen.write(b"x")
    await until(lambda: followed.logs.reaches(WEB) == 1)
    running, unborn = await followed.begin(), await followed.begin()
    assert running != unborn
    assert followed.streams.cancel(unborn)
    await followed.until_sent(b"x")
    assert followed.streams.cancel(running)
    assert not followed.streams.cancel(running)
    assert not followed.streams.any()
    said = len(followed.outlet.sent)
    pen.write(b"y")
    await until(lambda: followed.logs.reaches(WEB) == 2)
    await asyncio.sleep(0)
    assert len(followed.outlet.sent) == said
    pen.close()
    await followed.close()
    await until(lambda: open_descriptors() == before)


@in_loop
async def test_one_stream_too_many_is_refused_and_closed(tmp_path: Path) -> None:
    """And one that ends makes room."""
    path = tmp_path / "log"
    path.write_bytes(b"x")
    followed = Followed(path)
    numbers = [await followed.begin() for _ in range(MAX_STREAMS)]
    before = open_descriptors()
    with pytest.raises(TooLarge, match=f"{MAX_STREAMS} streams"):
        await followed.begin()
    assert open_descriptors() == before
    followed.streams.cancel(numbers[0])
    assert await followed.begin() == MAX_STREAMS + 1
    await followed.close()


@in_loop
async def test_a_stream_that_fails_says_so(tmp_path: Path) -> None:
    """What was a log when it began and is none any more; a mistake of ours; neither escapes into the loop."""
    followed = Followed(tmp_path / "log")
    await followed.begin()
    await asyncio.sleep(0)
    (tmp_path / "log").mkdir()
    with capture_logs() as logged:
        for watcher in tuple(followed.logs._watchers[WEB]):
            watcher.grown()
        await until(lambda: followed.outlet.reason)
    assert followed.outlet.reason == "the log cannot be read: it is not a regular file"
    assert [line["event"] for line in logged] == ["log cannot be read"]

    class Broken:
        async def run(self, number: int, outlet: object) -> None:
            raise RuntimeError(f"{number} {outlet}")

        def close(self) -> None:
            """Hold nothing."""

    with capture_logs() as logged:
        followed.streams.begin(Broken())
        await until(lambda: logged)
    await until(lambda: followed.outlet.reason == "procd made a mistake; its log has it")
    await followed.close()
