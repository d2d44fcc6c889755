"""One log: the pipes of a slot, in the order in which they came, and the file that they go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procd.output import messages
from procd.output.logger.file import File
from procd.output.logger.pipe import Pipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.output.board import Board
    from procd.output.logger.loop import Loop
    from procd.output.logger.pace import Pace
    from procd.output.logger.stash import Stash

#: Bytes that one pipe may move before the others get their turn: one flood does not starve the rest.
TURN_BYTES = 1 << 20

#: What a turn returns at the end of the pipe.
ENDED = -1


class World:
    """What all logs share."""

    __slots__ = ("board", "grown", "loop", "pace", "say", "stash")

    def __init__(
        self, loop: Loop, pace: Pace, board: Board, stash: Stash, say: Callable[[list[Any]], None]
    ) -> None:
        self.loop = loop
        self.pace = pace
        self.board = board
        self.stash = stash
        self.say = say
        #: Watched slots that have grown since the daemon was told.
        self.grown: set[int] = set()


class Log:
    """A log."""

    __slots__ = ("_file", "_spec", "_world", "pace", "pipes", "slot", "watched")

    def __init__(self, world: World, slot: int) -> None:
        self._world = world
        self.pace = world.pace
        self.slot = slot
        self.watched = False
        self.pipes: list[Pipe] = []
        self._file: File | None = None
        self._spec: dict[str, Any] = {}

    def open(self, spec: dict[str, Any]) -> None:
        """Keep this log so from now on."""
        self.drain()
        self._spec = spec
        if self._file is not None:
            self._file.close()
        file = self._file = File(spec["path"])
        if file.start is None:
            file.place(self._world.board.end(self.slot))
        self._tell_extent(file)

    def _tell_extent(self, file: File) -> None:
        self._world.board.set_extent(self.slot, file.start or 0, file.end)
        if self.watched:
            self._world.grown.add(self.slot)

    def attach(self, fd: int, number: int, pid: int) -> int:
        """Take what is written to this pipe; returns the offset before which none of it will stand."""
        self.drain()
        pipe = Pipe(self, fd, number, pid)
        self.pipes.append(pipe)
        self.pace.begin(pipe)
        return self._world.board.end(self.slot)

    def turn(self, pipe: Pipe, at_most: int = TURN_BYTES) -> int:
        """Move some of what is in a pipe; returns how many bytes, 0 when there was nothing, or ENDED."""
        file = self._file
        if file is None:
            return 0
        file.seek_end()
        try:
            moved = file.splice(pipe.fd, at_most)
        except BlockingIOError:
            return 0
        if not moved:
            self._let_go(pipe)
            return ENDED
        self._world.board.count(self.slot, taken=moved)
        self._tell_extent(file)
        return moved

    def drain(self) -> None:
        """Move what is in the pipes now, the oldest first."""
        for pipe in tuple(self.pipes):
            self.empty(pipe)

    def empty(self, pipe: Pipe) -> None:
        """Move what is in a pipe now."""
        left = pipe.unread
        while left > 0:
            moved = self.turn(pipe, min(left, TURN_BYTES))
            if moved <= 0:
                break
            left -= moved

    def detach(self) -> None:
        """Move what is in the pipes, and close them."""
        for pipe in tuple(self.pipes):
            self.empty(pipe)
            if pipe in self.pipes:
                self._let_go(pipe)

    def _let_go(self, pipe: Pipe) -> None:
        self.pace.pause(pipe)
        self.pipes.remove(pipe)
        pipe.close()
        self._world.say([messages.ENDED, self.slot, pipe.number])

    def close(self) -> None:
        """Move what is in the pipes, and let go of everything."""
        self.detach()
        if self._file is not None:
            self._file.close()
            self._file = None
