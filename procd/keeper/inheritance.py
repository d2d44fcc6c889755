"""What a supervisor does that finds another in its place, whose keeper is dead: it takes over.

Owns the order: our keeper has everything before the predecessor is told so, and the predecessor is dead before
anybody adopts.  Must not know what is in a record.  The predecessor's side is `bequest`.

Our keeper remembers how far it came, in the record `bequest`, because we may be killed on the way.  Its lines:

    path                        records of who listens there (in hexadecimal) are coming, and worth nothing yet
    path, pid, started, starts  all are there; who had them, and how many supervisors there were until then
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from typing import TYPE_CHECKING

import structlog

from procd.keeper import messages
from procd.keeper.bequest import peer
from procd.keeper.messages import BEQUEST_KEY, HERE, OF_THE_KEEPER
from procd.keeper.orphans import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procd.keeper.client import Memory
    from procd.keeper.line import Record

log = structlog.get_logger()

#: How long a predecessor may say nothing; and how long it may take to end before it is killed.
PATIENCE_S = 20.0
_OF_THE_KEEPER = tuple(prefix.decode() for prefix in OF_THE_KEEPER)
_MARK = BEQUEST_KEY.decode()
#: What the predecessor may say because it takes us for a keeper, and what is nothing to ours.
_FOR_A_KEEPER = {messages.HELLO, messages.UP, messages.PONG, messages.GIVE, messages.NOTIFY}


class FailedError(Exception):
    """Nothing was taken over: why."""


def claim(path: str) -> socket.socket | None:
    """Connect to the supervisor of our user that waits at a path for a successor; None if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        connection.connect(path)
        if peer(connection)[1] == os.geteuid():
            return connection
    except OSError:
        # Nobody listens, or nobody accepts.
        pass
    connection.close()
    return None


async def inherit(
    loop: asyncio.AbstractEventLoop,
    connection: socket.socket,
    memory: Memory,
    *,
    patience_s: float = PATIENCE_S,
) -> bool:
    """Have our keeper hold all that the predecessor holds to whom we are connected (`claim`).

    True: it does, and the predecessor is dead; recall, and adopt.  False: the predecessor goes on, and what
    came of it was dropped.  The connection is closed in the end.
    """
    path = os.fsencode(connection.getpeername()).hex()
    return await _Inheritance(loop, memory, path, patience_s).take(connection)


async def resume(
    loop: asyncio.AbstractEventLoop,
    memory: Memory,
    records: Iterable[Record],
    *,
    patience_s: float = PATIENCE_S,
) -> bool:
    """See to what a supervisor before us may have begun to take over, when it was killed on the way.

    True: what was recalled stands.  False: it does not; close it, and recall again.  It was dropped, or it has
    come once more, from a predecessor that still lived.
    """
    values = {record.key: record.value for record in records}
    if _MARK not in values:
        return True
    mark = messages.fields(values.pop(_MARK))
    keys = {key for key in values if not key.startswith(_OF_THE_KEEPER)}
    inheritance = _Inheritance(loop, memory, mark["path"], patience_s, keys)
    if "pid" not in mark:
        await inheritance.drop()
        return False
    predecessor = _open(int(mark["pid"]), int(mark["started"]))
    if predecessor is None:
        return True
    try:
        connection = claim(os.fsdecode(bytes.fromhex(mark["path"])))
        if connection is None:
            # It was told that we have everything, and is about to end.
            await _end(loop, predecessor, patience_s)
            return True
    finally:
        os.close(predecessor)
    inheritance.is_complete = True
    await inheritance.take(connection)
    return False


