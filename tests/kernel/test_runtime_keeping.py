"""What must be recorded before it is done waits for the keeper, and nothing else does."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from procd.config.spec import Hooks
from procd.core import Start, State, Stop
from procd.runtime.present_memory import RecordedValues
from tests.kernel.children import in_loop, until
from tests.world import TEST, World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class SlowMemory(RecordedValues):
    """A memory whose keeper stands still as long as the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.goes = asyncio.Event()
        self.goes.set()

    @property
    def settled(self) -> bool:  # type: ignore[override]
        """Whether all that was put is there."""
        return self.goes.is_set()

    def put(self, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Have it, sooner or later."""
        super().put(key, value, fds)
        return self.settled

    async def settle(self) -> None:
        """Wait for it."""
        await self.goes.wait()


@in_loop
async def test_a_start_waits_for_its_record_and_nobody_else_for_that(tmp_path: Path) -> None:
    """Others are stopped, and start when they may; who is not wanted any more when it may is not started."""
    memory = SlowMemory()
    async with World(tmp_path, memory) as world:
        world.add(*(world.spec(name) for name in ("one", "two")))
        await world.until_state(State.RUNNING, "one")
        await world.until_state(State.RUNNING, "two")
        memory.goes.clear()
        world.add(*(world.spec(name) for name in ("three", "four")))
        world.runtime.submit(Stop("one", TEST))
        await world.until_state(State.STOPPED, "one")
        os.kill(world.program("two").pid or 0, signal.SIGKILL)
        await until(lambda: world.program("two").spawning)
        world.runtime.submit(Stop("four", TEST))
        for name in ("two", "three", "four"):
            assert world.program(name).pid is None
        assert "intent:three" not in memory.values
        memory.goes.set()
        await world.until_state(State.RUNNING, "two")
        await world.until_state(State.RUNNING, "three")
        await world.until_state(State.STOPPED, "four")
        assert world.runtime.spawns == 4


@in_loop
async def test_a_hook_that_was_cancelled_before_it_was_recorded_is_not_run(tmp_path: Path) -> None:
    """Its program is stopped while it waits."""
    memory = SlowMemory()
    async with World(tmp_path, memory) as world:
        hooks = Hooks(before_start=("/bin/sh", "-c", f"touch {tmp_path}/ran"))
        world.add(world.spec("one", hooks=hooks), start=False)
        memory.goes.clear()
        world.runtime.submit(Start("one", TEST))
        world.runtime.submit(Stop("one", TEST))
        memory.goes.set()
        await until(lambda: world.program("one").hook is None)
        await world.until_state(State.STOPPED, "one")
        assert not (tmp_path / "ran").exists()
