"""A program that crashes every 90 seconds, for as long as one likes.

    python -m tests.unit.core.crashes

says how long a year of that takes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from procd.core import Exit, Exited, SpawnSucceeded
from tests.unit.core.world import World, spec

if TYPE_CHECKING:
    from procd.core import Machine, Program

CRASH_EVERY_S = 90
DAY_S = 86_400


def live_through_crashes(days: int) -> tuple[Program, Machine]:
    """Let a program run, become ready, and crash after 90 seconds, again and again."""
    world = World(spec())
    machine, now = world.machine, world.now
    ends_s = now + days * DAY_S
    spawned, crashed = SpawnSucceeded("web", 1000), Exited("web", Exit(signal=11))
    while now < ends_s:
        machine.handle(spawned, now)
        machine.expire(now + 1)
        now += CRASH_EVERY_S
        machine.handle(crashed, now)
    return world["web"], machine


if __name__ == "__main__":
    began_s = time.process_time()
    restarts = live_through_crashes(365)[0].restarts
    print(f"{restarts} restarts in {time.process_time() - began_s:.1f} s")
