"""Being attached to a program: its output from now on, of all its streams, until the life that was there ends.

Owns the joining of several logs to one stream, and its end.  How a log is read is `streams`'.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from procd.core import State
from procd.core.policy import is_success
from procd.errors import WrongState
from procd.output.streams import StreamKey
from procd.runtime.record import exit_to_wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.control.streams import Outlet, Source
    from procd.core import Exit
    from procd.runtime import Runtime
    from procd.runtime.console import Size
    from procd.runtime.life import Life

#: Seconds for which the last words are waited for: a log that cannot be written must not hold the end back.
SYNC_S = 5.0


class Attachment:
    """A stream of what one life writes.

    `sources` are its logs by stream, each with the offset where it begins.  Its end tells how the life ended.
    """

    def __init__(self, runtime: Runtime, life: Life, sources: Mapping[str, tuple[Source, int]]) -> None:
        self._runtime = runtime
        self._life = life
        self._sources = sources
        self._parts: dict[str, _Part] = {}
        self._closed = False
        self._told = False
        #: Until what the life wrote is in its logs.
        self._synced: asyncio.Task[bool] | None = None
        self._over: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        life.on_over += (self._on_over,)

    def look(self, size: Size) -> None:
        """Say how large the viewer's screen is.

        Raises WrongState for a program without a terminal, and when this has ended.
        """
        if self._closed:
            raise WrongState(f"this attachment to {self._life.name} has ended", "attach again")
        if self._life.console is None:
            raise WrongState(f"{self._life.name} has no terminal", "give it `terminal = true`")
        self._life.console.look(self, size)

    def _on_over(self, ended: Exit) -> None:
        program = self._runtime.machine.programs[self._life.name]
        stopped = program.state is State.STOPPING
        if self._over.done():
            return
        keys = [StreamKey(self._life.name, stream) for stream in self._sources]
        # Asked now, so that nothing of the next life is waited for.
        self._synced = asyncio.create_task(self._runtime.around.logs.sync(keys, SYNC_S))
        self._over.set_result({
            "reason": "it was stopped" if stopped else str(ended),
            "exit": exit_to_wire(ended),
            "ok": stopped or is_success(ended, program.spec.success),
        })  # fmt: skip

    async def run(self, number: int, outlet: Outlet) -> None:
        """Send the output until the life is over, and then its end."""
        self._parts = {stream: _Part(outlet, stream, at) for stream, (_, at) in self._sources.items()}
        tasks = {
            asyncio.create_task(source.run(number, self._parts[stream]))
            for stream, (source, _) in self._sources.items()
        }
        try:
            await self._until_over(tasks)
            last = {"reason": "the program was removed", "exit": None, "ok": True}
            if self._over.done():
                last = self._over.result()
                await self._send_the_rest(tasks)
            self._send_end(number, outlet, last)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.close()

    async def _until_over(self, tasks: set[asyncio.Task[None]]) -> None:
        """Wait for the end of the life, or of all its logs."""
        going = set(tasks)
        while going and not self._over.done():
            awaited: set[asyncio.Future[Any]] = {*going, self._over}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            for task in {task for task in going if task.done()}:
                going.discard(task)
                task.result()

    async def _send_the_rest(self, tasks: set[asyncio.Task[None]]) -> None:
        """Send what the life wrote until its end, at the pace of whoever reads."""
        if self._synced is not None:
            await self._synced
        for stream, part in self._parts.items():
            waiting = asyncio.create_task(part.until(self._end_of(stream)))
            going = {task for task in tasks if not task.done()}
            try:
                await asyncio.wait({waiting, *going}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()

    def _end_of(self, stream: str) -> int:
        """Offset of the end of what the life wrote, or a little more: what the next one wrote at once."""
        name = self._life.name
        reached = self._runtime.around.logs.reaches(StreamKey(name, stream))
        life = self._runtime.life(name)
        begins = None if life is None or life is self._life else life.log_starts.get(stream)
        return reached if begins is None else min(begins, reached)

    def send_rest(self, number: int, outlet: Outlet) -> None:
        """Send now what is there and was not sent; and how the life ended, if that was all of it."""
        for stream, (source, at) in self._sources.items():
            source.send_rest(number, self._parts.setdefault(stream, _Part(outlet, stream, at)))
        if self._over.done() and all(part.reached >= self._end_of(each) for each, part in self._parts.items()):
            self._send_end(number, outlet, self._over.result())

    def _send_end(self, number: int, outlet: Outlet, last: dict[str, Any]) -> None:
        if not self._told:
            self._told = True
            outlet.notify("stream.end", [number, last])

    def close(self) -> None:
        """Look no more; harmless if that was done."""
        self._closed = True
        self._life.on_over = tuple(each for each in self._life.on_over if each != self._on_over)
        if self._synced is not None:
            self._synced.cancel()
        if self._life.console is not None:
            self._life.console.leave(self)
        for source, _ in self._sources.values():
            source.close()


class _Part:
    """The outlet of one of the logs: what it sends is marked with the name of its stream.

    `reached` is the offset up to which everything was sent.
    """

    def __init__(self, outlet: Outlet, stream: str, reached: int) -> None:
        self._outlet = outlet
        self._stream = stream
        self._moved = asyncio.Event()
        self.reached = reached

    def notify(self, method: str, params: list[Any]) -> None:
        """Pass a notification on, but for the end: that is said once for all."""
        number, body = params
        if method == "stream.end":
            return
        if "offset" in body:
            self.reached = body["offset"] + len(body["data"])
        else:
            self.reached += body["bytes"]
        self._moved.set()
        self._outlet.notify(method, [number, {**body, "stream": self._stream}])

    async def room(self) -> None:
        """Return when the peer has read enough of what it was sent."""
        await self._outlet.room()

    def stream_ended(self) -> None:
        """Take note of nothing: the stream is that of all parts."""

    async def until(self, offset: int) -> None:
        """Return when everything before an offset was sent."""
        while self.reached < offset:
            self._moved.clear()
            await self._moved.wait()
