"""A stream as an iterator, across the connections and daemons that serve it.

Owns the waiting for a daemon that is gone; where to go on is the `Position`'s to know.
"""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from procctl.resume import FIRST_DELAY_S, MAX_DELAY_S
from procd.errors import ShuttingDown, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from procctl.client import Client
    from procctl.resume import Position

PIECE = TypeVar("PIECE")


def _nobody(sentence: str) -> None:
    """Nobody wants to be told."""


class Pieces(Generic[PIECE]):
    """An iterator over a stream, on a connection of its own, across the daemons that serve it.

    The stream is opened by its first piece, or by `with`; leaving the `with`, or `close`, ends it.  A daemon
    that is gone is waited for, for `reconnect_s` of the client; then what `Client.call` raises is raised.
    `tell` is told, in a sentence, that it is gone and that it is back.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        position: Position[PIECE],
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._client = connect()
        self._tell = tell or _nobody
        self._position = position
        self._answer: dict[str, Any] = {}
        self._pieces = self._read()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PIECE:
        try:
            return next(self._pieces)
        except BaseException:
            # Its end or an error: either way nothing more comes, and the connection is its own.
            self._client.close()
            raise

    def close(self) -> None:
        """End the stream; the iterator has nothing more to give."""
        self._pieces.close()
        self._client.close()

    def _open(self) -> None:
        """Open the stream where it was left; raises what `Client.call` raises."""
        self._answer = {}
        self._client.close()
        answer = self._client.call(self._position.method, **self._position.params())
        if self._position.misplaced(answer):
            self._client.close()
            answer = self._client.call(self._position.method, **self._position.params())
        self._answer = answer

    def _read(self) -> Generator[PIECE]:
        if not self._answer:
            self._open()
        while True:
            try:
                stream = self._client.stream_of(self._answer)
                for kind, body in stream:
                    yield from self._position.take(kind, body)
                self._position.ended(stream.end_reason)
            except (Unreachable, ShuttingDown) as error:
                self._reopen(error)
            else:
                self._client.close()
                return

    def _reopen(self, why: Exception) -> None:
        """Wait for a daemon that opens the stream; raises `why` when none comes in time."""
        patience_s = self._client.reconnect_s
        ends_s = None if patience_s is None else monotonic() + patience_s
        delay_s = FIRST_DELAY_S
        if patience_s != 0:
            self._tell("the daemon is gone; waiting for it to come back (Ctrl-C ends this)")
        while ends_s is None or monotonic() < ends_s:
            try:
                self._open()
            except (Unreachable, ShuttingDown):
                sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_DELAY_S)
            else:
                self._tell("the daemon is back")
                return
        raise why
