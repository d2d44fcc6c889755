"""What is remembered of the logs, for a daemon that may have to come after this one.

Owns the form of the records: the board and the stash, and of each log how it is kept and the read ends of its
pipes.  What the logger was told is not in them: another daemon says everything again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgpack

from procd.errors import UnreadableRecord
from procd.output.board import Board
from procd.output.slot import HeldPipe, Slot
from procd.output.streams import StreamKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: All keys begin with it.
PREFIX = "log"
_BOARD = "board"
#: To be counted up when a record changes its meaning; it stands in each.
VERSION = 1


class Remembers(Protocol):
    """A memory that outlives us."""

    def put(self, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Have this kept under a key; the descriptors stay ours."""

    def drop(self, key: str) -> bool:
        """Have nothing kept under a key."""


class Left(Protocol):
    """A record that was left to us; the descriptors are ours."""

    value: bytes
    fds: tuple[int, ...]


class Remembered:
    """Records of the logs.  Without a memory nothing is recorded."""

    def __init__(self, memory: Remembers | None) -> None:
        self._memory = memory
        #: What the record of each log has.
        self._kept: dict[int, tuple[object, ...]] = {}

    def board(self, *fds: int) -> None:
        """Record the board and the stash."""
        if self._memory is not None:
            self._memory.put(f"{PREFIX}:{_BOARD}", msgpack.packb([VERSION]), fds)

    def slot(self, slot: Slot) -> None:
        """Record a log, if something of it has changed."""
        if self._memory is None:
            return
        now = _state(slot)
        if self._kept.get(slot.number) == now:
            return
        self._kept[slot.number] = now
        pipes = [[pipe.number, pipe.pid, pipe.detached] for pipe in slot.pipes]
        content = [
            VERSION, slot.number, *slot.key, slot.spec, slot.forgotten, slot.gave_up, pipes,
        ]  # fmt: skip
        value = msgpack.packb(content, unicode_errors="surrogateescape")
        self._memory.put(f"{PREFIX}:{slot.number}", value, [pipe.fd for pipe in slot.pipes])

    def inherited(self, slot: Slot) -> None:
        """Take note of a record that an earlier daemon has put."""
        self._kept[slot.number] = _state(slot)

    def drop(self, slot: Slot) -> None:
        """Forget a log."""
        if self._kept.pop(slot.number, None) is not None and self._memory is not None:
            self._memory.drop(f"{PREFIX}:{slot.number}")

    def forget(self) -> None:
        """Nothing is recorded: the memory is another one."""
        self._kept.clear()


def _state(slot: Slot) -> tuple[object, ...]:
    pipes = (pipe.number << 1 | pipe.detached for pipe in slot.pipes)
    return slot.spec, slot.forgotten, slot.gave_up, *pipes


class Found(NamedTuple):
    """What was left: the board, the two ends of the stash, and the logs by their numbers."""

    board: Board | None
    stash: tuple[int, int]
    slots: list[Slot]


def read(records: Mapping[str, Left]) -> Found:
    """Make logs of what was left, by what follows the prefix of its key.  Raises UnreadableRecord."""
    board, stash, slots = None, (-1, -1), []
    for name, record in records.items():
        try:
            content = _content(record.value)
            if name == _BOARD:
                fd, read_end, write_end = record.fds
                board, stash = Board(fd), (read_end, write_end)
            else:
                slots.append(_slot(content, record.fds))
        except (ValueError, TypeError) as error:
            raise UnreadableRecord(f"log {name}", str(error)) from error
    return Found(board, stash, sorted(slots, key=lambda slot: slot.number))


def look(name: str, value: bytes) -> None:
    """See whether a record can be read, by its value.  Raises UnreadableRecord."""
    try:
        content = _content(value)
        if name != _BOARD:
            _slot(content, (-1,) * len(content[-1]))
    except (ValueError, TypeError) as error:
        raise UnreadableRecord(f"log {name}", str(error)) from error


def _content(value: bytes) -> list[Any]:
    content: list[Any]
    version, *content = msgpack.unpackb(value, unicode_errors="surrogateescape")
    if version != VERSION:
        raise ValueError(f"it is of version {version}; this procd reads {VERSION}")
    return content


def _slot(content: list[Any], fds: tuple[int, ...]) -> Slot:
    number, program, stream, spec, forgotten, gave_up, pipes = content
    slot = Slot(number, StreamKey(program, stream), spec)
    slot.forgotten, slot.gave_up = forgotten, gave_up
    for (pipe_number, pid, detached), fd in zip(pipes, fds, strict=True):
        pipe = HeldPipe(pipe_number, fd, pid, None)
        pipe.spec = spec
        pipe.detached = detached
        slot.pipes.append(pipe)
    return slot
