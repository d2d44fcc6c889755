"""Descriptor: reading, the write buffer with its marks and its bound, producers, half-close."""

from __future__ import annotations

import asyncio
import copy
import os
from typing import TYPE_CHECKING

import pytest

from procd.errors import BufferFull, DescriptorClosed
from procd.process.descriptor import BUFFER_SIZE, LOW_WATER, Descriptor
from tests.kernel.children import BOUND_S, in_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Log:
    """An owner that remembers."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: list[Exception | None] = []
        self._changed = asyncio.Event()

    def descriptor_received(self, child_fd: int, data: bytes) -> None:
        """Remember it."""
        assert child_fd == 7
        self.received += data
        self._changed.set()

    def descriptor_lost(self, child_fd: int, reason: Exception | None) -> None:
        """Remember it."""
        assert child_fd == 7
        self.lost.append(reason)
        self._changed.set()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for what changes with what is told."""
        async with asyncio.timeout(BOUND_S):
            while not true():
                self._changed.clear()
                await self._changed.wait()


class Pipe:
    """A pipe: its end for a Descriptor, and the other end for the test."""

    def __init__(self, mode: str) -> None:
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        ours, self.peer = (read_end, write_end) if mode == "r" else (write_end, read_end)
        self.log = Log()
        self.descriptor = Descriptor(asyncio.get_running_loop(), self.log, ours, mode, 7)

    def take(self, limit: int = 1 << 20) -> bytes:
        """Read what is in the pipe, at the test's end."""
        taken = bytearray()
        while len(taken) < limit:
            try:
                chunk = os.read(self.peer, limit - len(taken))
            except BlockingIOError:
                break
            if not chunk:
                break
            taken += chunk
        return bytes(taken)

    async def take_all(self) -> bytes:
        """Read to the end."""
        taken = bytearray()
        async with asyncio.timeout(BOUND_S):
            while not self.descriptor.disconnected:
                taken += self.take()
                await asyncio.sleep(0)
        return bytes(taken + self.take())

    def close_peer(self) -> None:
        """The other side goes away."""
        os.close(self.peer)


@in_loop
async def test_data_is_reported_and_then_the_end() -> None:
    """bytes_read counts it, and the descriptor is closed."""
    pipe = Pipe("r")
    os.write(pipe.peer, b"hello")
    await pipe.log.until(lambda: pipe.log.received)
    assert pipe.log.received == b"hello"
    pipe.close_peer()
    await pipe.log.until(lambda: pipe.log.lost)
    assert pipe.log.lost == [None]
    descriptor = pipe.descriptor
    assert (descriptor.bytes_read, descriptor.fileno(), descriptor.disconnected) == (5, -1, True)
    descriptor.start_reading()
    descriptor.do_read()
    assert not descriptor.reading


@in_loop
async def test_a_turn_reads_a_bounded_amount() -> None:
    """64 KiB, so that one child that floods does not keep the loop from others."""
    pipe = Pipe("r")
    os.set_blocking(pipe.peer, False)
    assert os.write(pipe.peer, b"x" * BUFFER_SIZE) == BUFFER_SIZE
    pipe.descriptor.do_read()
    assert len(pipe.log.received) == BUFFER_SIZE
    pipe.descriptor.do_read()  # nothing there: nothing happens
    assert len(pipe.log.received) == BUFFER_SIZE
    pipe.close_peer()
    await pipe.log.until(lambda: pipe.log.lost)


@in_loop
async def test_an_error_of_reading_is_the_reason_of_the_loss() -> None:
    """It is not taken for an orderly end."""
    directory = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    log = Log()
    descriptor = Descriptor(_loop_without_epoll(), log, directory, "r", 7)
    descriptor.do_read()
    assert isinstance(log.lost[0], IsADirectoryError)


def _loop_without_epoll() -> asyncio.AbstractEventLoop:
    """A loop that accepts anything to watch: directories are not for epoll."""

    class Blind(asyncio.SelectorEventLoop):
        def __init__(self) -> None:
            pass

        def __del__(self) -> None:
            pass

        def add_reader(self, *_: object) -> None:
            pass

        def remove_reader(self, *_: object) -> bool:
            return True

    return Blind()


@in_loop
async def test_what_the_kernel_takes_at_once_is_not_buffered() -> None:
    """And no turn of the loop is spent."""
    pipe = Pipe("w")
    pipe.descriptor.write(b"ab")
    pipe.descriptor.write(bytearray(b"cd"))
    pipe.descriptor.write(memoryview(b"ef"))
    pipe.descriptor.write(b"")
    pipe.descriptor.write_sequence([b"gh", b"", b"ij"])
    assert (pipe.descriptor.buffered, pipe.descriptor.writing) == (0, False)
    assert pipe.take() == b"abcdefghij"
    assert pipe.descriptor.bytes_written == 10
    pipe.descriptor.lose_connection()
    await pipe.take_all()
    pipe.close_peer()


@in_loop
async def test_text_is_not_bytes() -> None:
    """A TypeError, before anything is accepted."""
    pipe = Pipe("w")
    with pytest.raises(TypeError):
        pipe.descriptor.write("text")  # type: ignore[arg-type]
    pipe.close_peer()
    await pipe.log.until(lambda: pipe.log.lost)


