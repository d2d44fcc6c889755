"""The memory of the keeper that there is: of another one, when the first was killed and has a successor."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from procd.keeper.client import KeptExit, Memory
    from procd.keeper.line import Batch


class PresentMemory:
    """What everybody puts into (`Memory`), whoever keeps it.  While nobody does, `lost` is true."""

    __slots__ = ("_memory",)

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def become(self, memory: Memory) -> None:
        """Put into this one from now on; what the last one had has to be put again."""
        self._memory = memory

    def put(self, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Have this kept under a key; whether the keeper has it already."""
        return self._memory.put(key, value, fds)

    def give(self, child: str, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Have this kept for another child of the keeper."""
        return self._memory.give(child, key, value, fds)

    def drop(self, key: str) -> bool:
        """Have nothing kept under a key."""
        return self._memory.drop(key)

    def batch(self) -> Batch:
        """In a `with`: what is said goes together."""
        return self._memory.batch()

    def collect(self) -> Batch:
        """In a `with`: what is said may wait for the end, or for `send`."""
        return self._memory.collect()

    def send(self) -> None:
        """Send what was collected."""
        self._memory.send()

    def taken(self, kept: KeptExit) -> None:
        """Have an exit forgotten: what follows from it is recorded."""
        self._memory.taken(kept)

    @property
    def lost(self) -> bool:
        """There is no keeper."""
        return self._memory.lost

    @property
    def settled(self) -> bool:
        """Whether the keeper has everything that was said."""
        return self._memory.settled

    async def settle(self) -> None:
        """Wait until it has."""
        await self._memory.settle()

    async def catch_up(self) -> None:
        """Wait until all is here that the keeper knew when this was called."""
        await self._memory.catch_up()


class RecordedValues:
    """A memory of values only, for somebody who is to say whether they can be read."""

    lost = False
    settled = True

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def put(self, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Have this value."""
        del fds
        self.values[key] = value
        return True

    def drop(self, key: str) -> bool:
        """Have none."""
        return self.values.pop(key, None) is not None

    def batch(self) -> AbstractContextManager[None]:
        """Nothing is sent, together or not."""
        return nullcontext()

    def collect(self) -> AbstractContextManager[None]:
        """The same."""
        return nullcontext()

    def send(self) -> None:
        """It is here."""

    def taken(self, kept: KeptExit) -> None:
        """Exits are the keeper's."""

    async def settle(self) -> None:
        """It is here."""
