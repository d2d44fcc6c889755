"""The queue in front of a stdin: accepted means in the pipe, for each of many who write."""

from __future__ import annotations

import asyncio
import fcntl
import os

import pytest

from procd.errors import StdinClosed
from procd.process import Descriptor
from procd.runtime.input import Input
from tests.kernel.children import in_loop, until

#: Two pages: a pipe of one is "full" for poll(2) while a byte is in it.
PIPE_BYTES = 8192


class Program:
    """The read end of a small pipe, and the queue in front of its write end; it is the pipe's owner as well."""

    def __init__(self) -> None:
        self.fd, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.pipe = Descriptor(asyncio.get_running_loop(), self, write_end, "w", 0)
        self.input = Input("web", self.pipe)

    def descriptor_received(self, child_fd: int, data: bytes) -> None:
        """Never: it is a pipe to write to."""
        raise AssertionError((child_fd, data))

    def descriptor_lost(self, child_fd: int, reason: Exception | None) -> None:
        """As a life does it."""
        del child_fd, reason
        self.input.stop_producing()

    def read(self, count: int) -> bytes:
        """Read what is there."""
        return os.read(self.fd, count)

    async def read_all(self, count: int) -> bytes:
        """Read so many bytes, at the pipe's pace."""
        os.set_blocking(self.fd, False)
        content = b""

        def more() -> bool:
            nonlocal content
            try:
                content += os.read(self.fd, count - len(content))
            except BlockingIOError:
                return False
            return len(content) == count

        await until(more)
        return content

    async def end(self) -> None:
        """Read no more."""
        os.close(self.fd)
        await until(lambda: self.pipe.disconnected)


@in_loop
async def test_an_answer_comes_when_the_last_byte_is_in_the_pipe() -> None:
    """Not when it was queued."""
    program = Program()
    small = program.input.put(b"x" * 100)
    assert not small.done()
    assert await small == 100
    large = program.input.put(b"y" * (2 * PIPE_BYTES))
    await asyncio.sleep(0.01)
    assert not large.done()
    assert await program.read_all(100 + 2 * PIPE_BYTES) == b"x" * 100 + b"y" * (2 * PIPE_BYTES)
    assert await large == 2 * PIPE_BYTES
    await program.end()


@in_loop
async def test_requests_go_in_one_after_the_other() -> None:
    """Whole, in their order, each answered for itself."""
    program = Program()
    letters = [bytes([65 + number]) * 3000 for number in range(8)]
    answers = [program.input.put(letter) for letter in letters]
    assert await program.read_all(8 * 3000) == b"".join(letters)
    assert await asyncio.gather(*answers) == [3000] * 8
    await program.end()


@in_loop
async def test_a_reader_that_leaves_tells_each_how_far_it_came() -> None:
    """The first went in, of the second a part, of the others nothing."""
    program = Program()
    # More than PIPE_BUF at once, of which the kernel takes a part (pipe(7)).
    first, second, third = (program.input.put(b"x" * size) for size in (3000, 2 * PIPE_BYTES, 1))
    assert await first == 3000
    await until(lambda: program.pipe.bytes_written > 3000)
    went = program.pipe.bytes_written - 3000
    assert went < 2 * PIPE_BYTES
    await program.end()
    with pytest.raises(StdinClosed, match=f"after {went} bytes") as closed:
        await second
    assert closed.value.data == {"accepted": went}
    with pytest.raises(StdinClosed) as closed:
        await third
    assert closed.value.data == {"accepted": 0}
    with pytest.raises(StdinClosed):
        program.input.put(b"x")


@in_loop
async def test_who_goes_away_before_its_turn_is_forgotten_at_once() -> None:
    """Its bytes are not written, and not held until somebody reads."""
    program = Program()
    blocking = program.input.put(b"x" * (2 * PIPE_BYTES))
    abandoned = program.input.put(b"never")
    last = program.input.put(b"last")
    await until(lambda: program.pipe.bytes_written == PIPE_BYTES)
    abandoned.cancel()
    await until(lambda: len(program.input._queue) == 2)
    assert await program.read_all(2 * PIPE_BYTES + 4) == b"x" * (2 * PIPE_BYTES) + b"last"
    assert (await blocking, await last) == (2 * PIPE_BYTES, 4)
    await program.end()


@in_loop
async def test_who_goes_away_in_the_middle_has_written_all_the_same() -> None:
    """Half a line in somebody's stdin would be worse."""
    program = Program()
    gone = program.input.put(b"x" * (2 * PIPE_BYTES))
    await until(lambda: program.pipe.bytes_written == PIPE_BYTES)
    gone.cancel()
    after = program.input.put(b"after")
    assert await program.read_all(2 * PIPE_BYTES + 5) == b"x" * (2 * PIPE_BYTES) + b"after"
    assert await after == 5
    await program.end()


@in_loop
async def test_all_who_went_away_leave_a_queue_that_works() -> None:
    """Also when the cancelled ones are met before anybody could take them out."""
    program = Program()
    first = program.input.put(b"x")
    for answer in [program.input.put(b"never") for _ in range(3)]:
        answer.cancel()
    assert await first == 1
    assert await program.input.put(b"y") == 1
    assert program.read(10) == b"xy"
    await program.end()


@in_loop
async def test_a_close_comes_after_what_was_accepted() -> None:
    """The program reads everything, then the end; nothing is accepted any more."""
    program = Program()
    answer = program.input.put(b"x" * (2 * PIPE_BYTES))
    program.input.close()
    program.input.close()
    with pytest.raises(StdinClosed):
        program.input.put(b"late")
    assert await program.read_all(2 * PIPE_BYTES) == b"x" * (2 * PIPE_BYTES)
    assert await answer == 2 * PIPE_BYTES
    await until(lambda: program.pipe.disconnected)
    assert program.read(1) == b""
    os.close(program.fd)


@in_loop
async def test_an_idle_stdin_closes_at_once() -> None:
    """There is nothing to wait for."""
    program = Program()
    program.input.close()
    await until(lambda: program.pipe.disconnected)
    os.close(program.fd)


@in_loop
async def test_a_pipe_that_was_lost_before_refuses_the_first_write() -> None:
    """Nobody waits for an answer that cannot come."""
    program = Program()
    await program.end()
    with pytest.raises(StdinClosed) as closed:
        program.input.put(b"x")
    assert closed.value.data == {"accepted": 0}