@in_loop
async def test_what_does_not_fit_is_refused_whole() -> None:
    """BufferFull tells the figures; what was accepted before arrives, and nothing else."""
    pipe = Pipe("w")
    pipe.descriptor.max_buffered = 200_000
    pipe.descriptor.write(b"a" * 200_000)
    waiting = pipe.descriptor.buffered
    assert 0 < waiting < 200_000
    with pytest.raises(BufferFull) as caught:
        pipe.descriptor.write(b"b" * 100_000)
    assert (caught.value.buffered, caught.value.offered, caught.value.bound) == (waiting, 100_000, 200_000)
    assert pipe.descriptor.buffered == waiting
    pipe.descriptor.lose_connection()
    assert await pipe.take_all() == b"a" * 200_000
    pipe.close_peer()


@in_loop
async def test_a_reader_that_goes_away_is_noticed_while_idle() -> None:
    """Nothing is being written, and the reason says so."""
    pipe = Pipe("w")
    pipe.close_peer()
    await pipe.log.until(lambda: pipe.log.lost)
    assert isinstance(pipe.log.lost[0], BrokenPipeError)
    with pytest.raises(DescriptorClosed):
        pipe.descriptor.write(b"x")


@in_loop
async def test_a_reader_that_goes_away_leaves_unsent_bytes() -> None:
    """bytes_written and unsent add up to what was accepted, and stay readable."""
    pipe = Pipe("w")
    pipe.descriptor.write(b"x" * 300_000)
    pipe.close_peer()
    await pipe.log.until(lambda: pipe.log.lost)
    descriptor = pipe.descriptor
    assert (descriptor.buffered, descriptor.bytes_written + descriptor.unsent) == (0, 300_000)
    assert descriptor.bytes_written >= 65536


@in_loop
async def test_a_write_that_meets_a_broken_pipe_accepts_nothing() -> None:
    """The loss itself is told by the loop, not from inside of the write; and once."""
    pipe = Pipe("w")
    pipe.close_peer()
    with pytest.raises(DescriptorClosed):
        pipe.descriptor.write(b"x")
    assert pipe.log.lost == []
    await pipe.log.until(lambda: pipe.log.lost)
    await asyncio.sleep(0)
    assert len(pipe.log.lost) == 1
    assert pipe.descriptor.bytes_written == pipe.descriptor.unsent == 0


@in_loop
async def test_closing_flushes_and_then_closes() -> None:
    """Idle, it closes at the next turn; nothing is accepted in between."""
    pipe = Pipe("w")
    pipe.descriptor.lose_connection()
    pipe.descriptor.lose_connection()
    assert pipe.descriptor.disconnecting
    assert pipe.descriptor.connected
    with pytest.raises(DescriptorClosed):
        pipe.descriptor.write(b"late")
    await asyncio.sleep(0)
    assert pipe.log.lost == [None]
    pipe.descriptor.lose_connection()
    assert "disconnected" in repr(pipe.descriptor)
    pipe.close_peer()


@in_loop
async def test_aborting_does_not_flush() -> None:
    """What is buffered is unsent."""
    pipe = Pipe("w")
    pipe.descriptor.write(b"x" * 300_000)
    waiting = pipe.descriptor.buffered
    pipe.descriptor.abort_connection()
    await pipe.log.until(lambda: pipe.log.lost)
    assert pipe.descriptor.unsent == waiting
    pipe.descriptor.abort_connection()
    pipe.close_peer()


@in_loop
async def test_a_descriptor_can_be_given_away_once() -> None:
    """It stays open, its owner is not told."""
    pipe = Pipe("r")
    fd = pipe.descriptor.detach()
    with pytest.raises(DescriptorClosed):
        pipe.descriptor.detach()
    os.write(pipe.peer, b"x")
    await asyncio.sleep(0)
    assert os.read(fd, 10) == b"x"
    assert pipe.log.lost == []
    os.close(fd)
    pipe.close_peer()


@in_loop
async def test_a_read_end_is_not_written() -> None:
    """And producers for it are stopped."""
    pipe = Pipe("r")
    with pytest.raises(DescriptorClosed):
        pipe.descriptor.write(b"x")
    producer = Streaming(pipe.descriptor, [])
    pipe.descriptor.register_producer(producer, streaming=True)
    assert producer.told == ["stop"]
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        copy.deepcopy(pipe.descriptor)
    pipe.descriptor.stop_producing()
    await pipe.log.until(lambda: pipe.log.lost)
    pipe.close_peer()


class Pull:
    """A pull producer of chunks."""

    def __init__(self, descriptor: Descriptor, chunks: Iterator[bytes]) -> None:
        self.descriptor = descriptor
        self.chunks = chunks
        self.arrived: list[int] = []
        self.stopped = 0

    def resume_producing(self) -> None:
        """Everything written before is in the pipe now."""
        self.arrived.append(self.descriptor.bytes_written)
        chunk = next(self.chunks, None)
        if chunk is None:
            self.descriptor.unregister_producer()
        else:
            self.descriptor.write(chunk)

    def stop_producing(self) -> None:
        """No more."""
        self.stopped += 1


