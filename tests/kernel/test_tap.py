"""What a terminal shows, moved into a pipe: all of it, in order, with and without splice(2)."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Self

import pytest

from procd.process import Tap, tap
from tests.kernel.children import in_loop, until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fixture:
    """A terminal whose two ends are open, a pipe, and a tap between them."""

    def __init__(self) -> None:
        ours, self.theirs = os.openpty()
        self.reads, writes = os.pipe()
        os.set_blocking(self.theirs, False)
        os.set_blocking(self.reads, False)
        self.ends = 0
        self.tap = Tap(asyncio.get_running_loop(), ours, writes, self._end)

    def _end(self) -> None:
        self.ends += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tap.close()
        for fd in {self.theirs, self.reads} - {-1}:
            os.close(fd)

    def shows(self, data: bytes) -> int:
        """Write as the program does; how much the terminal took."""
        try:
            return os.write(self.theirs, data)
        except BlockingIOError:
            return 0

    def hangs_up(self) -> None:
        """Close it as the program does."""
        os.close(self.theirs)
        self.theirs = -1

    def take(self) -> bytes:
        """Read what is in the pipe now."""
        try:
            return os.read(self.reads, 1 << 20)
        except BlockingIOError:
            return b""


@pytest.fixture(params=["splice", "read and write"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways: kernels before 5.11 refuse to splice from a terminal."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EINVAL, "no splice from here")

    if request.param != "splice":
        monkeypatch.setattr(os, "splice", refuse)
    return request.param


@pytest.mark.usefixtures("way")
def test_everything_arrives_in_order_and_then_the_end() -> None:
    """A megabyte, with a reader that is slower, and the last words before the hangup."""

    @in_loop
    async def test() -> None:
        content = b"".join(b"%07d\n" % number for number in range(131_072))
        with Fixture() as each:
            sent, got = 0, b""

            def go_on() -> bool:
                nonlocal sent, got
                sent += each.shows(content[sent : sent + 3000])
                got += each.take()
                return sent == len(content)

            await until(go_on)
            each.shows(b"last words")
            each.hangs_up()
            await until(lambda: each.ends)
            got += each.take()
            assert got.replace(b"\r\n", b"\n") == content + b"last words"
            assert each.take() == b""
            assert each.tap.closed
            each.tap.drain()
            assert each.ends == 1

    test()


@pytest.mark.usefixtures("way")
def test_a_full_pipe_holds_the_program_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal fills up; there is no turn in vain meanwhile; then all goes on."""

    @in_loop
    async def test() -> None:
        turns = _counted(monkeypatch)
        with Fixture() as each:
            sent = 0

            async def fill() -> None:
                nonlocal sent
                while taken := each.shows(b"x" * 1000):
                    sent += taken
                    await asyncio.sleep(0.002)

            await fill()
            before = len(turns)
            await asyncio.sleep(0.1)
            await fill()
            assert len(turns) - before <= 2
            got = b""

            def take() -> bool:
                nonlocal got
                got += each.take()
                return len(got) == sent

            await until(take)
            assert set(got) == {ord("x")}

    test()


@in_loop
async def test_drain_moves_what_is_there_at_once() -> None:
    """Without a turn of the loop: what a dead program wrote stands before what comes next."""
    with Fixture() as each:
        each.shows(b"x" * 3000)
        each.tap.drain()
        assert each.take() == b"x" * 3000
        each.shows(b"y")
        each.hangs_up()
        each.tap.drain()
        assert each.ends == 1
        assert each.take() == b"y"


@in_loop
async def test_a_pipe_that_nobody_reads_is_the_end_at_once() -> None:
    """The terminal is hung up although the program writes nothing."""
    with Fixture() as each:
        os.close(each.reads)
        await until(lambda: each.ends)
        assert each.tap.closed
        each.reads = -1
        with pytest.raises(OSError, match="Input/output error"):
            os.write(each.theirs, b"x")


@pytest.mark.parametrize(("size", "times"), [(10_000, 500), (10, 50_000)])
def test_a_flood_arrives_whole_at_few_turns(monkeypatch: pytest.MonkeyPatch, size: int, times: int) -> None:
    """A write for each line does not cost a turn each; and when all is quiet, a word is moved at once."""

    @in_loop
    async def test() -> None:
        turns = _counted(monkeypatch)
        with Fixture() as each:
            writer = asyncio.get_running_loop().run_in_executor(None, _flood, each.theirs, size, times)
            total = 0

            def take() -> bool:
                nonlocal total
                total += len(each.take())
                return total == size * times

            await until(take)
            await writer
            assert len(turns) < times / 10 + size * times / 1000
            await until(lambda: each.tap._pause is None)
            os.write(each.theirs, b"quiet")
            await until(lambda: each.take() == b"quiet")

    test()


def _flood(fd: int, size: int, times: int) -> None:
    os.set_blocking(fd, True)
    for _ in range(times):
        os.write(fd, b"z" * size)


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[Tap]:
    """Give a list that grows with each turn of a tap."""
    turns: list[Tap] = []
    turn = tap.Tap._turn

    def count(self: Tap) -> None:
        turns.append(self)
        turn(self)

    monkeypatch.setattr(tap.Tap, "_turn", count)
    return turns
