"""What a supervisor does that finds another in its place, whose keeper is dead: it takes over.

Owns the order: our keeper has everything before the predecessor is told so, and the predecessor is dead before
anybody adopts.  Must not know what is in a record.  The predecessor's side is `bequest`.

Our keeper remembers how far it came, in the record `bequest`, because we may be killed on the way.  Its lines:

    path                        records of who listens there (in hexadecimal) are coming, and worth nothing yet
    path, pid, started, starts  all are there; who had them, and how many supervisors there were until then
"""

from __future__ import annotations

import asyncio
import contextlib
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
        self._connection: socket.socket
        #: The PID of the predecessor, and a descriptor for it.
        self._pid = 0
        self._predecessor = -1

    async def take(self, connection: socket.socket) -> bool:
        """Take it, or drop it; see `inherit`."""
        with connection:
            self._connection = connection
            self._pid, _, _ = peer(connection)
            predecessor = _open(self._pid)
            if predecessor is None:
                log.error("not taken over: nobody is there", peer=self._pid)
                return await self._fail(None)
            self._predecessor = predecessor
            try:
                return await self._take()
            finally:
                os.close(predecessor)

    async def _take(self) -> bool:
        pid, predecessor = self._pid, self._predecessor
        try:
            await self._relay()
        except FailedError as error:
            if not self._is_confirmed:
                log.error("not taken over", peer=pid, reason=str(error))  # noqa: TRY400 - it is no error of ours
                self._connection.close()
                return await self._fail(predecessor)
            # It was after it had told us all.
            log.error("not all was taken over", peer=pid, reason=str(error))  # noqa: TRY400 - as above
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

    async def _relay(self) -> None:
        """Pass everything on, confirm it, and pass on what is said until then.  Raises FailedError."""
        memory = self._memory
        before = memory.on_synced, memory.on_refused, memory.on_lost
        memory.on_synced = self._on_synced
        memory.on_refused = self._on_refused
        memory.on_lost = lambda: self._on_lost(before[2])
        try:
            if messages.has_ended(self._connection):
                # And the PID may be anybody's by now.
                raise FailedError("it is gone")
            started = identity(self._pid)[1]
            if not started:
                raise FailedError("/proc does not say who it is")
            whose = {"path": self._path, "pid": self._pid, "started": started}
            while received := await self._next():
                if not self._has_begun:
                    self._begin()
                self._pass_on(*received, whose)
                await memory.settle()
                # The keeper asks us meanwhile how we are.
                await asyncio.sleep(0)
            if not self._is_confirmed:
                raise FailedError("it is gone")
        finally:
            memory.on_synced, memory.on_refused, memory.on_lost = before

    async def _next(self) -> tuple[bytes, list[int]] | None:
        """The next datagram; None when there will be no other.  Raises FailedError."""
        while True:
            if self._failure and not self._is_confirmed:
                raise FailedError(self._failure)
            # In this order: what it says in between is not missed.  A child of it may have the connection, too.
            ended = _has_ended(self._predecessor)
            try:
                return messages.receive(self._connection)
            except BlockingIOError:
                if ended:
                    return None
            await self._something()

    async def _something(self) -> None:
        """Wait for a word of the predecessor or our keeper, or the end of the former.  Raises FailedError."""
        self._woken = self._loop.create_future()
        sources = self._connection, self._predecessor
        for source in sources:
            self._loop.add_reader(source, self._wake)
        try:
            async with asyncio.timeout(self._patience_s):
                await self._woken
        except TimeoutError:
            if not self._is_confirmed:
                raise FailedError(f"nothing was said for {self._patience_s:g} s") from None
            _kill(self._predecessor)
        finally:
            for source in sources:
                self._loop.remove_reader(source)

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # What the predecessor says

    def _pass_on(self, datagram: bytes, fds: list[int], whose: dict[str, object]) -> None:
        at = 0
        try:
            for verb, key, value, wanted in messages.decode(datagram):
                if len(fds) < at + wanted:
                    raise FailedError(f"the descriptors of {key!r} have not come")
                if verb in {messages.PUT, messages.DROP}:
                    self._change(verb, key, value, fds[at : at + wanted], whose)
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

    def _change(self, verb: int, key: bytes, value: bytes, fds: list[int], whose: dict[str, object]) -> None:
        name = key.decode(errors="surrogateescape")
        about = messages.fields(value[len(HERE) :]) if key == BEQUEST_KEY else {}
        if [*about] == ["starts"]:
            self._memory.put(_MARK, messages.lines(**whose, starts=int(about["starts"])))
            self.is_complete = True
            return
        if key == BEQUEST_KEY or key.startswith(OF_THE_KEEPER):
            if verb == messages.PUT:
                self._on_refused(name, "that is a keeper's own")
            # Otherwise it was about a record of the dead keeper, and not about ours of the same name.
            return
        (self._keys.add if verb == messages.PUT else self._keys.discard)(name)
        self._memory.pass_on(verb, key, value, fds)

    # What our keeper says

    def _on_synced(self, ours: bytes) -> None:
        if self._failure and not self._is_confirmed:
            # It may have been heard in the same moment as the failure before it: it is never confirmed.
            return
        token, was_all = self._asked.get(ours, (b"", False))
        outcome = messages.send(self._connection, messages.encode(messages.SYNCED, b"", token))
        if outcome == messages.SENT:
            self._is_confirmed = self._is_confirmed or was_all
        elif outcome != messages.GONE:
            # If it is gone there may still be something that it has said.
            self._failure = "it does not hear us"
        self._wake()

    def _on_refused(self, key: str, reason: str) -> None:
        said = key.encode(errors="surrogateescape"), reason.encode()
        messages.send(self._connection, messages.encode(messages.REFUSED, *said))
        self._failure = self._failure or f"{key!r} is refused: {reason}"
        if self._is_confirmed:
            # It has said so too late to be told that this is not so.
            log.error("something was not taken over", key=key, reason=reason)
            return
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
    if _has_ended(pidfd) or (started and identity(pid)[1] != started):
        os.close(pidfd)
        return None
    return pidfd


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _kill(pidfd: int) -> None:
    log.error("the predecessor does not end, and is killed")
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


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
        _kill(pidfd)
