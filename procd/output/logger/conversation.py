"""What the daemon asks of the logger, and what it is told: `procd.output.messages`, carried out."""

from __future__ import annotations

import os
import time
from collections import deque

from procd.output import messages
from procd.output.board import Board
from procd.output.logger.compression import Compression
from procd.output.logger.log import Log
from procd.output.logger.loop import READABLE, WRITABLE, Loop
from procd.output.logger.pace import Pace
from procd.output.logger.pipe import Pipe
from procd.output.logger.spec import Spec
from procd.output.logger.stash import Stash
from procd.output.logger.turns import Turns
from procd.output.logger.world import World

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

#: Messages that are taken before the pipes get their turn.
MESSAGES_A_ROUND = 64
#: And how long that may take before others get theirs.
ROUND_S = 0.05
#: The daemon is not told more often than this that logs have grown.
GROWN_S = 0.01
#: Slots in one message: it has to stay far below its bound.
SLOTS_A_MESSAGE = 4096


class Conversation:
    """The logs, and the channel through which the daemon speaks of them."""

    def __init__(self, channel: socket.socket, loop: Loop | None = None) -> None:
        self._channel = channel
        self._queue: deque[list[Any]] = deque()
        self._loop = loop or Loop()
        #: When the daemon is gone it is over, whoever still writes.
        self._ends_with_channel = False
        self._pace = Pace(self._loop)
        self._loop.between = self._between
        self._logs: dict[int, Log] = {}
        self._told = 0.0
        self._tell_again = False
        self._alone = self._begun = False
        self._world = World(self._loop, self._pace, Compression(self._loop))
        self._world.say = self.say
        self._world.went_on = self._answer_syncs
        #: Tokens of SYNC, each with the logs that still hold what was in their pipes.
        self._syncs: dict[int, set[int]] = {}
        self._verbs: dict[str, Callable[..., None]] = {
            messages.BEGIN: self._begin,
            messages.OPEN: self._open,
            messages.ATTACH: self._attach,
            messages.FINISH: self._finish,
            messages.DETACH: self._detach,
            messages.FORGET: self._forget,
            messages.WATCH: self._watch,
            messages.SYNC: self._sync,
            messages.ROTATE: self._rotate,
            messages.GAVE_UP: self._gave_up,
            messages.CLOSE: self._close,
        }

    def run(self) -> None:
        """Serve until it is over."""
        self.begin()
        self._loop.run()

    def begin(self) -> None:
        """Serve as the loop runs, which is over when this is."""
        self._loop.watch(self._channel.fileno(), READABLE, self._listen)

    def end_with_channel(self) -> None:
        """Be over as soon as the daemon is gone."""
        self._ends_with_channel = True

    def abandon(self) -> None:
        """Leave it as it is, for another that is told everything."""
        self._world.compression.close()

    def _between(self) -> bool:
        busy = self._pace.look()
        if self._world.grown:
            self._tell_growth()
        if self._alone and (self._ends_with_channel or not any(log.pipes for log in self._logs.values())):
            self._loop.over = True
        return busy

    # What we hear; booleans are positional in messages

    def _listen(self) -> None:
        ends_at = time.monotonic() + ROUND_S
        for _ in range(MESSAGES_A_ROUND):
            # To open a log may take a slow disk its time, and the keeper asks meanwhile how we are.
            if time.monotonic() > ends_at:
                return
            try:
                received = messages.receive(self._channel)
            except BlockingIOError:
                return
            if received is None:
                self._be_alone()
                return
            (verb, *arguments), fds = received
            if not self._begun and verb != messages.BEGIN:
                # A logger before us has heard the beginning: the daemon will give us a channel of our own.
                for fd in fds:
                    os.close(fd)
                self._be_alone()
                return
            self._verbs[verb](*arguments, *fds)
            if self._loop.over:
                return

    def _be_alone(self) -> None:
        """The daemon is gone: whoever still writes is heard to the end."""
        self._alone = True
        self._loop.unwatch(self._channel.fileno())
        self._queue.clear()

    def _begin(self, _pid: int, board: int, stash_read: int, stash_write: int) -> None:
        self._begun = True
        world = self._world
        world.board = Board(board)
        world.stash = Stash(stash_read, stash_write)
        world.turns = Turns(world.board, world.stash)
        self.say([messages.READY])

    def _open(self, slot: int, said: dict[str, Any]) -> None:
        log = self._logs.get(slot)
        if log is None:
            self._logs[slot] = Log(self._world, slot, Spec(said))
        else:
            log.keep(Spec(said))

    def _attach(self, slot: int, number: int, pid: int, tell: bool, fd: int = -1) -> None:  # noqa: FBT001
        if fd < 0:
            self.say([messages.NO_ROOM, slot, number])
            return
        log = self._logs[slot]
        log.attach(Pipe(log, fd, number, pid, tells=tell))

    def _finish(self, slot: int) -> None:
        self._logs[slot].drain()

    def _detach(self, slot: int) -> None:
        self._logs[slot].detach()

    def _forget(self, slot: int) -> None:
        self._logs.pop(slot).close()
        self.say([messages.FORGOTTEN, slot])

    def _watch(self, slot: int, wanted: bool) -> None:  # noqa: FBT001 - a message
        self._logs[slot].watched = wanted
        if wanted:
            # What came before is told to who has come now.
            self._world.grown.add(slot)

    def _sync(self, token: int, slots: list[int]) -> None:
        self._syncs[token] = set(slots)
        self._answer_syncs()

    def _answer_syncs(self) -> None:
        """Answer those SYNCs whose logs hold nothing back."""
        for token, slots in tuple(self._syncs.items()):
            slots -= {slot for slot in slots if slot not in self._logs or self._logs[slot].drain()}
            if not slots and self._syncs.pop(token, None) is not None:
                self.say([messages.SYNCED, token])

    def _rotate(self, token: int, slots: list[int]) -> None:
        reasons = [[slot, self._logs[slot].rotate() if slot in self._logs else "not open"] for slot in slots]
        self.say([messages.ROTATED, token, reasons])

    def _gave_up(self, slot: int, count: int) -> None:
        self._logs[slot].gave_up(count)

    def _close(self) -> None:
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        self._world.compression.close()
        self.say([messages.CLOSED])
        self._channel.setblocking(True)
        self._speak()
        self._loop.over = True

    # What we say

    def say(self, message: list[Any]) -> None:
        """Tell the daemon, as soon as it listens."""
        if self._alone:
            return
        self._queue.append(message)
        if len(self._queue) == 1:
            self._speak()

    def _speak(self) -> None:
        try:
            while self._queue:
                messages.send(self._channel, self._queue[0])
                self._queue.popleft()
        except BlockingIOError:
            self._loop.watch(self._channel.fileno(), READABLE | WRITABLE, self._heard)
        except ConnectionError:
            self._queue.clear()

    def _heard(self) -> None:
        self._loop.watch(self._channel.fileno(), READABLE, self._listen)
        self._speak()
        self._listen()

    def _tell_growth(self) -> None:
        """Say which logs have grown, not more often than the daemon has use for it."""
        now = self._loop.now
        if now - self._told < GROWN_S:
            if not self._tell_again:
                self._tell_again = True
                self._loop.at(self._told + GROWN_S, self._tell_late)
            return
        self._told = now
        slots = sorted(self._world.grown)
        self._world.grown.clear()
        for first in range(0, len(slots), SLOTS_A_MESSAGE):
            self.say([messages.GROWN, slots[first : first + SLOTS_A_MESSAGE]])

    def _tell_late(self) -> None:
        self._tell_again = False
