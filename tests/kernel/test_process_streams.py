"""Process as a consumer and a producer: its streams by the methods of the process itself."""

from __future__ import annotations

import asyncio

import pytest

from procd.errors import DescriptorClosed
from procd.process import NULL, Process
from tests.kernel.children import Recorder, in_loop, start


class Counting:
    """A pull producer of numbers, one a line."""

    def __init__(self, process: Process, count: int) -> None:
        self.process = process
        self.left = count
        self.stopped = 0

    def resume_producing(self) -> None:
        """Write one more, or be done."""
        if self.left:
            self.process.write(b"%d\n" % self.left)
            self.left -= 1
        else:
            self.process.unregister_producer()
            self.process.close_stdin()

    def stop_producing(self) -> None:
        """No more."""
        self.stopped += 1


@in_loop
async def test_a_producer_feeds_the_standard_input() -> None:
    """At its pace, to the end, and only then the pipe closes."""
    recorder = Recorder()
    process = start(["cat"], recorder)
    producer = Counting(process, 100)
    process.register_producer(producer, streaming=False)
    await recorder.until_ended()
    assert recorder.out.split() == [b"%d" % number for number in range(100, 0, -1)]
    assert producer.stopped == 0


@in_loop
async def test_without_a_standard_input_a_producer_is_stopped_and_a_write_refused() -> None:
    """The ancestor loses such data silently."""
    recorder = Recorder()
    process = start("read x; exit 3", recorder, child_fds={0: NULL, 1: "r"})
    producer = Counting(process, 1)
    process.register_producer(producer, streaming=True)
    process.unregister_producer()
    assert producer.stopped == 1
    for child_fd in (0, 1, 5):
        with pytest.raises(DescriptorClosed):
            process.write_to_child(child_fd, b"x")
    assert process.lost_in_connection
    process.close_stdin()
    process.close_child_fd(5)
    await recorder.until_ended()


@in_loop
async def test_chunks_are_written_in_order_as_one() -> None:
    """write_sequence, beside write."""
    recorder = Recorder()
    process = start(["cat"], recorder)
    process.write(b"1")
    process.write_sequence([b"2", b"", b"3"])
    process.write_to_child(0, bytearray(b"4"))
    process.close_stdin()
    await recorder.until_ended()
    assert recorder.out == b"1234"


@in_loop
async def test_the_descriptors_can_be_asked() -> None:
    """The numbers, by fileno and descriptor, while open and after; KeyError for what never was."""
    recorder = Recorder()
    process = start(["cat"], recorder)
    assert process.fileno() == process.descriptor(1).fileno() >= 0
    assert process.fileno(0) != process.fileno(2)
    assert process.fileno(9) == -1
    with pytest.raises(KeyError):
        process.descriptor(9)
    process.stop_producing()
    await recorder.until_ended()
    assert process.fileno() == -1
    assert process.descriptor(1).disconnected
    assert process.lost_in_connection
    assert process.lost_err_connection


@in_loop
async def test_only_the_paused_child_waits() -> None:
    """Pausing one process holds back that one."""
    first, second = Recorder(), Recorder()
    start("echo first", first).pause_producing()
    start("echo second", second)
    await second.until_ended()
    await first.until_told("exited")
    assert first.out == b""
    first.process.resume_producing()
    await first.until_ended()
    assert first.out == b"first\n"


@in_loop
async def test_a_process_lives_without_its_references() -> None:
    """The loop and the reaper keep it; its protocol hears the end."""
    recorder = Recorder()
    Process(asyncio.get_running_loop(), "true", ["true"], None, None, recorder)
    await recorder.until_ended()
