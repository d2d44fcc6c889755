"""What is remembered of the logs, for a daemon that may have to come after this one.

Owns the form of the records: the board and the stash, and of each log how it is kept and the read ends of its
pipes.  What the logger was told is not in them: another daemon says everything again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgpack

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
        pipes = [
            [pipe.number, pipe.pid, pipe.detached, None if pipe.spec == slot.spec else pipe.spec]
            for pipe in slot.pipes
        ]
        content = [VERSION, slot.number, slot.key.program, slot.key.stream, slot.spec, slot.forgotten, pipes]
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
    return slot.spec, slot.forgotten, [(pipe.number, pipe.detached) for pipe in slot.pipes]


class Found(NamedTuple):
    """What was left: the descriptors of the board and of the stash, and the logs by their numbers."""

    board: tuple[int, ...] | None
    slots: list[Slot]


def read(records: Mapping[str, Left]) -> Found:
    """Make logs of what was left, by what follows the prefix of its key.  Raises ValueError."""
    found = Found(records[_BOARD].fds if _BOARD in records else None, [])
    for name, record in records.items():
        content = msgpack.unpackb(record.value, unicode_errors="surrogateescape")
        if content[0] != VERSION:
            raise ValueError(f"the record of log {name} is of version {content[0]}; this procd reads {VERSION}")
        if name != _BOARD:
            found.slots.append(_slot(content, record.fds))
    found.slots.sort(key=lambda slot: slot.number)
    return found


def _slot(content: list[Any], fds: tuple[int, ...]) -> Slot:
    _, number, program, stream, spec, forgotten, pipes = content
    slot = Slot(number, StreamKey(program, stream), spec)
    slot.forgotten = forgotten
    for (pipe_number, pid, detached, its_spec), fd in zip(pipes, fds, strict=True):
        pipe = HeldPipe(pipe_number, fd, pid, None)
        pipe.spec = its_spec or spec
        pipe.detached = detached
        slot.pipes.append(pipe)
    return slot
