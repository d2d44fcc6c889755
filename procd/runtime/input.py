"""What people write to a program's stdin, one request after the other.

Owns the promise that "accepted" means "in the pipe": a request is answered when the kernel has its last byte.
Must not know who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from procd.errors import StdinClosed

if TYPE_CHECKING:
    from procd.process import Descriptor


class _Request:
    __slots__ = ("answer", "content", "ends_at")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        #: The pipe's total when the last byte of this request is in it; known when its turn has come.
        self.ends_at: int | None = None


class Input:
    """A queue of writes in front of the stdin pipe of one life.

    It is the pipe's pull producer: the pipe asks for more when the kernel has all that it was given.  So one
    request is on its way and the others wait here, bounded by what each connection may have in flight.
    """

    __slots__ = ("_closing", "_pipe", "_queue", "name")

    def __init__(self, name: str, pipe: Descriptor) -> None:
        self.name = name
        self._pipe = pipe
        #: The first one is on its way if its `ends_at` is known.
        self._queue: deque[_Request] = deque()
        self._closing = False

    def put(self, content: bytes) -> asyncio.Future[int]:
        """Queue a write; the future has its size when all of it is in the pipe.

        Raises StdinClosed, now or from the future, with `data.accepted`: how many bytes went in before.
        """
        if self._closing or self._pipe.disconnected:
            raise _closed(self.name, 0)
        request = _Request(content)
        self._queue.append(request)
        request.answer.add_done_callback(lambda answer: self._abandon(request) if answer.cancelled() else None)
        if len(self._queue) == 1:
            self._pipe.register_producer(self, streaming=False)
        return request.answer

    def close(self) -> None:
        """Half-close: the program reads to the end of what was accepted, then sees the end of its input."""
        self._closing = True
        if not self._queue:
            self._pipe.lose_connection()

    # What the pipe calls

    def resume_producing(self) -> None:
        """Everything that was on its way has arrived: answer it, send the next."""
        if self._queue and self._queue[0].ends_at is not None:
            _answer(self._queue.popleft())
        while self._queue and self._queue[0].answer.cancelled():
            self._queue.popleft()
        if self._queue:
            request = self._queue[0]
            request.ends_at = self._pipe.bytes_written + len(request.content)
            self._pipe.write(request.content)
            return
        self._pipe.unregister_producer()
        if self._closing:
            self._pipe.lose_connection()

    def _abandon(self, request: _Request) -> None:
        """Forget a request whose asker went away before a byte of it was sent.

        At once, not when its turn comes: before a program that never reads, that is never.
        """
        if request.ends_at is None:
            with contextlib.suppress(ValueError):
                self._queue.remove(request)

    def stop_producing(self) -> None:
        """The pipe is lost: tell everybody how far it came."""
        self._closing = True
        queue, self._queue = self._queue, deque()
        for request in queue:
            accepted = 0
            if request.ends_at is not None:
                accepted = len(request.content) - max(0, request.ends_at - self._pipe.bytes_written)
            if accepted == len(request.content):
                _answer(request)
            elif not request.answer.done():
                request.answer.set_exception(_closed(self.name, accepted))


def _answer(request: _Request) -> None:
    # Whoever asked may have gone away, and the future with them; the bytes stay accepted.
    if not request.answer.done():
        request.answer.set_result(len(request.content))


def _closed(name: str, accepted: int) -> StdinClosed:
    went = f" after {accepted} bytes" if accepted else ""
    return StdinClosed(
        f"{name} has closed its stdin{went}",
        "the program ended, or it reads no more; see `procctl status`",
        {"accepted": accepted},
    )
