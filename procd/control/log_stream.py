"""The stream of a log, at the pace of whoever reads it.

It reads the log *files* up to the end, and goes on when it is told that there is more.  It holds one piece at
most, and reads the next when the connection has room: a slow follower costs disk reads, not memory.  It is told
nothing while the log is quiet, and asks nobody.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from procd.errors import Failed
from procd.output.history import Extent, Gap, History, Reader
from procd.output.logs import Watcher
from procd.output.search import start_of_last_lines, start_since
from procd.wire import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from procd.config.spec import LogSpec
    from procd.control.streams import Outlet
    from procd.output.logs import Logs
    from procd.output.streams import StreamKey

#: Pieces that a stream may send at the end of procd without asking whether there is room.
REST_CHUNKS = 4

#: A client asks for what comes after more than there ever was.
_BEYOND = "the log does not go so far: it was cut, or it is another one"
END_OF_LOG = "end of log"


class Beginning(NamedTuple):
    """Where a stream is to begin: at one of these, or with the oldest byte that is left."""

    lines: int | None = None
    offset: int | None = None
    since_s: float | None = None


class LogStream:
    """One log, from a chosen place to its end, and on with it if it is followed.

    `spec` says how the log is kept now, None when it is not any more.
    """

    def __init__(self, logs: Logs, key: StreamKey, spec: Callable[[], LogSpec | None], *, follow: bool) -> None:
        self._logs = logs
        self._key = key
        self._spec = spec
        self._follow = follow
        self._gap: Gap | None = None
        self._limit: int | None = None
        self._over = ""
        #: When the log was last seen to be where it is (Unix time).
        self._seen_s = time.time()
        self._changed = asyncio.Event()
        kept = spec()
        assert kept is not None, "a stream of a log that is not kept"  # noqa: S101 - the caller has looked
        self._history = History(kept.path, kept.keep, self._known)
        self._reader = Reader(self._history, 0)
        self._unwatch = _nothing
        if follow:
            # From the beginning, so that nothing is missed that happens before the first turn of the stream.
            self._watch()

    def _watch(self) -> None:
        self._unwatch = self._logs.watch(self._key, Watcher(self._changed.set, self._end))

    def _known(self) -> Extent | None:
        """What the logger says of these files, if it is they that it writes."""
        if self._logs.path(self._key) != self._history.path:
            return None
        self._seen_s = time.time()
        start, end = self._logs.starts(self._key), self._logs.reaches(self._key)
        # A log that it has not opened yet has none.
        return Extent(start, end) if end else None

    @property
    def offset(self) -> int:
        """The place in the log that was come to."""
        return self._reader.offset

    async def start_at(self, beginning: Beginning, pause: Callable[[], Awaitable[None]]) -> None:
        """Choose where to begin.

        A log that does not exist yet is empty.  Raises Failed when it cannot be read; this is closed then.
        """
        try:
            # Many may ask at once, and each opens some files.
            await pause()
            self._reader.offset = await self._find(beginning, pause)
        except OSError as error:
            self.close()
            raise Failed(f"the log {self._history.path} cannot be read: {error.strerror}") from error
        except BaseException:
            # Whoever asked went away during the search.
            self.close()
            raise

    async def _find(self, beginning: Beginning, pause: Callable[[], Awaitable[None]]) -> int:
        start, end = self._history.extent()
        if not self._follow:
            # What is written from now on is not waited for: one that floods would have no end.
            self._limit = end
        lines, offset, since_s = beginning
        if offset is not None:
            if offset <= end:
                return offset
            self._gap = Gap(offset - end, _BEYOND)
            return start
        if lines is not None:
            return await start_of_last_lines(self._history, end, lines, pause)
        kept = self._spec()
        if since_s is not None and kept is not None:
            return await start_since(self._history, end, since_s, kept.format.value, pause)
        return self._history.first()

    def _end(self, reason: str) -> None:
        self._over = reason
        self._changed.set()

    async def run(self, number: int, outlet: Outlet) -> None:
        """Send the stream as notifications until it ends."""
        try:
            if self._gap is not None:
                self._tell(number, outlet, self._gap)
            while True:
                self._changed.clear()
                over = self._over
                self._keep_up()
                await self._send_what_is_there(number, outlet)
                if not self._follow or (over and not self._goes_on(number, outlet)):
                    outlet.notify("stream.end", [number, {"reason": over or END_OF_LOG}])
                    return
                await self._changed.wait()
        finally:
            self.close()

    def _keep_up(self) -> None:
        """Take note of how many old files are kept now."""
        kept = self._spec()
        if kept is not None:
            self._history.keep = kept.keep

    async def _send_what_is_there(self, number: int, outlet: Outlet) -> None:
        while True:
            await outlet.room()
            if self._step(number, outlet):
                return

    def _step(self, number: int, outlet: Outlet) -> bool:
        """Send one piece; returns whether that is all for now."""
        offset = self._reader.offset
        step = self._reader.step(MAX_CHUNK_BYTES, self._limit)
        if isinstance(step, Gap):
            self._tell(number, outlet, step)
        elif step:
            outlet.notify("stream.data", [number, {"data": step, "offset": offset}])
        return step == b""

    def _tell(self, number: int, outlet: Outlet, gap: Gap) -> None:
        """Tell what is missing, and where the log goes on."""
        body = {"bytes": gap.size, "reason": gap.reason, "next": self._reader.offset}
        outlet.notify("stream.gap", [number, body])

    def _goes_on(self, number: int, outlet: Outlet) -> bool:
        """Follow a log that was given another path, if it was begun there.

        One that was there before holds what this program, or another, wrote long ago, and nobody knows where
        that ends: the stream ends then.
        """
        kept = self._spec()
        if kept is None or kept.path == self._history.path or kept.path != self._logs.path(self._key):
            return False
        self._reader.close()
        self._history = History(kept.path, kept.keep, self._known)
        newest = self._history.begun()
        if newest is not None and newest < int(self._seen_s):
            return False
        self._reader = Reader(self._history, self._history.first())
        self._tell(number, outlet, Gap(0, self._over))
        self._over = ""
        self._watch()
        # It may have grown meanwhile.
        self._changed.set()
        return True

    def send_rest(self, number: int, outlet: Outlet) -> None:
        """Send now what a follower has not had yet, to a bound; whoever has more to read comes back for it."""
        for _ in range(REST_CHUNKS):
            if self._step(number, outlet):
                return

    def close(self) -> None:
        """Let go of the file and the log; harmless if that was done."""
        self._unwatch()
        self._reader.close()


def _nothing() -> None:
    """Nothing was watched."""
