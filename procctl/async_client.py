"""An asyncio client of procd.

Owns one connection, and which task waits for which answer; calls of several tasks share it.  What is asked and
how it is read stands in `procctl.questions`, as for the blocking client.

    async with AsyncClient(timeout_s=10) as client:
        for record in await client.status():
            print(record.name, record.state)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from procctl.absence import gave_up, lost, no_connection, stranger
from procctl.async_methods import AsyncMethods
from procctl.client import ANSWER_GRACE_S, RECEIVE_BYTES
from procctl.dialogue import PROTOCOL, Dialogue, result_of
from procctl.where import find_socket
from procd.errors import ProcdError, RemoteProtocolError, Unreachable
from procd.wire import Notification

if TYPE_CHECKING:
    from types import TracebackType

    from procctl.questions import Question, T
    from procd.wire import Response

MAX_UNTAKEN = 16
"""Notifications that may wait for whoever takes them; before that no more is read, and the daemon waits."""


class AsyncClient(AsyncMethods):
    """One connection to a daemon, opened by the first call and closed at the end of the `async with`.

    `timeout_s` and `reconnect_s` are those of `Client`.  Cancelling a call leaves the connection usable; what
    was asked for may still be carried out.
    """

    def __init__(
        self,
        socket_path: str | None = None,
        timeout_s: float | None = None,
        *,
        reconnect_s: float | None = 60.0,
    ) -> None:
        self.socket_path = find_socket() if socket_path is None else socket_path
        self.timeout_s = timeout_s
        self.reconnect_s = reconnect_s
        self._opening = asyncio.Lock()
        self._connection: _Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave; whoever still waits for an answer gets Unreachable."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def another(self) -> AsyncClient:
        """A client of the same daemon with a connection of its own, as each stream has one."""
        return AsyncClient(self.socket_path, self.timeout_s, reconnect_s=self.reconnect_s)

    async def ask(self, question: Question[T]) -> T:
        """The typed answer to a question; raises like `call`.

        Where the daemon keeps the time itself it is given a moment longer than that.
        """
        patience_s = self.timeout_s if question.takes_s is None else question.takes_s + ANSWER_GRACE_S
        return question.read(await self._call(question.method, question.params, patience_s))

    async def call(self, method: str, /, **params: Any) -> Any:  # noqa: ANN401 - what travels on the wire
        """The result of a method, as it travelled; raises what `Client.call` raises."""
        return await self._call(method, params, self.timeout_s)

    async def _call(self, method: str, params: dict[str, Any], patience_s: float | None) -> Any:  # noqa: ANN401 - the same
        try:
            async with asyncio.timeout(patience_s):
                connection = await self._connected()
                return result_of(await connection.answer(method, params))
        except TimeoutError:
            assert patience_s is not None, "only a timeout times out"  # noqa: S101
            raise gave_up(f"answer `{method}`", patience_s) from None

    async def notification(self) -> Notification:
        """What the daemon next sends unasked on this connection; raises Unreachable when it leaves."""
        if self._connection is None:
            raise Unreachable("nothing was asked on this connection")
        return await self._connection.notification()

    async def _connected(self) -> _Connection:
        async with self._opening:
            if self._connection is None or self._connection.failure is not None:
                await self.aclose()
                self._connection = await _Connection.open(self.socket_path)
                try:
                    result_of(await self._connection.answer("hello", {"protocol": PROTOCOL}))
                except BaseException:
                    # Refused, or not waited for: nothing may be asked on a connection without an agreement.
                    await self.aclose()
                    raise
            return self._connection


class _Connection:
    """One connection while it lasts: a task reads, and gives each message to who waits for it."""

    def __init__(self, where: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.failure: Exception | None = None
        self._where = where
        self._reader = reader
        self._writer = writer
        self._dialogue = Dialogue()
        self._answers: dict[int, asyncio.Future[Response]] = {}
        self._notifications: asyncio.Queue[Notification | None] = asyncio.Queue(MAX_UNTAKEN)
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def open(cls, path: str) -> _Connection:
        """Connect; raises what `no_connection` makes of the reason."""
        try:
            return cls(path, *await asyncio.open_unix_connection(path))
        except OSError as error:
            raise no_connection(path, error, None) from error

    async def answer(self, method: str, params: dict[str, Any]) -> Response:
        """Send a request and wait for its answer."""
        if self.failure is not None:
            raise self.failure
        number, frame = self._dialogue.begin(method, params)
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        try:
            self._writer.write(frame)
            return await future
        finally:
            # An answer that nobody waits for any more is still an answer to what was asked.
            self._answers.pop(number, None)

    async def notification(self) -> Notification:
        """Wait for the next notification."""
        if self.failure is not None and self._notifications.empty():
            raise self.failure
        found = await self._notifications.get()
        if found is None:
            assert self.failure is not None, "only a failure puts None"  # noqa: S101
            raise self.failure
        return found

    async def close(self) -> None:
        """Close the connection."""
        self._fail(Unreachable(f"the connection to {self._where} was closed here"))
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # it was lost before

    async def _read(self) -> None:
        try:
            while True:
                chunk = await self._reader.read(RECEIVE_BYTES)
                if not chunk:
                    raise lost(self._where, self._undone())
                self._dialogue.feed(chunk)
                while (message := self._dialogue.next()) is not None:
                    if isinstance(message, Notification):
                        await self._notifications.put(message)
                    elif (future := self._answers.get(message.id)) is not None and not future.done():
                        future.set_result(message)
        except RemoteProtocolError as violation:
            self._fail(stranger(self._where, str(violation)))
        except ProcdError as error:
            self._fail(error)
        except OSError as error:
            self._fail(lost(self._where, f"({error.strerror or error})"))

    def _undone(self) -> str:
        return f"and did not {self._dialogue.deed(min(self._answers))}" if self._answers else ""

    def _fail(self, error: Exception) -> None:
        """Tell everybody who waits, and whoever comes."""
        if self.failure is not None:
            return
        self.failure = error
        for future in self._answers.values():
            if not future.done():
                future.set_exception(error)
        if self._notifications.empty():
            self._notifications.put_nowait(None)
