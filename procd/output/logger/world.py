"""What all logs of a logger share."""

from __future__ import annotations

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from procd.output.board import Board
    from procd.output.logger.compression import Compression
    from procd.output.logger.loop import Loop
    from procd.output.logger.pace import Pace
    from procd.output.logger.stash import Stash
    from procd.output.logger.turns import Turns


class World:
    """The loop, the board, the stash, and the ear of the daemon."""

    __slots__ = ("board", "compression", "grown", "loop", "pace", "say", "stash", "turns", "went_on")

    def __init__(self, loop: Loop, pace: Pace, compression: Compression) -> None:
        self.loop = loop
        self.pace = pace
        self.compression = compression
        self.board: Board
        self.stash: Stash
        self.turns: Turns
        #: Tell the daemon.
        self.say: Callable[[list[Any]], None]
        #: Say that a log that held its pipes goes on.
        self.went_on: Callable[[], None]
        #: Watched slots that have grown since the daemon was told.
        self.grown: set[int] = set()
