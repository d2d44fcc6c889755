"""Peers that are gone altogether, noticed also while nothing is read from them.

Owns one epoll instance for all connections.  The loop watches a connection only while it reads from it, which
it does not when the peer has half-closed it, or when enough of its requests are unanswered.  Somebody who
leaves then would hold a connection until there is something to send, and that may be never.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class HangUps:
    """Tells of sockets that are closed in both directions: EPOLLHUP, always reported (epoll_ctl(2))."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._look)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back, once, when the peer of a socket is gone."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLET)

    def forget(self, fd: int) -> None:
        """Watch a socket no longer; it has to be open still."""
        if self._callbacks.pop(fd, None) is not None and not self._epoll.closed:
            self._epoll.unregister(fd)

    def _look(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback()

    def close(self) -> None:
        """Watch nothing more."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
