"""Whose turn it is, among all streams of all connections.

A piece of a log costs some tenths of a millisecond: that of a thousand followers at once would keep everybody
else waiting.  So only a few have their turn in each round of the loop, in the order in which they asked; and
when there is a crowd, it has at most half of the time.
"""

from __future__ import annotations

import asyncio
from collections import deque

#: Turns in one round.
AT_ONCE = 8
#: So many that wait are a crowd: after each round, as long a pause as the round took.
CROWD = 32


class Turns:
    """The queue of streams that have something to do."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._runs = False
        self._began_s = 0.0

    async def next(self) -> None:
        """Return when whoever asked before has had its turn."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._runs:
            self._runs = True
            loop.call_soon(self._begin_round)
        await turn

    def _begin_round(self) -> None:
        loop = asyncio.get_running_loop()
        self._began_s = loop.time()
        left = AT_ONCE
        while self._waiting and left:
            turn = self._waiting.popleft()
            # One that was cancelled takes nobody's turn.
            if not turn.done():
                turn.set_result(None)
                left -= 1
        # Behind all of these.
        loop.call_soon(self._end_round)

    def _end_round(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._runs = False
        elif len(self._waiting) > CROWD:
            loop.call_later(loop.time() - self._began_s, self._begin_round)
        else:
            self._begin_round()
