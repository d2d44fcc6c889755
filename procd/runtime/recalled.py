"""What an earlier supervisor has left with the keeper, by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from procd.keeper.client import KeptExit
    from procd.keeper.line import Record


class Recalled:
    """All records; each is taken once, with its descriptors.  `exits` are ends that nobody took note of."""

    def __init__(self, records: Iterable[Record], exits: Iterable[KeptExit] = ()) -> None:
        self._records = {record.key: record for record in records}
        self.exits = exits

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def value(self, key: str) -> bytes | None:
        """Look at the value of a record."""
        record = self._records.get(key)
        return None if record is None else record.value

    def take(self, key: str) -> Record | None:
        """Take one."""
        return self._records.pop(key, None)

    def of(self, kind: str) -> dict[str, Record]:
        """Take all whose keys are `kind:NAME`, by name."""
        found = [key for key in self._records if key.startswith(f"{kind}:")]
        return {key.partition(":")[2]: self._records.pop(key) for key in found}

    def close(self) -> None:
        """Close what nobody has taken."""
        for record in self._records.values():
            record.close()
        self._records.clear()
