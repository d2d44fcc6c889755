"""A listening socket on the loop: who connects is accepted, as long as there are descriptors.

Owns the pause that a lack of descriptors makes.  The loop's own server would write a traceback each second.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

log = structlog.get_logger()

#: Connections that are accepted before everybody else gets a turn: some milliseconds.
ACCEPT_TURN = 64
#: Seconds until the next try, when there was no descriptor or no memory for a connection (accept(2)).  Whoever
#: connects waits in the backlog meanwhile; and somebody who disconnects ends the pause at once.
PAUSE_S = 1.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Accepts connections and hands them on, non-blocking and closed in children."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        accepted: Callable[[socket.socket], None],
    ) -> None:
        listening.setblocking(False)
        self.socket = listening
        self._loop = loop
        self._accepted = accepted
        self._pause: asyncio.TimerHandle | None = None
        self._failed = False
        loop.add_reader(listening.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPT_TURN):
            try:
                connected, _ = self.socket.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._rest(error)
                return
            if self._failed:
                self._failed = False
                log.info("connections are accepted again")
            connected.setblocking(False)
            self._accepted(connected)

    def _rest(self, error: OSError) -> None:
        self._loop.remove_reader(self.socket.fileno())
        self._pause = self._loop.call_later(PAUSE_S, self.go_on)
        if not self._failed:
            self._failed = True
            log.error("connections cannot be accepted", reason=error.strerror)

    def go_on(self) -> None:
        """End a pause: there may be a descriptor again.  Harmless without one."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            self._loop.add_reader(self.socket.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more.  Whoever waits in the backlog is told by the kernel that there is nobody."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._loop.remove_reader(self.socket.fileno())
        self.socket.close()

    def drain(self) -> None:
        """Accept whoever waits already, before another socket takes this one's place."""
        if self._pause is None:
            self._accept()