class _Inheritance:
    """What one predecessor has, on its way to our keeper.

    `keys` are those that our keeper has already; `is_complete`: which was all, at some time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        memory: Memory,
        path: str,
        patience_s: float,
        keys: Iterable[str] = (),
    ) -> None:
        self._loop = loop
        self._memory = memory
        self._path = path
        self._patience_s = patience_s
        self._keys = set(keys)
        self.is_complete = False
        self._has_begun = False
        self._is_confirmed = False
        self._failure = ""
        #: What the predecessor has asked and our keeper has not answered: the token, and if that was the end.
        self._asked: dict[bytes, tuple[bytes, bool]] = {}
        self._woken: asyncio.Future[None] | None = None

    async def take(self, connection: socket.socket) -> bool:
        """Take it, or drop it; see `inherit`."""
        with connection:
            pid, _, _ = peer(connection)
            predecessor = _open(pid)
            if predecessor is None:
                log.error("not taken over: nobody is there", peer=pid)
                return await self._fail(None)
            try:
                return await self._take(connection, pid, predecessor)
            finally:
                os.close(predecessor)

    async def _take(self, connection: socket.socket, pid: int, predecessor: int) -> bool:
        try:
            await self._relay(connection, pid)
        except FailedError as error:
            log.error("not taken over", peer=pid, reason=str(error))  # noqa: TRY400 - it is no error of ours
            connection.close()
            return await self._fail(predecessor)
        await _end(self._loop, predecessor, self._patience_s)
        log.warning("taken over", peer=pid, records=len(self._keys))
        return True

    async def _fail(self, predecessor: int | None) -> bool:
        """Whether we have everything all the same; otherwise drop it."""
        if self.is_complete and (predecessor is None or await _ends(self._loop, predecessor, self._patience_s)):
            return True
        await self.drop()
        return False

    async def drop(self) -> None:
        """Have nothing kept of what came."""
        if self._keys or self._has_begun:
            self._begin()
            self._memory.drop(_MARK)
            await self._memory.settle()

    def _begin(self) -> None:
        """From now on what our keeper has is worth nothing, until it is complete."""
        self._has_begun = True
        self.is_complete = False
        self._memory.put(_MARK, messages.lines(path=self._path))
        for key in self._keys:
            self._memory.drop(key)
        self._keys.clear()

    async def _relay(self, connection: socket.socket, pid: int) -> None:
        """Pass everything on, and confirm it.  Raises FailedError."""
        memory = self._memory
        before = memory.on_synced, memory.on_refused, memory.on_lost
        memory.on_synced = lambda token: self._on_synced(connection, token)
        memory.on_refused = lambda key, reason: self._on_refused(connection, key, reason)
        memory.on_lost = lambda: self._on_lost(before[2])
        try:
            if messages.has_ended(connection):
                # And the PID may be anybody's by now.
                raise FailedError("it is gone")
            whose = {"path": self._path, "pid": pid, "started": identity(pid)[1]}
            while received := await self._next(connection):
                if not self._has_begun:
                    self._begin()
                self._pass_on(connection, *received, whose)
                await memory.settle()
                # The keeper asks us meanwhile how we are.
                await asyncio.sleep(0)
        finally:
            memory.on_synced, memory.on_refused, memory.on_lost = before

    async def _next(self, connection: socket.socket) -> tuple[bytes, list[int]] | None:
        """The next datagram; None when the predecessor knows that it has told us all.  Raises FailedError."""
        while True:
            if self._failure:
                raise FailedError(self._failure)
            if self._is_confirmed:
                return None
            try:
                received = messages.receive(connection)
            except BlockingIOError:
                await self._something(connection)
                continue
            if received is None:
                raise FailedError("it is gone")
            return received

    async def _something(self, connection: socket.socket) -> None:
        """Wait until the predecessor or our keeper has said something.  Raises FailedError."""
        self._woken = self._loop.create_future()
        self._loop.add_reader(connection, self._wake)
        try:
            async with asyncio.timeout(self._patience_s):
                await self._woken
        except TimeoutError:
            raise FailedError(f"nothing was said for {self._patience_s:g} s") from None
        finally:
            self._loop.remove_reader(connection)

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # What the predecessor says

    def _pass_on(
        self, connection: socket.socket, datagram: bytes, fds: list[int], whose: dict[str, object]
    ) -> None:
        at = 0
        try:
            for verb, key, value, wanted in messages.decode(datagram):
                if len(fds) < at + wanted:
                    raise FailedError(f"the descriptors of {key!r} have not come")
                if verb in {messages.PUT, messages.DROP}:
                    self._change(connection, verb, key, value, fds[at : at + wanted], whose)
                elif verb == messages.SYNC and len(value) <= messages.MOST_KEY_BYTES:
                    ours = str(len(self._asked)).encode()
                    self._asked[ours] = value, self.is_complete
                    self._memory.sync(ours)
                elif verb not in _FOR_A_KEEPER:
                    raise FailedError(f"it asks for {verb}, which we do not do")
                at += wanted
        except ValueError as error:
            raise FailedError(f"it says what is no message: {error}") from error
        except OSError as error:
            raise FailedError(f"there is no room for its descriptors: {error.strerror}") from error
        finally:
            messages.close_all(fds)

    def _change(
        self,
        connection: socket.socket,
        verb: int,
        key: bytes,
        value: bytes,
        fds: list[int],
        whose: dict[str, object],
    ) -> None:
        name = key.decode(errors="surrogateescape")
        about = messages.fields(value[len(HERE) :]) if key == BEQUEST_KEY else {}
        if [*about] == ["starts"]:
            self._memory.put(_MARK, messages.lines(**whose, starts=int(about["starts"])))
            self.is_complete = True
            return
        if key == BEQUEST_KEY or key.startswith(OF_THE_KEEPER):
            if verb == messages.PUT:
                self._on_refused(connection, name, "that is a keeper's own")
            # Otherwise it was about a record of the dead keeper, and not about ours of the same name.
            return
        (self._keys.add if verb == messages.PUT else self._keys.discard)(name)
        self._memory.pass_on(verb, key, value, fds)

    # What our keeper says

    def _on_synced(self, connection: socket.socket, ours: bytes) -> None:
        token, was_all = self._asked.get(ours, (b"", False))
        if messages.send(connection, messages.encode(messages.SYNCED, b"", token)) != messages.SENT:
            self._failure = "it does not hear us"
        elif was_all:
            self._is_confirmed = True
        self._wake()

    def _on_refused(self, connection: socket.socket, key: str, reason: str) -> None:
        said = key.encode(errors="surrogateescape"), reason.encode()
        messages.send(connection, messages.encode(messages.REFUSED, *said))
        self._failure = self._failure or f"{key!r} is refused: {reason}"
        self.is_complete = False
        self._wake()

    def _on_lost(self, before: Callable[[], None]) -> None:
        self._failure = "our own keeper is gone"
        before()
        self._wake()


def _open(pid: int, started: int = 0) -> int | None:
    """A descriptor for a process that lives, and had started at this time (0: any); None if it does not."""
    if pid <= 0:
        # In another PID namespace: what we cannot see end we cannot take over from.
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if poll.poll(0) or (started and identity(pid)[1] != started):
        os.close(pidfd)
        return None
    return pidfd


async def _ends(loop: asyncio.AbstractEventLoop, pidfd: int, within_s: float) -> bool:
    """Wait for the end of a process; whether it came in time."""
    ended = loop.create_future()
    loop.add_reader(pidfd, lambda: None if ended.done() else ended.set_result(None))
    try:
        async with asyncio.timeout(within_s):
            await ended
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True


async def _end(loop: asyncio.AbstractEventLoop, pidfd: int, patience_s: float) -> None:
    """Wait for the end of a process, and help it in the end: two must never supervise."""
    while not await _ends(loop, pidfd, patience_s):
        log.error("the predecessor does not end, and is killed")
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            continue
