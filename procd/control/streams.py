"""The streams of a connection: what each is made of, where it goes, and that it has an end."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import structlog

from procd.errors import TooLarge

log = structlog.get_logger()

#: Streams that one connection may have at once: more programs than anybody reads side by side.
MAX_STREAMS = 64


class Outlet(Protocol):
    """Where a stream goes: a connection."""

    def notify(self, method: str, params: list[Any]) -> None:
        """Send a notification."""

    async def room(self) -> None:
        """Return when all others had their turn, and the peer has read what it was sent."""

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


class Streams:
    """The streams of one connection, by number."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sources: dict[int, Source] = {}
        self._last = 0

    async def pause(self) -> None:
        """Let all others have their turn, during the search for where a stream is to begin."""
        await self._outlet.room()

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
