"""Readiness by what a program writes: a line of its log that matches.

Owns the cutting of a growing log into lines.  Must not know where a log is kept: it is given a function that
reads, and one that tells of growth.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Bytes of a line that are looked at: the rest of a longer one is passed over.
MAX_LINE_BYTES = 65536
#: Bytes that are read before the loop gets its turn.
TURN_BYTES = 65536


class LogSource(Struct, frozen=True):
    """One log of a program, from the first byte of its present life.

    `read(offset, size)` returns what is there, at most `size` bytes, b"" where nothing is yet, or raises
    OSError; `watch(grown)` calls `grown` whenever there is more, and returns what ends that.
    """

    start: int
    read: Callable[[int, int], bytes]
    watch: Callable[[Callable[[], None]], Callable[[], None]]


class LogLine:
    """Calls `on_match`, from the loop and once, when a whole line of a log matches a regular expression.

    The expression is searched for in the bytes of the line, without its end.
    """

    __slots__ = ("_lines", "_loop", "_offset", "_on_match", "_pattern", "_read", "_soon", "_unwatch")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pattern: str, source: LogSource, on_match: Callable[[], None]
    ) -> None:
        """Look at what is there already, and at what comes.  Raises re.error for a bad pattern."""
        self._loop = loop
        self._pattern = re.compile(pattern.encode())
        self._on_match = on_match
        self._read = source.read
        self._offset = source.start
        self._lines = Lines()
        self._soon: asyncio.Handle | None = loop.call_soon(self._turn)
        self._unwatch: Callable[[], None] | None = source.watch(self._has_grown)

    def _has_grown(self) -> None:
        # Not now: whoever says so is in the middle of moving output.
        if self._soon is None and self._unwatch is not None:
            self._soon = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._soon = None
        try:
            chunk = self._read(self._offset, TURN_BYTES)
        except OSError:
            # A log that cannot be read now can perhaps when it has grown; until then the program is not ready.
            return
        self._offset += len(chunk)
        if any(self._pattern.search(line) for line in self._lines.feed(chunk)):
            self.cancel()
            self._on_match()
        elif chunk:
            # Until there is nothing: growth that came before the read is told only once.
            self._has_grown()

    def cancel(self) -> None:
        """Look no more."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None


class Lines:
    """Cuts chunks into lines, of which it gives the first MAX_LINE_BYTES; holds no more than that."""

    __slots__ = ("_overlong", "_partial")

    def __init__(self) -> None:
        self._partial = bytearray()
        self._overlong = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk; return the lines that it completes, without their ends (LF, or CR and LF)."""
        *complete, rest = chunk.split(b"\n")
        lines = [self._whole(piece) for piece in complete]
        self._add(rest)
        return lines

    def _whole(self, piece: bytes) -> bytes:
        self._add(piece)
        line = bytes(self._partial)
        cut, self._overlong = self._overlong, False
        self._partial.clear()
        return line if cut else line.removesuffix(b"\r")

    def _add(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES - len(self._partial)
        self._overlong = self._overlong or len(piece) > room
        self._partial += piece[:room]
