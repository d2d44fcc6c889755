"""What is remembered for a child: key → (bytes, descriptors); and how much of it there may be.

Owns the descriptors of its records.  Whatever is refused changes nothing.
"""

from __future__ import annotations

from procd.keeper.messages import close_all

TYPE_CHECKING = False  # as in `messages`
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_RECORDS = 65536
MOST_BYTES = 64 << 20
#: Descriptors that are left for the keeper's own channels and files.
FDS_FOR_ITSELF = 64
#: What a record costs beside its bytes.
_OVERHEAD_BYTES = 256


class Refused(Exception):  # noqa: N818 - the word of the protocol
    """There is no room for a record: the reason."""


class Room:
    """What all tables hold together, and what they may."""

    __slots__ = ("bytes", "fds", "most_fds", "records")

    def __init__(self, most_fds: int) -> None:
        self.records = self.bytes = self.fds = 0
        self.most_fds = most_fds

    def take(self, records: int, size: int, fds: int) -> None:
        """Count what comes, or goes.  Raises Refused for what is too much."""
        if records > 0 and self.records + records > MOST_RECORDS:
            raise Refused(f"there are {self.records} records")
        if size > 0 and self.bytes + size > MOST_BYTES:
            raise Refused(f"the records have {self.bytes} bytes, of {MOST_BYTES}")
        if fds > 0 and self.fds + fds > self.most_fds:
            raise Refused(f"the records have {self.fds} descriptors, of {self.most_fds}")
        self.records += records
        self.bytes += size
        self.fds += fds


class Table:
    """The records of one child."""

    __slots__ = ("_fds", "_room", "_values")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._values: dict[bytes, bytes] = {}
        #: Of those that have any; most have none, and a pair for each record would be memory, too.
        self._fds: dict[bytes, tuple[int, ...]] = {}

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> tuple[bytes, tuple[int, ...]] | None:
        """What is kept under a key: the value, and the descriptors, which stay the table's."""
        value = self._values.get(key)
        return None if value is None else (value, self._fds.get(key, ()))

    def put(self, key: bytes, value: bytes, fds: tuple[int, ...]) -> None:
        """Keep this instead of what there was.  The descriptors are taken over, also when it raises Refused."""
        old = self.get(key)
        size, more_fds = len(value), len(fds)
        if old is None:
            records = 1
            size += len(key) + _OVERHEAD_BYTES
        else:
            records = 0
            size -= len(old[0])
            more_fds -= len(old[1])
        try:
            self._room.take(records, size, more_fds)
        except Refused:
            close_all(fds)
            raise
        self._values[key] = value
        if fds:
            self._fds[key] = fds
        elif old is not None:
            self._fds.pop(key, None)
        if old is not None:
            close_all(old[1])

    def drop(self, key: bytes) -> bool:
        """Forget a key; whether there was one."""
        old = self.get(key)
        if old is None:
            return False
        del self._values[key]
        self._fds.pop(key, None)
        self._room.take(-1, -len(old[0]) - len(key) - _OVERHEAD_BYTES, -len(old[1]))
        close_all(old[1])
        return True
