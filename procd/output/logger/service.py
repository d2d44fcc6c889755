"""The logger as a child of the keeper: it serves one supervisor after the other.

Owns the channel to the keeper, through which it is given its channel to the supervisor.  A new one means
another supervisor, which says everything again: so we begin anew, as another process would, by executing
ourselves.  That is as lossless as being killed is, and happens between two turns.

Without a supervisor what is known is done on.  Without a keeper too, nobody would start another of us, and who
takes over waits for our end: then we end.
"""

from __future__ import annotations

import os
import socket
import sys

from procd.keeper.line import ROOM, Line
from procd.keeper.messages import CHANNEL_FD, CHANNEL_VARIABLE
from procd.output.logger.conversation import Conversation
from procd.output.logger.loop import READABLE, WRITABLE, Loop

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from typing import NoReturn

    from procd.keeper.line import Record

#: The record with our end of the channel to the supervisor.
CHANNEL = "channel"
#: The inode of the channel that was served to its end: the keeper still has it when we begin anew.
_DONE_VARIABLE = "PROCD_LOGGER_DONE"


class Service:
    """Serves until the keeper ends us, or is gone with the supervisor."""

    def __init__(self, keeper: socket.socket) -> None:
        self._loop = Loop()
        self._line = line = Line(keeper)
        self._conversation: Conversation | None = None
        #: The conversation is.
        self._is_over = False
        self._done = int(os.environ.pop(_DONE_VARIABLE, "0"))
        line.on_record = self._on_record
        line.on_incomplete = self._on_incomplete
        line.on_lost = self._on_lost
        line.on_wants = self._on_wants

    def run(self) -> None:
        """Serve."""
        self._loop.watch(self._line.fileno(), READABLE, self._hear)
        self._line.hello()
        self._line.up()
        self._loop.run()
        # Nobody speaks to us, and nothing is left to be moved; but perhaps somebody will.
        if self._conversation is not None:
            self._conversation.abandon()
        self._is_over = True
        self._loop = Loop()
        self._loop.watch(self._line.fileno(), READABLE, self._hear)
        if not self._line.lost:
            self._loop.run()

    def _on_wants(self, what: str) -> None:
        interest = READABLE | WRITABLE if what == ROOM else READABLE
        self._loop.watch(self._line.fileno(), interest, self._hear)

    def _hear(self) -> None:
        self._line.flush()
        self._line.read()

    def _on_record(self, record: Record) -> None:
        inode = os.fstat(record.fds[0]).st_ino if record.key == CHANNEL and record.fds else self._done
        if inode == self._done:
            record.close()
        elif self._conversation is not None:
            record.close()
            self._begin_anew()
        else:
            self._done = inode
            channel = socket.socket(fileno=record.fds[0])
            channel.setblocking(False)
            self._conversation = Conversation(channel, self._loop)
            self._conversation.begin()

    def _on_incomplete(self, key: str) -> None:
        # All our descriptors are in use: as another process we have them again, and the keeper has the channel.
        if key == CHANNEL and self._conversation is not None:
            self._begin_anew()

    def _begin_anew(self) -> NoReturn:
        """Be the same program again; the keeper tells us of our channel when we ask."""
        if self._conversation is not None and not self._is_over:
            self._conversation.abandon()
        os.environ[_DONE_VARIABLE] = str(self._done)
        os.environ[CHANNEL_VARIABLE] = str(CHANNEL_FD)
        os.set_inheritable(self._line.fileno(), True)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own program

    def _on_lost(self) -> None:
        self._loop.unwatch(self._line.fileno())
        if self._conversation is None or self._is_over:
            self._loop.over = True
            return
        os.write(2, b"procd: logger: the keeper is gone; goes on as long as there is a supervisor\n")
        self._conversation.end_with_channel()
