"""A logger without a process: the other end of the channel, in the hands of a test."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from procd.errors import SpawnError
from procd.output import messages
from procd.output.board import Board
from procd.output.streams import StreamKey
from tests.kernel.children import until

if TYPE_CHECKING:
    from collections.abc import Callable

WEB = StreamKey("web", "stdout")


class FakeLogger:
    """One that was started: it hears when the test says so, and has what it was given."""

    stays = False

    def __init__(self, pid: int, channel: int, on_end: Callable[[str], None]) -> None:
        self.pid = pid
        self.killed = False
        self.heard: list[list[Any]] = []
        self.pipes: dict[int, int] = {}
        self.board: Board
        self._on_end = on_end
        self._stash: list[int] = []
        self.channel = socket.socket(fileno=os.dup(channel))
        self.channel.setblocking(False)

    def kill(self) -> None:
        """Take note of it; the test decides when that is the end."""
        self.killed = True

    def hear(self) -> list[list[Any]]:
        """Hear all that was said since the last time."""
        new: list[list[Any]] = []
        while True:
            try:
                received = messages.receive(self.channel)
            except BlockingIOError:
                break
            if received is None:
                break
            message, fds = received
            new.append(message)
            if message[0] == messages.BEGIN:
                self.board, *self._stash = Board(fds[0]), fds[1], fds[2]
            elif fds:
                self.pipes[message[2]] = fds[0]
        self.heard += new
        return new

    async def until_heard(self, *verbs: str) -> list[list[Any]]:
        """Hear until these verbs came, in this order and none beside them."""
        new: list[list[Any]] = []

        def came() -> bool:
            new.extend(self.hear())
            return len(new) >= len(verbs)

        await until(came)
        assert [message[0] for message in new] == list(verbs), new
        return new

    def say(self, *message: Any) -> None:  # noqa: ANN401 - whatever a message has
        """Tell the daemon."""
        messages.send(self.channel, list(message))

    def end(self, how: str = "killed by SIGKILL") -> None:
        """Die."""
        self.channel.close()
        for fd in (*self.pipes.values(), *self._stash):
            os.close(fd)
        if hasattr(self, "board"):
            self.board.close()
        self._on_end(how)


class FakeStart:
    """Starts fake loggers, unless it is told not to."""

    def __init__(self) -> None:
        self.started: list[FakeLogger] = []
        self.refuses = False
        self.tries = 0

    def __call__(self, channel: int, on_end: Callable[[str], None]) -> FakeLogger:
        """Start one."""
        self.tries += 1
        if self.refuses:
            raise SpawnError("fork", 11)
        logger = FakeLogger(1000 + len(self.started), channel, on_end)
        self.started.append(logger)
        return logger

    @property
    def last(self) -> FakeLogger:
        """The one that runs."""
        return self.started[-1]
