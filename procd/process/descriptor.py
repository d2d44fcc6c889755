"""One end of a pipe, or of a terminal, on an asyncio loop: the ancestor's FileDescriptor.

Owns a non-blocking file descriptor from here to its close: reading, the write buffer with its marks and its
bound, producers, half-close.  Must not know processes: it reports to an owner.

Reading: `do_read` hands what is there to the owner, 64 KiB at most for each turn of the loop.  Writing: what
the kernel does not take at once waits in a buffer.  Above `buffer_size` (the high-water mark) a streaming
producer is paused, at `LOW_WATER` it is resumed, and beyond `max_buffered` nothing is accepted.  A pull
producer is asked for more each time the buffer is empty, which is also how one learns that everything
accepted so far is in the pipe; so is `bytes_written`, which counts what the kernel really took.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

import structlog

from procd.errors import BufferFull, DescriptorClosed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

BUFFER_SIZE = 65536
LOW_WATER = BUFFER_SIZE // 4
MAX_BUFFERED = 16 * 1024 * 1024

_log = structlog.get_logger(__name__)


class PullProducer(Protocol):
    """Who writes once for every `resume_producing`; who does not is not asked again before the next write."""

    def resume_producing(self) -> None:
        """Everything that was written is in the pipe: write on."""

    def stop_producing(self) -> None:
        """Nothing that is written will be accepted any more."""


class Producer(PullProducer, Protocol):
    """Who writes on its own until it is paused: a streaming producer."""

    def pause_producing(self) -> None:
        """Write no more until resumed."""


class Owner(Protocol):
    """Whom a descriptor reports to; called from the loop only."""

    def descriptor_received(self, child_fd: int, data: bytes) -> None:
        """`data` was read; it is never empty."""

    def descriptor_lost(self, child_fd: int, reason: Exception | None) -> None:
        """The descriptor is closed; `reason` is None for an orderly end.  Called once."""


class Descriptor:
    """A descriptor that reads (`mode` "r"), writes ("w") or both ("rw"); it owns `fd`, made non-blocking.

    States that can be asked: `connected`, `disconnecting` (closes when everything is flushed), `disconnected`,
    `reading`, `writing` (waits for the kernel to take more), `producer`, `streaming_producer`,
    `producer_paused`, `buffered`, `bytes_read`, `bytes_written`, `unsent` (accepted, but the reader went away
    first).  All stay readable after the end.
    """

    __slots__ = (
        "_buffer", "_fd", "_loop", "_owner", "bytes_read", "bytes_written", "child_fd", "connected",
        "disconnected", "disconnecting", "max_buffered", "mode", "producer", "producer_paused", "reading",
        "streaming_producer", "unsent", "writing",
    )  # fmt: skip

    buffer_size = BUFFER_SIZE

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: Owner, fd: int, mode: str, child_fd: int
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._fd = fd
        self._buffer: bytearray | None = None
        self.mode = mode
        self.child_fd = child_fd
        self.connected = True
        self.disconnected = False
        self.disconnecting = False
        self.reading = False
        self.writing = False
        self.producer: Producer | PullProducer | None = None
        self.streaming_producer = False
        self.producer_paused = False
        self.bytes_read = 0
        self.bytes_written = 0
        self.unsent = 0
        self.max_buffered = MAX_BUFFERED
        os.set_blocking(fd, False)
        if mode == "w":
            # A pipe's write end is "readable" only when its last reader is gone (EPOLLERR), so waiting for that
            # shows a lost reader although nothing is being written.
            loop.add_reader(fd, self._reader_went_away)
        else:
            self.start_reading()

    def __repr__(self) -> str:
        state = "disconnected" if self.disconnected else "disconnecting" if self.disconnecting else "connected"
        return f"<Descriptor {self._fd} {self.mode!r} for child's {self.child_fd}, {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a descriptor is a live thing of the kernel and cannot be pickled or copied")

    def fileno(self) -> int:
        """The number of the file descriptor; -1 once it is closed or detached."""
        return self._fd

    # Reading

    def start_reading(self) -> None:
        """Call `do_read` whenever there is something to read."""
        if self.connected and self.mode != "w" and not self.reading:
            self._loop.add_reader(self._fd, self.do_read)
            self.reading = True

    def stop_reading(self) -> None:
        """Leave what is there in the kernel, so that the child waits; a loss is not noticed meanwhile."""
        if self.reading:
            self._loop.remove_reader(self._fd)
            self.reading = False

    def do_read(self) -> None:
        """Read once and report it: data, or the end."""
        if not self.connected:
            return
        try:
            data = os.read(self._fd, BUFFER_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            # A terminal whose last user is gone answers EIO: that is its end of file (tty_ioctl(4)).
            self.connection_lost(None if self.mode == "rw" else error)
            return
        if data:
            self.bytes_read += len(data)
            self._owner.descriptor_received(self.child_fd, data)
        else:
            self.connection_lost(None)

    # A producer for others: its read side

    def pause_producing(self) -> None:
        """Stop reading, so that the child is held back by its full pipe."""
        self.stop_reading()

    def resume_producing(self) -> None:
        """Read again, unless it is closing."""
        if not self.disconnecting:
            self.start_reading()

    def stop_producing(self) -> None:
        """The consumer wants no more: lose the connection."""
        self.lose_connection()

    # Writing

    @property
    def buffered(self) -> int:
        """Bytes accepted and not yet taken by the kernel."""
        return len(self._buffer) if self._buffer is not None else 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Accept all of `data`, or raise and accept none of it.

        Raises DescriptorClosed when it would never be written: the descriptor is closed, or it closes and no
        producer is registered; BufferFull when more than `max_buffered` bytes would wait.
        """
        self._check_writable()
        size = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        if not size:
            return
        if size + self.buffered > self.max_buffered:
            raise BufferFull(self.buffered, size, self.max_buffered)
        written = 0
        if not self._buffer and (self.producer is None or self.streaming_producer):
            written = self._write_at_once(data)
        if written < size:
            self._keep(memoryview(data).cast("B")[written:])

    def write_sequence(self, chunks: Iterable[bytes]) -> None:
        """Accept all of the chunks, in order, or raise as `write` does."""
        self.write(b"".join(chunks))

    def write_some_data(self, data: bytes | bytearray | memoryview) -> int:
        """Give the kernel what it takes of `data` now: the number of bytes, perhaps 0.

        Raises OSError (BrokenPipeError above all) when the connection is lost.
        """
        try:
            written = os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        self.bytes_written += written
        return written

    def do_write(self) -> None:
        """Write what the kernel takes, then ask the producer for more or finish closing."""
        if not self.connected:
            return
        buffer = self._buffer
        if buffer:
            try:
                with memoryview(buffer) as view, view[:BUFFER_SIZE] as part:
                    written = self.write_some_data(part)
            except OSError as error:
                self.connection_lost(error)
                return
            del buffer[:written]
        if not buffer:
            self._buffer = None
        if self.producer is not None and self._producer_may_go_on():
            self.producer_paused = False
            self._resume(self.producer)
        if self.connected and not self._buffer:
            self.stop_writing()
            if self.disconnecting and self.producer is None:
                self._post_lose_connection()

    def start_writing(self) -> None:
        """Call `do_write` when the kernel takes more."""
        if self.connected and not self.writing:
            self._loop.add_writer(self._fd, self.do_write)
            self.writing = True

    def stop_writing(self) -> None:
        """Wait no longer for the kernel to take more."""
        if self.writing:
            self._loop.remove_writer(self._fd)
            self.writing = False

    def _check_writable(self) -> None:
        if self.mode == "r":
            raise DescriptorClosed(f"descriptor {self.child_fd} of the child is read here, not written")
        if not self.connected or (self.disconnecting and self.producer is None):
            raise DescriptorClosed(f"descriptor {self.child_fd} of the child is closed")

    def _write_at_once(self, data: bytes | bytearray | memoryview) -> int:
        """Spare a turn of the loop while the kernel takes everything; a loss is reported from the loop."""
        try:
            return self.write_some_data(data)
        except OSError as error:
            self._loop.call_soon(self.connection_lost, error)
            raise DescriptorClosed(f"descriptor {self.child_fd} of the child is closed") from error

    def _keep(self, rest: memoryview) -> None:
        if self._buffer is None:
            self._buffer = bytearray()
        self._buffer += rest
        self.start_writing()
        if self.streaming_producer and not self.producer_paused and len(self._buffer) > self.buffer_size:
            self.producer_paused = True
            # The caller of register_producer promised that a streaming one can be paused.
            cast("Producer", self.producer).pause_producing()

    # Producers: who writes to us

    def register_producer(
        self,
        producer: Producer | PullProducer,
        streaming: bool,  # noqa: FBT001 - the ancestor's signature
    ) -> None:
        """Let `producer` write at our pace: streaming, or pulled.

        On a closed descriptor the producer is stopped at once.  Raises RuntimeError when another is registered.
        """
        if self.producer is not None:
            raise RuntimeError(f"{producer!r} cannot be registered: {self.producer!r} was never unregistered")
        if not self.connected or self.mode == "r":
            producer.stop_producing()
            return
        self.producer = producer
        self.streaming_producer = streaming
        self.producer_paused = False
        if not streaming:
            producer.resume_producing()

    def unregister_producer(self) -> None:
        """The producer has written its last; a close that waited for that goes on."""
        self.producer = None
        self.streaming_producer = False
        self.producer_paused = False
        if self.disconnecting and not self._buffer:
            self._loop.call_soon(self._post_lose_connection)

    def stop_consuming(self) -> None:
        """The producer has lost its source: forget it and lose the connection."""
        self.unregister_producer()
        self.lose_connection()

    def _producer_may_go_on(self) -> bool:
        if not self.streaming_producer:
            return not self._buffer
        return self.producer_paused and self.buffered <= LOW_WATER

    def _resume(self, producer: PullProducer) -> None:
        try:
            producer.resume_producing()
        except Exception as error:  # noqa: BLE001 - whatever it raised, it cannot go on
            _log.exception("producer failed", child_fd=self.child_fd)
            self.connection_lost(error)

    # Closing

    def lose_connection(self) -> None:
        """Close when everything accepted is written and the producer is gone; when idle, at the next turn."""
        if not self.connected or self.disconnecting:
            return
        self.disconnecting = True
        self.stop_reading()
        if not self._buffer and self.producer is None:
            self._loop.call_soon(self._post_lose_connection)

    def abort_connection(self) -> None:
        """Close at the next turn of the loop; what is buffered is not written."""
        if self.connected:
            self.disconnecting = True
            self.stop_reading()
            self._loop.call_soon(self.connection_lost, None)

    def connection_lost(self, reason: Exception | None) -> None:
        """Close now, stop the producer and tell the owner; called again it does nothing."""
        if not self.connected:
            return
        fd = self._release()
        os.close(fd)
        producer, self.producer = self.producer, None
        if producer is not None:
            try:
                producer.stop_producing()
            except Exception:  # noqa: BLE001 - a failing producer must not keep the owner from being told
                _log.exception("producer failed to stop", child_fd=self.child_fd)
        self._owner.descriptor_lost(self.child_fd, reason)

    def detach(self) -> int:
        """Give the file descriptor away, still non-blocking: it is no longer read, written or closed here.

        The owner is not told.  Raises DescriptorClosed when it is closed.
        """
        if not self.connected:
            raise DescriptorClosed(f"descriptor {self.child_fd} of the child is closed")
        return self._release()

    def _release(self) -> int:
        """Leave the loop; from here on this object has no descriptor."""
        fd = self._fd
        self._loop.remove_reader(fd)
        self.stop_writing()
        self.reading = False
        self.connected = False
        self.disconnected = True
        self.disconnecting = False
        self.unsent = self.buffered
        self._buffer = None
        self._fd = -1
        return fd

    def _post_lose_connection(self) -> None:
        if self.disconnecting and self.producer is None and not self._buffer:
            self.connection_lost(None)

    def _reader_went_away(self) -> None:
        self.connection_lost(BrokenPipeError("nobody reads the pipe any more"))
