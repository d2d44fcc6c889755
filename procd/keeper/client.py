"""What the supervisor has of the keeper: its memory, on an asyncio loop.

Owns the channel on that loop.  Must not know what its records mean.
"""

from __future__ import annotations

import errno
import faulthandler
from dataclasses import dataclass
from typing import TYPE_CHECKING

from procd.keeper.line import NOTHING, ROOM, TIME, Line, channel_of
from procd.keeper.messages import EXIT, EXIT_PREFIX, KEEPER_KEY, fields

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, MutableMapping

    from procd.keeper.line import Record

_EXIT_PREFIX, _KEEPER = EXIT_PREFIX.decode(), KEEPER_KEY.decode()
#: How long to wait where the kernel does not tell when it can take more (`messages.LATER_UNTOLD`).
_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class KeptExit:
    """How a process ended whose parent was dead; `status` is a wait status (wait(2)).

    `started_ticks`  since boot, as in /proc/PID/stat: with it a PID is somebody; 0 if it was not known
    `led_session`    it had a session of its own, as the main process of a program has
    """

    key: str
    pid: int
    status: int
    reaped_monotonic_s: float
    started_ticks: int
    user_s: float
    system_s: float
    max_rss_bytes: int
    led_session: bool = False


class Memory(Line):
    """A Line on a loop, which also waits.

    Exits arrive at `on_exit`, now and among what is recalled; the keeper has each until `taken`, which is to be
    said after what follows from it was put: so a crash in between forgets none.  After `on_lost` nothing is
    remembered any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: socket.socket) -> None:
        super().__init__(channel)
        self._loop = loop
        self._again: asyncio.TimerHandle | None = None
        self._settling: list[asyncio.Future[None]] = []
        self._recalling: asyncio.Future[None] | None = None
        self.on_exit: Callable[[KeptExit], None] = _nobody_cares
        self.on_wants = self._on_wants
        loop.add_reader(self.fileno(), self._readable)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop, environ: MutableMapping[str, str]) -> Memory | None:
        """The memory that this process was started with; None without a keeper.

        The keeper sends SIGABRT when it has waited too long for an answer: the traceback goes to stderr.
        """
        channel = channel_of(environ)
        if channel is None:
            return None
        faulthandler.enable()
        return cls(loop, channel)

    async def recall(self) -> list[Record]:
        """Everything that is kept for us, but exits, which go to `on_exit`; the descriptors are the caller's.

        Raises OSError: EMFILE when there is no room for the descriptors of a record (raise the limit and ask
        again: the keeper has it), ECONNRESET when the keeper is gone.
        """
        records: list[Record] = []
        told = self._loop.create_future()
        before = self.on_record, self.on_end, self.on_incomplete
        self.on_record = records.append
        self.on_end = lambda: _resolve(told)
        incomplete: list[str] = []
        self.on_incomplete = incomplete.append
        self._recalling = told
        try:
            self.hello()
            if not self.lost:
                await told
        finally:
            self._recalling = None
            self.on_record, self.on_end, self.on_incomplete = before
        if self.lost:
            raise ConnectionResetError(errno.ECONNRESET, "the keeper is gone")
        if incomplete:
            for record in records:
                record.close()
            raise OSError(errno.EMFILE, f"no room for the descriptors of {incomplete[0]}")
        if any(record.key == _KEEPER and fields(record.value).get("ring") == "1" for record in records):
            self.share_ring()
        return records

    async def catch_up(self) -> None:
        """Wait until all is here that the keeper knew when this was called; at once, when it is gone."""
        # What it has to tell stands behind its answer to the first of them, and before that to the second.
        for _ in range(2):
            if self.lost:
                return
            self._recalling = answered = self._loop.create_future()
            before, self.on_synced = self.on_synced, _resolving(answered)
            try:
                self.sync(b"caught up")
                await answered
            finally:
                self._recalling, self.on_synced = None, before

    def taken(self, kept: KeptExit) -> None:
        """Have an exit forgotten: what follows from it is recorded."""
        self.drop(kept.key)

    async def settle(self) -> None:
        """Wait until the keeper has everything that was said so far; at once, when there is no keeper any more.

        What is to be recorded *before* something is done waits for this, unless `put` was true.
        """
        while not self.settled:
            done = self._loop.create_future()
            self._settling.append(done)
            await done

    def _record(self, key: str, value: bytes, fds: tuple[int, ...], *, whole: bool) -> None:
        if not key.startswith(_EXIT_PREFIX):
            super()._record(key, value, fds, whole=whole)
            return
        pid, status, reaped_ns, ticks, user_us, system_us, peak_kib, led = EXIT.unpack(value[1:])
        usage = user_us / 1e6, system_us / 1e6, peak_kib * 1024
        self.on_exit(KeptExit(key, pid, status, reaped_ns / 1e9, ticks, *usage, led))

    def _readable(self) -> None:
        self.read()

    def _on_wants(self, what: str) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if what == ROOM:
            self._loop.add_writer(self.fileno(), self.flush)
            return
        self._loop.remove_writer(self.fileno())
        if what == TIME:
            self._again = self._loop.call_later(_AGAIN_S, self.flush)
        elif what == NOTHING:
            self._wake()

    def _wake(self) -> None:
        settling, self._settling = self._settling, []
        for future in settling:
            _resolve(future)

    def _be_lost(self) -> None:
        self._loop.remove_reader(self.fileno())
        super()._be_lost()
        if self._recalling is not None:
            _resolve(self._recalling)
        self._wake()

    def close(self) -> None:
        """Say nothing more, and hear nothing."""
        if self.fileno() >= 0:
            self._loop.remove_reader(self.fileno())
            self._loop.remove_writer(self.fileno())
            super().close()
            self._wake()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _resolving(future: asyncio.Future[None]) -> Callable[[bytes], None]:
    return lambda _: _resolve(future)


def _nobody_cares(_: KeptExit) -> None:
    """Without `taken` it is told again to the next."""
