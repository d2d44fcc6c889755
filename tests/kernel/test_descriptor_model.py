"""Descriptor against a model: whatever is done to it, the peer receives exactly what was accepted, in order."""

from __future__ import annotations

import asyncio
import os
import random

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from procd.errors import BufferFull, DescriptorClosed
from procd.process.descriptor import LOW_WATER, Descriptor

BOUND = 150_000
SIZES = st.one_of(st.integers(0, 100), st.integers(60_000, 70_000), st.integers(0, 200_000))


class Bytes:
    """Bytes whose order is seen: no two stretches of them are alike for a long while."""

    PATTERN = random.Random(1).randbytes(1 << 22)  # noqa: S311 - nothing secret

    def __init__(self) -> None:
        self.place = 0

    def take(self, size: int) -> bytes:
        """The next so many."""
        self.place = (self.place + size) % (len(self.PATTERN) - 200_000)
        return self.PATTERN[self.place : self.place + size]


class Writing(RuleBasedStateMachine):
    """Random writes, turns of the loop, reads by the peer, producers, closes."""

    @initialize()
    def start(self) -> None:
        """A pipe of one page's room or more, and a descriptor on its write end."""
        self.loop = asyncio.new_event_loop()
        self.peer, ours = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.lost: list[Exception | None] = []
        self.descriptor = Descriptor(self.loop, self, ours, "w", 7)
        self.descriptor.max_buffered = BOUND
        self.bytes = Bytes()
        self.accepted = bytearray()
        self.received = bytearray()
        self.closing = self.aborted = self.peer_closed = False
        self.streaming = False
        self.paused = False

    # The owner

    def descriptor_received(self, child_fd: int, data: bytes) -> None:
        """Never, on a write end."""
        raise AssertionError((child_fd, data))

    def descriptor_lost(self, child_fd: int, reason: Exception | None) -> None:
        """Once."""
        assert child_fd == 7
        self.lost.append(reason)

    # The producer

    def pause_producing(self) -> None:
        """Only a producer that runs."""
        assert not self.paused
        self.paused = True

    def resume_producing(self) -> None:
        """Only a producer that was paused, and below the mark."""
        assert self.paused
        assert self.descriptor.buffered <= LOW_WATER
        self.paused = False

    def stop_producing(self) -> None:
        """Only when the connection is lost."""
        assert self.descriptor.disconnected
        self.streaming = False

    # What may be done to it

    @rule(size=SIZES)
    def write(self, size: int) -> None:
        """All of it is accepted, or none."""
        data = self.bytes.take(size)
        buffered = self.descriptor.buffered
        refused = self.descriptor.disconnected or (self.closing and not self.streaming)
        try:
            self.descriptor.write(data)
        except DescriptorClosed:
            assert refused or self.peer_closed
        except BufferFull:
            assert not refused
            assert buffered + size > BOUND
        else:
            assert not refused
            assert buffered + size <= BOUND
            self.accepted += data

    @rule()
    def turn(self) -> None:
        """One turn of the loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @rule(size=st.integers(1, 200_000))
    def read(self, size: int) -> None:
        """The peer reads."""
        if self.peer_closed:
            return
        try:
            self.received += os.read(self.peer, size)
        except BlockingIOError:
            assert len(self.received) == self.descriptor.bytes_written

    @precondition(lambda self: not self.streaming)
    @rule()
    def register(self) -> None:
        """A streaming producer comes."""
        gone = self.descriptor.disconnected
        self.paused = False
        self.streaming = True
        self.descriptor.register_producer(self, streaming=True)
        assert self.streaming is not gone

    @precondition(lambda self: self.streaming)
    @rule()
    def unregister(self) -> None:
        """It goes."""
        self.descriptor.unregister_producer()
        self.streaming = False

    @rule()
    def close(self) -> None:
        """Flush, then close."""
        self.descriptor.lose_connection()
        self.closing = True

    @precondition(lambda self: len(self.accepted) > 100_000)
    @rule()
    def close_peer(self) -> None:
        """The reader goes away."""
        if not self.peer_closed:
            os.close(self.peer)
            self.peer_closed = True

    @precondition(lambda self: len(self.accepted) > 100_000)
    @rule()
    def abort(self) -> None:
        """Close without flushing."""
        self.descriptor.abort_connection()
        self.aborted = self.closing = True

    # What must hold

    @invariant()
    def nothing_is_lost_doubled_or_mixed(self) -> None:
        """What the kernel has is the beginning of what was accepted; the rest waits, or is unsent."""
        descriptor = self.descriptor
        assert self.received == self.accepted[: len(self.received)]
        assert descriptor.bytes_written + descriptor.buffered + descriptor.unsent == len(self.accepted)
        assert descriptor.buffered <= BOUND
        assert descriptor.disconnected == bool(self.lost)
        assert len(self.lost) <= 1

    def teardown(self) -> None:
        """Let everything happen that is under way, and see that it ended as it should."""
        if not hasattr(self, "descriptor"):
            return
        if self.streaming:
            self.descriptor.unregister_producer()
            self.streaming = False
        self.descriptor.lose_connection()
        for _ in range(100):
            self.read(1 << 20)
            self.turn()
        assert self.descriptor.disconnected
        if not self.peer_closed:
            self.received += os.read(self.peer, 1 << 20)
            if not self.aborted:
                assert self.received == self.accepted
            os.close(self.peer)
        self.nothing_is_lost_doubled_or_mixed()
        self.loop.close()


class Reading(RuleBasedStateMachine):
    """Random writes by the peer, turns of the loop, pauses, closes."""

    @initialize()
    def start(self) -> None:
        """A pipe, and a descriptor on its read end."""
        self.loop = asyncio.new_event_loop()
        ours, self.peer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.lost: list[Exception | None] = []
        self.descriptor = Descriptor(self.loop, self, ours, "r", 7)
        self.bytes = Bytes()
        self.sent = bytearray()
        self.received = bytearray()
        self.paused = self.closing = self.peer_closed = False

    def descriptor_received(self, child_fd: int, data: bytes) -> None:
        """Never while paused or closing."""
        assert child_fd == 7
        assert data
        assert not self.paused
        assert not self.closing
        self.received += data

    def descriptor_lost(self, child_fd: int, reason: Exception | None) -> None:
        """Once, in order."""
        assert (child_fd, reason) == (7, None)
        self.lost.append(reason)

    @rule(size=SIZES)
    def send(self, size: int) -> None:
        """The peer writes what there is room for."""
        if self.peer_closed or not size:
            return
        data = self.bytes.take(size)
        try:
            self.sent += data[: os.write(self.peer, data)]
        except BlockingIOError:
            return
        except BrokenPipeError:
            assert self.descriptor.disconnected

    @rule()
    def turn(self) -> None:
        """One turn of the loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @rule()
    def pause(self) -> None:
        """Hold the child back."""
        self.descriptor.pause_producing()
        self.paused = True

    @rule()
    def resume(self) -> None:
        """Go on; harmless when it was not paused, or is closed."""
        self.descriptor.resume_producing()
        self.paused = False

    @precondition(lambda self: len(self.sent) > 100_000)
    @rule()
    def close(self) -> None:
        """Want no more."""
        self.descriptor.lose_connection()
        self.closing = True

    @precondition(lambda self: len(self.sent) > 50_000)
    @rule()
    def close_peer(self) -> None:
        """The child closes its output."""
        if not self.peer_closed:
            os.close(self.peer)
            self.peer_closed = True

    @invariant()
    def what_came_is_the_beginning_of_what_was_sent(self) -> None:
        """In order, and counted."""
        assert self.received == self.sent[: len(self.received)]
        assert self.descriptor.bytes_read == len(self.received)
        assert self.descriptor.reading == (
            self.descriptor.connected and not self.paused and not self.descriptor.disconnecting
        )

    def teardown(self) -> None:
        """To the end: without a close of ours, everything arrives."""
        if not hasattr(self, "descriptor"):
            return
        self.close_peer()
        self.resume()
        for _ in range(20):
            self.turn()
        assert self.lost == [None]
        if not self.closing:
            assert self.received == self.sent
        self.loop.close()


FEW = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
Writing.TestCase.settings = FEW
Reading.TestCase.settings = FEW
TestWriting = Writing.TestCase
TestReading = Reading.TestCase
