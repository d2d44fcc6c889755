"""The deadlines of all programs, of which only the next one matters."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procd.core.program import Program


#: Below so many entries nobody looks how many of them are stale.
_FEW = 64


class Deadlines:
    """A heap with lazy deletion: a program's `deadline_s` is the truth, older entries are skipped when met.

    Of two programs with the same deadline the one that was added earlier comes first, whenever it was set: what
    happens follows from what is remembered of the programs, and from nothing else.
    """

    __slots__ = ("_heap", "_too_many")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Program]] = []
        self._too_many = _FEW

    def __len__(self) -> int:
        """How many entries there are, stale ones among them."""
        return len(self._heap)

    def set(self, program: Program, at_s: float | None) -> None:
        """Give a program its only deadline, or none."""
        program.deadline_s = at_s
        if at_s is not None:
            heapq.heappush(self._heap, (at_s, program.number, program))
            if len(self._heap) > self._too_many:
                self._sweep()

    def next(self) -> float | None:
        """When the next deadline of any program is, or None."""
        self._drop_passed_over()
        return self._heap[0][0] if self._heap else None

    def pop_passed(self, now: float) -> Program | None:
        """Take out one program whose deadline has passed, or return None."""
        self._drop_passed_over()
        if not self._heap or self._heap[0][0] > now:
            return None
        program = heapq.heappop(self._heap)[2]
        program.deadline_s = None
        return program

    def _drop_passed_over(self) -> None:
        heap = self._heap
        while heap and heap[0][2].deadline_s != heap[0][0]:
            heapq.heappop(heap)

    def _sweep(self) -> None:
        # Stale entries that lie far ahead are not met for long: a program that asks for another minute ten
        # thousand times a second must not fill the memory with them.
        latest = {
            program: entry for entry in sorted(self._heap) if entry[0] == (program := entry[2]).deadline_s
        }
        self._heap = list(latest.values())
        heapq.heapify(self._heap)
        self._too_many = max(_FEW, 2 * len(self._heap))
