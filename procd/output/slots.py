"""All logs by stream and by number, and which of them the logger is still to be told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procd.output.board import SLOTS
from procd.output.slot import Slot
from procd.output.streams import STREAMS, StreamKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.output.board import Board
    from procd.output.channel import Parcel
    from procd.output.slot import HeldPipe


class Slots:
    """The logs that there are, and those that are being forgotten."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._by_key: dict[StreamKey, Slot] = {}
        #: Also those that are being forgotten; in the order in which they came.
        self._by_number: dict[int, Slot] = {}
        self._free: list[int] = []
        self._behind: dict[Slot, None] = {}

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._by_number.values())

    def adopt(self, slot: Slot) -> None:
        """Take a slot of an earlier daemon in; the numbers that it left out are free."""
        for number in range(len(self._by_number) + len(self._free) + 1, slot.number):
            self._free.append(number)
        self._by_number[slot.number] = slot
        if not slot.forgotten:
            self._by_key[slot.key] = slot
        self._behind[slot] = None

    def get(self, key: StreamKey) -> Slot | None:
        """The log of a stream."""
        return self._by_key.get(key)

    def of(self, program: str) -> Iterator[Slot]:
        """The logs of a program."""
        for stream in STREAMS:
            slot = self._by_key.get(StreamKey(program, stream))
            if slot is not None:
                yield slot

    def __contains__(self, number: object) -> bool:
        return number in self._by_number

    def numbered(self, number: int) -> Slot | None:
        """The log that the logger calls so."""
        return self._by_number.get(number)

    def pipe(self, number: int, pipe_number: int) -> tuple[Slot, HeldPipe] | None:
        """A pipe that is held, with its log."""
        slot = self._by_number.get(number)
        if slot is None:
            return None
        return next(((slot, pipe) for pipe in slot.pipes if pipe.number == pipe_number), None)

    def dropped(self) -> int:
        """How many bytes are in no log, of all that there are."""
        return sum(map(self._board.dropped, self._by_number))

    def pipes(self) -> Iterator[HeldPipe]:
        """All pipes that are held."""
        for slot in self._by_number.values():
            yield from slot.pipes

    def add(self, key: StreamKey, spec: dict[str, Any]) -> Slot:
        """Make the log of a stream that has none."""
        number = self._free.pop() if self._free else len(self._by_number) + 1
        if number >= SLOTS:
            raise AssertionError(f"there are not so many programs that they have {number} logs")
        # It may have been another's: of ours, or of an earlier daemon's.
        self._board.clear(number)
        slot = self._by_key[key] = self._by_number[number] = Slot(number, key, spec)
        return slot

    def drop(self, key: StreamKey) -> Slot | None:
        """Begin to forget the log of a stream: from now on it has none."""
        slot = self._by_key.pop(key, None)
        if slot is not None:
            slot.forgotten = True
            slot.watched = False
        return slot

    def free(self, number: int) -> Slot:
        """Let go of a log that the logger has closed."""
        slot = self._by_number.pop(number)
        slot.close()
        self._free.append(number)
        return slot

    def close(self) -> None:
        """Let go of all pipes."""
        for slot in self._by_number.values():
            slot.close()

    # What is to be said

    def mark(self, slot: Slot) -> None:
        """There is something to be said of a log."""
        self._behind[slot] = None

    def forget_what_was_said(self) -> None:
        """There is a logger that knows of no log."""
        for slot in self._by_number.values():
            slot.forget_what_was_said()
        self._behind = dict.fromkeys(self._by_number.values())

    def next_parcel(self) -> Parcel | None:
        """What is to be said next: all of one log, then of the next."""
        while self._behind:
            slot = next(iter(self._behind))
            parcel = slot.next_parcel()
            if parcel is not None:
                return parcel
            del self._behind[slot]
        return None
