"""Lines that the daemon itself appends to a log: through a pipe, as a program does.

So they are in nobody's memory: what was written is in the log in the end, whoever is killed (`logs`).
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from procd.output.logger.pipe import LARGE_BYTES, enlarge, unread_bytes
from procd.output.logger.stash import tee

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procd.output.streams import StreamKey


class OwnLines:
    """Our pipes, by log.  `attach` is given the read end of each."""

    def __init__(self, attach: Callable[[StreamKey, int, int], None]) -> None:
        self._attach = attach
        self._write_ends: dict[StreamKey, int] = {}
        self._rest: dict[StreamKey, bytes] = {}

    def write(self, key: StreamKey, lines: bytes) -> bool:
        """Append whole lines; returns whether they were taken, or there is no room for them now."""
        try:
            fd = self._write_ends.get(key)
            if fd is None:
                fd = self._begin(key)
            # A page is not always full, so not all of it counts as room.
            if unread_bytes(fd) + len(lines) > fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) // 2:
                return False
            data = self._rest.pop(key, b"") + lines
            if (written := os.write(fd, data)) < len(data):
                self._rest[key] = data[written:]
        except OSError:
            # Full all the same, or there is no descriptor left.
            return False
        return True

    def _begin(self, key: StreamKey) -> int:
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        enlarge(write_end)
        self._attach(key, read_end, os.getpid())
        self._write_ends[key] = write_end
        return write_end

    def close(self) -> None:
        """Write no more: what is in the pipes is moved, and then they end."""
        for fd in self._write_ends.values():
            os.close(fd)
        self._write_ends.clear()


def first_together(lines: Iterable[bytes], most_bytes: int) -> tuple[bytes, int]:
    """As many of the first lines as have no more bytes together, at least one; and how many these are."""
    together, count = bytearray(), 0
    for line in lines:
        if count and len(together) + len(line) > most_bytes:
            break
        together += line
        count += 1
    return bytes(together), count


def look(read_end: int) -> bytes:
    """What is in a pipe; it stays there.  Raises OSError."""
    scratch_read, scratch_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        enlarge(scratch_write)
        count = unread_bytes(read_end)
        taken = tee(read_end, scratch_write, LARGE_BYTES) if count else 0
        parts = []
        while taken > 0:
            parts.append(os.read(scratch_read, taken))
            taken -= len(parts[-1])
        return b"".join(parts)
    finally:
        os.close(scratch_read)
        os.close(scratch_write)
