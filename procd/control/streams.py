"""Streams: a log that is followed, at the pace of whoever reads it.

A stream reads the log *file* up to the end, and goes on when it is told that there is more.  It holds one piece
of it at most, and reads the next when the connection has room: a slow follower costs disk reads, not memory.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from procd.errors import Failed, TooLarge
from procd.output.logs import Watcher
from procd.wire import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from procd.output.logs import Logs
    from procd.output.streams import StreamKey

log = structlog.get_logger()

#: Streams that one connection may have at once: more programs than anybody reads side by side.
MAX_STREAMS = 64
#: Pieces that a stream may send at the end of procd without asking whether there is room.
REST_CHUNKS = 4
#: Bytes that are looked through at once, from the end of a log backwards, for the beginning of a line.
_LOOK_BACK_BYTES = 1 << 16


class Outlet(Protocol):
    """Where a stream goes: a connection."""

    def notify(self, method: str, params: list[Any]) -> None:
        """Send a notification."""

    async def room(self) -> None:
        """Return when the peer has read enough of what it was sent."""

    def stream_ended(self) -> None:
        """Take note that a stream ended by itself."""


class Source(Protocol):
    """What a stream is made of."""

    async def run(self, number: int, outlet: Outlet) -> None:
        """Send it all, as notifications with this number."""

    def send_rest(self, number: int, outlet: Outlet) -> None:
        """Send now, to a bound, what is there and was not sent."""

    def close(self) -> None:
        """Let go of what it holds; harmless if that was done."""


class LogStream:
    """One log, from a chosen place to its end, and on with it if it is followed."""

    def __init__(self, logs: Logs, key: StreamKey, path: str, *, follow: bool) -> None:
        self._path = path
        self._follow = follow
        self._fd = -1
        self._gap = 0
        self._over = ""
        self._changed = asyncio.Event()
        # From the beginning, so that nothing is missed that happens before the first turn of the stream.
        self._unwatch = logs.watch(key, Watcher(self._changed.set, self._end)) if follow else _nothing
        self.offset = 0

    async def start_at(self, *, lines: int | None, offset: int | None) -> None:
        """Open the log and choose where to begin: the last `lines`, an `offset`, or the beginning.

        A log that does not exist yet is empty.  Raises Failed when it cannot be read.
        """
        try:
            end = self._open()
            if offset is not None:
                # The file is shorter than the client had read: it was cut, and what is there now is all new.
                self.offset = offset if offset <= end else 0
                self._gap = max(0, offset - end)
            elif lines is not None and self._fd >= 0:
                self.offset = await _start_of_last_lines(self._fd, end, lines)
        except OSError as error:
            self.close()
            raise Failed(f"the log {self._path} cannot be read: {error.strerror}") from error
        except BaseException:
            # Whoever asked went away during the search.
            self.close()
            raise

    def _open(self) -> int:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return 0
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ENOTSUP, "it is not a regular file", self._path)
        return found.st_size

    def _end(self, reason: str) -> None:
        self._over = reason
        self._changed.set()

    async def run(self, number: int, outlet: Outlet) -> None:
        """Send the stream as notifications until it ends."""
        try:
            if self._gap:
                reason = "the log file was cut"
                outlet.notify("stream.gap", [number, {"bytes": self._gap, "reason": reason}])
            while True:
                self._changed.clear()
                await self._send_what_is_there(number, outlet)
                if not self._follow or self._over:
                    outlet.notify("stream.end", [number, {"reason": self._over or "end of log"}])
                    return
                await self._changed.wait()
        finally:
            self.close()

    async def _send_what_is_there(self, number: int, outlet: Outlet) -> None:
        if self._fd < 0:
            self._open()
        while self._fd >= 0:
            await outlet.room()
            chunk = os.pread(self._fd, MAX_CHUNK_BYTES, self.offset)
            if not chunk:
                if not self._was_cut(number, outlet):
                    return
                continue
            outlet.notify("stream.data", [number, {"data": chunk, "offset": self.offset}])
            self.offset += len(chunk)

    def send_rest(self, number: int, outlet: Outlet) -> None:
        """Send now what a follower has not had yet, to a bound; whoever has more to read comes back for it."""
        if self._fd < 0:
            self._open()
        for _ in range(REST_CHUNKS if self._fd >= 0 else 0):
            chunk = os.pread(self._fd, MAX_CHUNK_BYTES, self.offset)
            if not chunk:
                return
            outlet.notify("stream.data", [number, {"data": chunk, "offset": self.offset}])
            self.offset += len(chunk)

    def _was_cut(self, number: int, outlet: Outlet) -> bool:
        """Go back to the beginning of a file that somebody has truncated behind us."""
        end = os.fstat(self._fd).st_size
        if end >= self.offset:
            return False
        outlet.notify("stream.gap", [number, {"bytes": self.offset - end, "reason": "the log file was cut"}])
        self.offset = 0
        return True

    def close(self) -> None:
        """Let go of the file and the log; harmless if that was done."""
        self._unwatch()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _nothing() -> None:
    """Nothing was watched."""


async def _start_of_last_lines(fd: int, end: int, lines: int) -> int:
    """Offset of the first byte of the last `lines` lines; a last line without its newline counts as one.

    A log may be large and the lines many: the loop gets its turn after each piece.
    """
    if lines == 0 or end == 0:
        return end
    position, wanted = end, lines
    if os.pread(fd, 1, end - 1) == b"\n":
        wanted += 1
    while position > 0:
        size = min(_LOOK_BACK_BYTES, position)
        block = os.pread(fd, size, position - size)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            wanted -= 1
            if wanted == 0:
                return position - size + at + 1
        position -= size
        await asyncio.sleep(0)
    return 0


class Streams:
    """The streams of one connection, by number."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sources: dict[int, Source] = {}
        self._last = 0

    def begin(self, source: Source) -> int:
        """Start a stream and return its number, which is never given again on this connection.

        Its first notification follows the answer to the request that began it.  Raises TooLarge for one stream
        too many.
        """
        if len(self._tasks) >= MAX_STREAMS:
            source.close()
            raise TooLarge(f"{MAX_STREAMS} streams run on this connection", "cancel one, or connect again")
        self._last += 1
        number = self._last
        task = asyncio.get_running_loop().create_task(self._run(source, number))
        self._tasks[number] = task
        self._sources[number] = source
        task.add_done_callback(lambda _: self._forget(number, source))
        return number

    def _forget(self, number: int, source: Source) -> None:
        # A task that is cancelled before its first turn never comes to its own end.
        source.close()
        self._sources.pop(number, None)
        if self._tasks.pop(number, None) is not None:
            self._outlet.stream_ended()

    async def _run(self, source: Source, number: int) -> None:
        try:
            await source.run(number, self._outlet)
        except OSError as error:
            log.warning("log cannot be read", reason=str(error))
            self._outlet.notify("stream.end", [number, {"reason": f"the log cannot be read: {error.strerror}"}])
        except Exception:
            log.exception("stream failed")
            self._outlet.notify("stream.end", [number, {"reason": "procd made a mistake; its log has it"}])

    def any(self) -> bool:
        """Whether one of them runs."""
        return bool(self._tasks)

    def source(self, number: int) -> Source | None:
        """Look up what a stream is made of; None if there is none of this number."""
        return self._sources.get(number)

    def cancel(self, number: int) -> bool:
        """End a stream without a further word; return whether there was one."""
        task = self._tasks.pop(number, None)
        if task is None:
            return False
        task.cancel()
        return True

    def send_rest(self) -> None:
        """Send, without waiting for room, what is there and was not sent: the last words before the end."""
        for number, source in tuple(self._sources.items()):
            try:
                source.send_rest(number, self._outlet)
            except OSError as error:
                log.warning("log cannot be read", reason=str(error))

    def close(self) -> None:
        """End them all."""
        for number in tuple(self._tasks):
            self.cancel(number)
