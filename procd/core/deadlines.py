"""The deadlines of all programs, of which only the next one matters."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procd.core.program import Program


class Deadlines:
    """A heap with lazy deletion: a program's `deadline_s` is the truth, older entries are skipped when met."""

    __slots__ = ("_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Program]] = []
        self._serial = 0

    def set(self, program: Program, at_s: float | None) -> None:
        """Give a program its only deadline, or none."""
        program.deadline_s = at_s
        if at_s is not None:
            self._serial += 1
            heapq.heappush(self._heap, (at_s, self._serial, program))

    def next(self) -> float | None:
        """When the next deadline of any program is, or None."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def pop_passed(self, now: float) -> Program | None:
        """Take out one program whose deadline has passed, or return None."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        program = heapq.heappop(self._heap)[2]
        program.deadline_s = None
        return program

    def _drop_stale(self) -> None:
        # Without this sweep a program that restarts all day would leave an entry of each life.
        heap = self._heap
        while heap and heap[0][2].deadline_s != heap[0][0]:
            heapq.heappop(heap)
