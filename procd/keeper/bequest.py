"""What a supervisor does whose keeper is dead: it goes on, until another keeper holds all that it has.

Owns the socket where a successor is waited for.  Must not know what is bequeathed.  The successor is the
supervisor of another keeper; its side is `inheritance`.

Nothing of what we hold is given up before the successor has said that its keeper has everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from procd.keeper import messages
from procd.keeper.client import Memory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger()

#: In the runtime directory.
SOCKET_NAME = "keeper.sock"
#: How long a successor may take for everything; then the next one gets its turn.
PATIENCE_S = 60.0
#: After an accept that found no descriptor.
_AGAIN_S = 1.0
_BACKLOG = 8
_TOKEN = b"bequest"
#: PID, user and group of a peer (SO_PEERCRED, unix(7)).
_CREDENTIALS = struct.Struct("=iII")


class Bequest:
    """Waits for a successor, at a path; when `done` is resolved, everything is with that one: exit at once.

    `bequeath` puts everything into the memory that it is given, which is the successor's: what changes
    afterwards must be put there, too.  It may be cancelled, and is called again for the next successor.  A
    keeper's own records (`keeper`, `exit:`, `child:`, `activated:`, `bequest`) are refused.

    `starts` is how many supervisors there were, as the record `keeper` has told us.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        bequeath: Callable[[Memory], Awaitable[None]],
        *,
        starts: int = 1,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Listen from now on; what is at the path is removed.  Raises OSError."""
        self._loop = loop
        self._path = path
        self._bequeath = bequeath
        self._starts = starts
        self._patience_s = patience_s
        self._serving: asyncio.Task[None] | None = None
        self.done: asyncio.Future[None] = loop.create_future()
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            # Who connects before the mode is right is asked for its user all the same.
            self._listener.bind(path)
            Path(path).chmod(0o600)
            self._listener.listen(_BACKLOG)
        except OSError:
            self._listener.close()
            raise
        self._listen()

    def _listen(self) -> None:
        if self._listener.fileno() >= 0 and not self.done.done():
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Probably for want of descriptors, which come back.
            log.error("a successor cannot be heard", error=error.strerror)  # noqa: TRY400 - it is known where
            self._loop.remove_reader(self._listener)
            self._loop.call_later(_AGAIN_S, self._listen)
            return
        pid, uid, _ = peer(connection)
        if uid not in {0, os.geteuid()}:
            log.error("who would be successor is somebody else's", peer=pid, uid=uid)
            connection.close()
            return
        # One at a time: the others wait in the backlog.
        self._loop.remove_reader(self._listener)
        self._serving = self._loop.create_task(self._serve(connection, pid))

    async def _serve(self, connection: socket.socket, pid: int) -> None:
        log.warning("a successor takes over", peer=pid)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, messages.SEND_BUFFER_BYTES)
        connection.setblocking(False)
        memory = Memory(self._loop, connection)
        try:
            await self._hand_over(memory, connection)
        except Exception as error:  # noqa: BLE001 - whatever it was, we go on, and the next one may have more luck
            log.error("a successor has not taken over", peer=pid, error=f"{type(error).__name__}: {error}")  # noqa: TRY400 - as above
            memory.close()
            self._listen()
            return
        except BaseException:
            memory.close()
            raise
        # The end of the connection is ours: we are about to end.
        self.close()
        if not self.done.done():
            self.done.set_result(None)

    async def _hand_over(self, memory: Memory, connection: socket.socket) -> None:
        """Put everything, and return when the other keeper has it.  Raises anything otherwise."""
        answer: asyncio.Future[str | None] = self._loop.create_future()

        def answered(what: str | None) -> None:
            if not answer.done():
                answer.set_result(what)

        memory.on_lost = lambda: answered("it is gone")
        memory.on_refused = lambda key, reason: answered(f"it refuses {key!r}: {reason}")
        memory.on_synced = lambda token: answered(None) if token == _TOKEN else None
        giving: asyncio.Future[str | None] = self._loop.create_task(self._give(memory))
        try:
            async with asyncio.timeout(self._patience_s):
                await asyncio.wait([giving, answer], return_when=asyncio.FIRST_COMPLETED)
                if giving.done():
                    await giving
                await asyncio.wait([answer])
        except TimeoutError:
            # From now on it cannot tell us any more that it has everything; perhaps it already has.
            memory.on_lost = lambda: answered("it has taken too long")
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            memory.read()
            answered("it has taken too long")
        finally:
            giving.cancel()
            await asyncio.wait([giving])
        reason = answer.result()
        if reason is not None:
            raise NotTakenError(reason)

    async def _give(self, memory: Memory) -> None:
        await self._bequeath(memory)
        memory.put(messages.BEQUEST_KEY.decode(), messages.lines(starts=self._starts))
        memory.sync(_TOKEN)

    def close(self) -> None:
        """Wait for nobody any more."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            with contextlib.suppress(OSError):
                Path(self._path).unlink()
        if self._serving is not None and self._serving is not asyncio.current_task(self._loop):
            self._serving.cancel()


class NotTakenError(Exception):
    """A successor has not taken over: why."""


def peer(connection: socket.socket) -> tuple[int, int, int]:
    """PID, user and group of who is at the other end (of who listens there, if we have connected)."""
    pid, uid, gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return pid, uid, gid
