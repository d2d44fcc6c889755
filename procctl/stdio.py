"""`procctl --stdio`: bytes from standard input to the daemon's socket, and from there to standard output.

What ssh starts at the other end for `procctl -H`.  Owns the passing on, also of the end of each direction, and
knows nothing of what it carries.
"""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

from procctl import exit_codes
from procctl.where import LocalSocket, find_socket

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE_BYTES = 64 * 1024
"""The capacity of a pipe (pipe(7))."""

_STDIN, _STDOUT = 0, 1
_READER_LEFT = select.POLLERR | select.POLLHUP | select.POLLNVAL


def bridge(socket_path: str | None) -> int:
    """Carry bytes until the daemon has no more to say, or nobody listens any more.

    Raises what `LocalSocket.connect` raises; procctl here says it, and ssh carries it to the procctl there.
    """
    with LocalSocket(find_socket() if socket_path is None else socket_path).connect(None) as daemon:
        there = daemon.fileno()
        to_daemon = _Direction(_STDIN, there, lambda: daemon.shutdown(socket.SHUT_WR))
        from_daemon = _Direction(there, _STDOUT, _nothing)
        for fd in (_STDIN, _STDOUT, there):
            os.set_blocking(fd, False)
        _carry(to_daemon, from_daemon)
    return exit_codes.DONE


def _nothing() -> None:
    """Standard output ends with the process."""


class _Direction:
    """From one descriptor to another, one piece at a time: the next is read when the last has left."""

    def __init__(self, source: int, target: int, finish: Callable[[], None]) -> None:
        self.source = source
        self.target = target
        self._finish = finish
        self._held = memoryview(b"")
        self.over = False

    def wants(self) -> tuple[int, int]:
        """The descriptor to wait for, and for what."""
        return (self.target, select.POLLOUT) if self._held else (self.source, select.POLLIN)

    def move(self) -> None:
        """Read or write, whichever is due; nothing happens where the kernel is not ready."""
        try:
            if not self._held:
                self._held = memoryview(os.read(self.source, PIECE_BYTES))
                if not self._held:
                    self._end()
                    return
            self._held = self._held[os.write(self.target, self._held) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # Nobody takes it any more; what the other direction still has is carried on.
            self._end()

    def _end(self) -> None:
        self.over = True
        self._held = memoryview(b"")
        try:
            self._finish()
        except OSError:
            return  # the socket is not connected any more, so it knows


def _carry(to_daemon: _Direction, from_daemon: _Direction) -> None:
    """Move bytes both ways until the daemon's are over.

    It closes when it has answered all that came before the end of our standard input, so that end is passed on
    and waited for.
    """
    while not from_daemon.over:
        directions = [each for each in (to_daemon, from_daemon) if not each.over]
        poll = select.poll()
        events: dict[int, int] = {}
        for direction in directions:
            fd, event = direction.wants()
            events[fd] = events.get(fd, 0) | event
        # A reader that has left is noticed even while there is nothing for it to read: a pipe says POLLERR
        # then, a socket POLLHUP.
        events.setdefault(_STDOUT, 0)
        for fd, event in events.items():
            poll.register(fd, event)
        ready = dict(poll.poll())
        if ready.get(_STDOUT, 0) & _READER_LEFT:
            return
        for direction in directions:
            fd, event = direction.wants()
            if ready.get(fd, 0) & (event | select.POLLHUP | select.POLLERR):
                direction.move()
