"""How a supervisor ends that could not do its work: nobody starts for nothing, and nothing is given up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from procd import supervise
from procd.errors import ConfigurationError, Problem, UnreadableRecord
from procd.keeper.line import Record

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeMemory:
    """A keeper that has these records, and hears what our end is to mean."""

    def __init__(self, *keys: str) -> None:
        self._records = [Record(key, b"", ()) for key in keys]
        self.finished: int | None = None
        self.on_exit: Callable[[Any], None]

    async def recall(self) -> list[Record]:
        """What there is."""
        return self._records

    def finish(self, status: int) -> None:
        """Remember."""
        self.finished = status

    async def settle(self) -> None:
        """At once."""

    def close(self) -> None:
        """Nothing is open."""


MISTAKE = ConfigurationError((Problem("procd.toml", 1, "key", "is wrong", "mend it"),))


@pytest.mark.parametrize(
    ("error", "status"),
    [(MISTAKE, 78), (UnreadableRecord(None, "why"), 65), (OSError(5, "why"), 71), (RuntimeError("ours"), 70)],
)
@pytest.mark.parametrize("left", [(), ("specs",)], ids=["first", "there are programs"])
def test_an_end_is_final_only_where_nobody_loses_by_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, left: tuple[str, ...]
) -> None:
    """What an earlier supervisor has left is for another one; otherwise a second try would end as the first."""
    memory = FakeMemory(*left)

    def begin(*_: object) -> None:
        raise error

    monkeypatch.setattr(supervise, "begin", begin)
    monkeypatch.setattr(supervise.Memory, "of", lambda *_: memory)
    assert asyncio.run(supervise._supervise(None, ())) == status
    assert memory.finished == (None if left else status)