class Streaming:
    """A streaming producer that writes only when told to by the test."""

    def __init__(self, descriptor: Descriptor, told: list[str]) -> None:
        self.descriptor = descriptor
        self.told = told

    def pause_producing(self) -> None:
        """Remember it."""
        self.told.append("pause")

    def resume_producing(self) -> None:
        """Remember it."""
        self.told.append("resume")

    def stop_producing(self) -> None:
        """Remember it."""
        self.told.append("stop")


@in_loop
async def test_a_pull_producer_is_asked_when_everything_is_in_the_pipe() -> None:
    """So the kernel's count at each question is all that was given; and closing waits for it to be done."""
    pipe = Pipe("w")
    chunks = [b"a" * 10, b"b" * 200_000, b"c" * 70_000]
    producer = Pull(pipe.descriptor, iter(chunks))
    pipe.descriptor.register_producer(producer, streaming=False)
    pipe.descriptor.lose_connection()
    assert await pipe.take_all() == b"".join(chunks)
    assert producer.arrived == [0, 10, 200_010, 270_010]
    assert producer.stopped == 0
    pipe.close_peer()


@in_loop
async def test_a_pull_producer_that_has_nothing_now_is_asked_after_its_next_write() -> None:
    """An idle producer does not keep the loop busy."""
    pipe = Pipe("w")
    asked: list[int] = []

    class Idle:
        def resume_producing(self) -> None:
            asked.append(pipe.descriptor.bytes_written)

        def stop_producing(self) -> None:
            asked.append(-1)

    pipe.descriptor.register_producer(Idle(), streaming=False)
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == [0]
    assert not pipe.descriptor.writing
    pipe.descriptor.write(b"xyz")
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == [0, 3]
    pipe.close_peer()
    await pipe.log.until(lambda: pipe.log.lost)
    assert asked == [0, 3, -1]


@in_loop
async def test_a_streaming_producer_is_paused_at_the_high_mark_and_resumed_at_the_low_one() -> None:
    """Between the marks nothing is told."""
    pipe = Pipe("w")
    told: list[str] = []
    pipe.descriptor.register_producer(Streaming(pipe.descriptor, told), streaming=True)
    pipe.descriptor.write(b"x" * BUFFER_SIZE)  # the pipe is full
    pipe.descriptor.write(b"x" * BUFFER_SIZE)
    assert told == []
    pipe.descriptor.write(b"x")
    assert told == ["pause"]
    assert pipe.descriptor.producer_paused
    pipe.descriptor.write(b"x")  # what it writes all the same is accepted, and it is not told twice
    assert told == ["pause"]
    async with asyncio.timeout(BOUND_S):
        while not told[1:]:
            assert pipe.descriptor.buffered > LOW_WATER
            pipe.take(8192)
            await asyncio.sleep(0)
    assert told == ["pause", "resume"]
    assert pipe.descriptor.buffered <= LOW_WATER
    pipe.descriptor.stop_consuming()
    await pipe.take_all()
    assert told == ["pause", "resume"]
    pipe.close_peer()


@in_loop
async def test_a_second_producer_is_refused() -> None:
    """Until the first is unregistered."""
    pipe = Pipe("w")
    first, second = Streaming(pipe.descriptor, []), Streaming(pipe.descriptor, [])
    pipe.descriptor.register_producer(first, streaming=True)
    with pytest.raises(RuntimeError, match="never unregistered"):
        pipe.descriptor.register_producer(second, streaming=True)
    pipe.descriptor.unregister_producer()
    pipe.descriptor.register_producer(second, streaming=True)
    pipe.close_peer()
    await pipe.log.until(lambda: pipe.log.lost)
    assert (first.told, second.told) == ([], ["stop"])
    late = Streaming(pipe.descriptor, [])
    pipe.descriptor.register_producer(late, streaming=True)
    assert late.told == ["stop"]


@in_loop
async def test_a_producer_that_fails_loses_the_connection() -> None:
    """It is logged; the owner is told why, though stopping the producer fails as well."""
    pipe = Pipe("w")

    class Failing:
        asked = 0

        def resume_producing(self) -> None:
            self.asked += 1
            if self.asked == 2:
                raise RuntimeError("cannot")
            pipe.descriptor.write(b"x")

        def stop_producing(self) -> None:
            raise RuntimeError("cannot stop")

    pipe.descriptor.register_producer(Failing(), streaming=False)
    await pipe.log.until(lambda: pipe.log.lost)
    assert str(pipe.log.lost[0]) == "cannot"
    assert pipe.take() == b"x"
    pipe.close_peer()


@in_loop
async def test_a_reader_that_goes_away_in_the_middle_of_a_flush() -> None:
    """The write of the rest fails; the reason is the kernel's."""
    pipe = Pipe("w")
    pipe.descriptor.write(b"x" * 300_000)
    pipe.close_peer()
    pipe.descriptor.do_write()
    assert isinstance(pipe.log.lost[0], BrokenPipeError)
    pipe.descriptor.do_write()
    assert len(pipe.log.lost) == 1
