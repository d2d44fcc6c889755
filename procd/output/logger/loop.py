"""The loop of the logger: what descriptors are ready, what moments have come.

Knows callbacks only.  Python's own event loop is not used: it takes twice the memory of all the rest, and
has no way to look at busy pipes by its own clock (`pace`).
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from collections.abc import Callable

#: epoll_wait(2) counts milliseconds in an int: no wait is longer than a day.
LONGEST_WAIT_S = 86400.0

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT


class Timer:
    """A moment at which something is to be called, unless it is cancelled."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Do not call."""
        self.call = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """Calls back when a descriptor is ready, when a moment has come, and after each round.

    `now` is the monotonic time of the present round, in seconds.  `between` is what looks after busy pipes: it
    is called before each wait, and says whether there are any; then the loop does not wait by itself.
    """

    __slots__ = ("_calls", "_epoll", "_timers", "between", "now", "over")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._timers: list[Timer] = []
        self.now = time.monotonic()
        self.between: Callable[[], bool] = bool
        self.over = False

    def watch(self, fd: int, events: int, call: Callable[[], None]) -> None:
        """Call whenever the descriptor is ready so, or is broken."""
        if fd in self._calls:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._calls[fd] = call

    def unwatch(self, fd: int) -> None:
        """Call no more.

        To be done before the descriptor is closed: another process has the same pipe open, so the kernel would
        go on telling of it (epoll(7), question 6).
        """
        if self._calls.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Call at a moment of the monotonic clock."""
        timer = Timer(when, call)
        heapq.heappush(self._timers, timer)
        return timer

    def run(self) -> None:
        """Go on until somebody sets `over`."""
        while True:
            busy = self.between()
            if self.over:
                break
            ready = self._epoll.poll(0 if busy else self._wait_s())
            self.now = time.monotonic()
            for fd, _ in ready:
                # An earlier callback of this round may have ended this one.
                call = self._calls.get(fd)
                if call is not None:
                    call()
            if self._timers:
                self._call_due()
        self._epoll.close()

    def _wait_s(self) -> float:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1
        return min(max(self._timers[0].when - time.monotonic(), 0.0), LONGEST_WAIT_S)

    def _call_due(self) -> None:
        while self._timers and (self._timers[0].call is None or self._timers[0].when <= self.now):
            call = heapq.heappop(self._timers).call
            if call is not None:
                call()
