"""Turns: in order, a few at a time, and a crowd has at most half of the time."""

from __future__ import annotations

import asyncio
import time

from procd.control.turns import AT_ONCE, CROWD, Turns
from tests.kernel.children import in_loop


class Rounds:
    """Counts the rounds of the loop, each with the turns that it had."""

    def __init__(self) -> None:
        self.turns: list[int] = []
        self._goes_on = True
        self._count()

    def _count(self) -> None:
        if self._goes_on:
            self.turns.append(0)
            asyncio.get_running_loop().call_soon(self._count)

    def stop(self) -> None:
        """Count no more."""
        self._goes_on = False


@in_loop
async def test_turns_are_had_in_order_and_a_few_in_each_round() -> None:
    """A thousand that ask at once do not come between others."""
    turns, rounds = Turns(), Rounds()
    had: list[int] = []

    async def ask(number: int) -> None:
        await turns.next()
        had.append(number)
        rounds.turns[-1] += 1

    await asyncio.gather(*(ask(number) for number in range(1000)))
    rounds.stop()
    assert had == list(range(1000))
    assert max(rounds.turns) <= AT_ONCE


@in_loop
async def test_one_that_asks_again_is_behind_those_that_wait() -> None:
    """So all come forward alike."""
    turns = Turns()
    had = [0] * 100

    async def ask_on(number: int) -> None:
        while max(had) < 50:
            await turns.next()
            had[number] += 1
            assert max(had) - min(had) <= 1

    await asyncio.gather(*(ask_on(number) for number in range(100)))


@in_loop
async def test_one_that_leaves_takes_nobodys_turn() -> None:
    """A connection may be lost while its streams wait."""
    turns = Turns()
    tasks = [asyncio.create_task(turns.next()) for _ in range(CROWD)]
    await asyncio.sleep(0)
    for task in tasks[:-1]:
        task.cancel()
    await asyncio.wait_for(tasks[-1], 10)
    await asyncio.gather(*tasks, return_exceptions=True)
    # And it goes on with the next.
    await asyncio.wait_for(turns.next(), 10)


@in_loop
async def test_a_crowd_leaves_half_of_the_time_to_others() -> None:
    """However long its turns are."""
    turns = Turns()
    busy_s = 0.0

    async def work() -> None:
        nonlocal busy_s
        await turns.next()
        began_s = time.monotonic()
        time.sleep(0.001)  # noqa: ASYNC251 - what a turn costs
        busy_s += time.monotonic() - began_s

    began_s = time.monotonic()
    await asyncio.gather(*(work() for _ in range(10 * CROWD)))
    lasted_s = time.monotonic() - began_s
    # All but the last CROWD had pauses as long as they took.
    assert lasted_s > 1.8 * busy_s
