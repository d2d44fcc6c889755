"""What an idle Process costs: Python memory, and nothing that stays."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from procd.process import ProcessProtocol
from tests.kernel.children import in_loop, start, until

COUNT = 200
BOUND_BYTES = 4096


async def live_and_die() -> tuple[int, int]:
    """Start many and end them: memory for them while they lived, and memory afterwards."""
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    processes = [start(["sleep", "1000"], ProcessProtocol()) for _ in range(COUNT)]
    await asyncio.sleep(0)
    used = tracemalloc.get_traced_memory()[0] - before
    for process in processes:
        process.signal_process("KILL")
    await until(lambda: all(process.ended for process in processes))
    processes.clear()
    del process
    gc.collect()
    return used, tracemalloc.get_traced_memory()[0]


@in_loop
async def test_an_idle_process_with_three_pipes_costs_less_than_four_kilobytes() -> None:
    """Objects, loop registrations and all, while it lives; afterwards nothing."""
    tracemalloc.start()
    used, first = await live_and_die()
    _, second = await live_and_die()
    tracemalloc.stop()
    assert used / COUNT < BOUND_BYTES
    assert (second - first) / COUNT < 50
