"""A stream as an asynchronous iterator, across the connections and daemons that serve it.

What `procctl.pieces` is for the blocking client; where to go on is the `Position`'s to know.
"""

from __future__ import annotations

from asyncio import get_running_loop, sleep
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from procctl.absence import stranger
from procctl.dialogue import STREAM_END, opened_stream, part_of
from procctl.resume import FIRST_DELAY_S, MAX_DELAY_S
from procd.errors import RemoteProtocolError, ShuttingDown, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from procctl.async_client import AsyncClient
    from procctl.resume import Position

PIECE = TypeVar("PIECE")


class AsyncPieces(Generic[PIECE]):
    """An asynchronous iterator over a stream, on a connection of its own.

    The stream is opened by its first piece, or by `async with`; leaving that, or `aclose`, ends it.  A daemon
    that is gone is waited for, for `reconnect_s` of the client; then what `Client.call` raises is raised.
    """

    def __init__(self, client: AsyncClient, position: Position[PIECE]) -> None:
        self._client = client
        self._position = position
        self._answer: dict[str, Any] = {}
        self._pieces = self._read()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PIECE:
        try:
            return await anext(self._pieces)
        except BaseException:
            # Its end or an error: either way nothing more comes, and the connection is its own.
            await self._client.aclose()
            raise

    async def aclose(self) -> None:
        """End the stream; the iterator has nothing more to give."""
        await self._pieces.aclose()
        await self._client.aclose()

    async def _open(self) -> None:
        """Open the stream where it was left; raises what `Client.call` raises."""
        self._answer = {}
        await self._client.aclose()
        answer = await self._client.call(self._position.method, **self._position.params())
        if self._position.misplaced(answer):
            await self._client.aclose()
            answer = await self._client.call(self._position.method, **self._position.params())
        try:
            self._answer = opened_stream(answer)
        except RemoteProtocolError as violation:
            raise stranger(self._client.socket_path, str(violation)) from violation

    async def _read(self) -> AsyncGenerator[PIECE]:
        if not self._answer:
            await self._open()
        while True:
            try:
                while True:
                    part = part_of(await self._client.notification(), self._answer["stream"])
                    if part is None:
                        continue
                    kind, body = part
                    if kind == STREAM_END:
                        self._position.ended(str(body.get("reason", "")))
                        await self._client.aclose()
                        return
                    for piece in self._position.take(kind, body):
                        yield piece
            except (Unreachable, ShuttingDown) as error:
                await self._reopen(error)

    async def _reopen(self, why: Exception) -> None:
        """Wait for a daemon that opens the stream; raises `why` when none comes in time."""
        now = get_running_loop().time
        patience_s = self._client.reconnect_s
        ends_s = None if patience_s is None else now() + patience_s
        delay_s = FIRST_DELAY_S
        while ends_s is None or now() < ends_s:
            try:
                await self._open()
            except (Unreachable, ShuttingDown):
                await sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_DELAY_S)
            else:
                return
        raise why
