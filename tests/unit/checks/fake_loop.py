"""A loop whose time is a number, and which runs only when it is told to."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeHandle:
    """A callback that is due at some time, unless it is cancelled."""

    def __init__(self, when: float, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._when = when
        self.callback = callback
        self.arguments = arguments
        self.cancelled = False

    def when(self) -> float:
        """The time that it is due."""
        return self._when

    def cancel(self) -> None:
        """Take it back."""
        self.cancelled = True


class FakeLoop:
    """What the checks need of an asyncio loop, in virtual time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._serial = count()
        self._heap: list[tuple[float, int, FakeHandle]] = []

    def time(self) -> float:
        """The virtual time."""
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> FakeHandle:
        """Plan a callback."""
        handle = FakeHandle(when, callback, arguments)
        heapq.heappush(self._heap, (when, next(self._serial), handle))
        return handle

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> FakeHandle:
        """Plan a callback after a delay."""
        return self.call_at(self.now + delay, callback, *arguments)

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> FakeHandle:
        """Plan a callback for the next turn."""
        return self.call_at(self.now, callback, *arguments)

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due in it, in order."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, handle = heapq.heappop(self._heap)
            if not handle.cancelled:
                self.now = max(self.now, when)
                handle.callback(*handle.arguments)
        self.now = end

    @property
    def planned(self) -> list[float]:
        """The times of everything that is still to happen."""
        return sorted(when for when, _, handle in self._heap if not handle.cancelled)
