"""Where to begin in a log: at its last lines, or at a time.

A log may be large, old and compressed, so these look through it in pieces, and let others have their turn after
each (`pause`).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

from procd.output.part import Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from procd.output.history import History

#: Bytes that are looked through at once.
_PIECE_BYTES = 1 << 16
#: Seconds by which the time in a line may be later than that of its file, which the kernel takes from a coarse
#: clock, or a file server from its own.
_COARSE_S = 2.0


# The last lines


async def start_of_last_lines(
    history: History, end: int, lines: int, pause: Callable[[], Awaitable[None]]
) -> int:
    """Offset of the first byte of the last `lines` lines of a log that reaches to `end`.

    A last line without its newline counts as one.  What was cut out of the log, or is gone, is where it stops.
    Raises OSError.
    """
    position, wanted = end, lines
    # The newline that ends the last line begins no other.
    to = end - 1
    while position > 0 and wanted:
        part = history.find(position - 1)
        if not isinstance(part, Part):
            break
        try:
            look = _look_forward if part.compressed else _look_back
            found, wanted = await look(part, to, wanted, pause)
        finally:
            part.close()
        if found is not None:
            return found
        position = to = part.start
    return position


async def _look_back(
    part: Part, to: int, wanted: int, pause: Callable[[], Awaitable[None]]
) -> tuple[int | None, int]:
    """Find what follows the last newline but `wanted - 1` before `to`, or how many are wanted still."""
    while to > part.start:
        at = max(part.start, to - _PIECE_BYTES)
        piece = part.read(at, to - at) or b""
        count = piece.count(b"\n")
        if count >= wanted:
            return at + _nth_from_last(piece, wanted) + 1, 0
        wanted -= count
        to = at
        await pause()
    return None, wanted


async def _look_forward(
    part: Part, to: int, wanted: int, pause: Callable[[], Awaitable[None]]
) -> tuple[int | None, int]:
    """Do the same in a file that can only be read from its beginning: count first, then go there."""
    count = 0
    async for _, piece in _pieces(part, part.start, to, pause):
        count += piece.count(b"\n")
    if count < wanted:
        return None, wanted - count
    before = count - wanted
    async for offset, piece in _pieces(part, part.start, to, pause):
        here = piece.count(b"\n")
        if here > before:
            return offset + _nth_from_last(piece, here - before) + 1, 0
        before -= here
    # It was there a moment ago: somebody has damaged it since.
    return to, 0


def _nth_from_last(piece: bytes, number: int) -> int:
    at = len(piece)
    for _ in range(number):
        at = piece.rfind(b"\n", 0, at)
    return at


async def _pieces(
    part: Part, at: int, to: int, pause: Callable[[], Awaitable[None]]
) -> AsyncIterator[tuple[int, bytes]]:
    """Read a range of a file; yields each piece with its offset."""
    while at < to:
        piece = part.read(at, min(_PIECE_BYTES, to - at))
        if piece:
            yield at, piece
            at += len(piece)
        elif piece is not None:
            return
        await pause()


# A time


#: What the logger writes (RFC 3339, UTC, microseconds): as bytes they are in the order of time.
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_STAMP_BYTES = 27
_LATEST_S = 253402300799.0
#: What stands before the time in a line of each format that has one.
_BEFORE = {"timestamp": b"", "json": b'{"time":"'}


def stamp(moment_s: float) -> bytes:
    """Write a Unix time as it stands in a log; the last one has four digits for its year."""
    seconds, micros = divmod(int(min(moment_s, _LATEST_S) * 1_000_000), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%06dZ" % micros


async def start_since(
    history: History, end: int, moment_s: float, form: str, pause: Callable[[], Awaitable[None]]
) -> int:
    """Offset of the first line at or after a Unix time, in a log that reaches to `end`.

    That is exact where the lines have their times in them.  Where they have none it is the beginning of the
    file that was being written then.  Raises OSError.
    """
    key = stamp(moment_s)
    answer = end
    while answer > 0:
        part = history.find(answer - 1)
        if not isinstance(part, Part):
            break
        try:
            # All of it is older.
            if part.changed + (_COARSE_S if form in _BEFORE else 0) < moment_s:
                break
            if form in _BEFORE:
                lines = _Lines(part, _BEFORE[form], pause)
                first = await lines.first((part.start, answer))
                if first is not None and first.stamp < key:
                    return await lines.since(key, (first.offset, answer))
            else:
                first = None
            if first is None and part.since is not None and part.since <= moment_s:
                return part.start
        finally:
            part.close()
        answer = part.start
    return answer


class _Line(NamedTuple):
    """Where a line begins, and its time."""

    offset: int
    stamp: bytes


class _Lines:
    """The lines of one file that have a time in them, which is written after `before`.

    Others may stand between them: what was written in another format.
    """

    def __init__(self, part: Part, before: bytes, pause: Callable[[], Awaitable[None]]) -> None:
        self._part = part
        self._before = before
        self._head_bytes = len(before) + _STAMP_BYTES
        self._pause = pause

    async def since(self, key: bytes, span: tuple[int, int]) -> int:
        """Offset of the first line at or after `key`, the end of the span if there is none.

        The span begins with a line that is before `key`.  The times are taken to be in order.
        """
        low, answer = span
        high = answer
        while high - low > _PIECE_BYTES and not self._part.compressed:
            middle = (low + high) // 2
            # A line may begin just there, if the byte before it ends one.
            found = await self.first((middle - 1, high), whole=False)
            if found is not None and found.stamp < key:
                low = found.offset
                continue
            high = middle
            if found is not None:
                answer = found.offset
        found = await self.first((low, answer), key)
        return answer if found is None else found.offset

    async def first(self, span: tuple[int, int], key: bytes = b"", *, whole: bool = True) -> _Line | None:
        """Find the first line in a span that is at or after `key`; `whole`: a line begins with the span."""
        tail, fresh = b"", whole
        async for offset, piece in _pieces(self._part, *span, self._pause):
            text = tail + piece
            at = 0 if fresh else text.find(b"\n") + 1
            if not at and not fresh:
                continue
            at = self._pass_over(text, at, key)
            tail, fresh = b"", text.endswith(b"\n")
            while at < len(text):
                if len(text) - at < self._head_bytes:
                    tail, fresh = text[at:], True
                    break
                found = self._stamp_of(text, at)
                if found is not None and found >= key:
                    return _Line(offset - len(text) + len(piece) + at, found)
                at = text.find(b"\n", at) + 1 or len(text)
        return None

    def _pass_over(self, text: bytes, at: int, key: bytes) -> int:
        """Go to the last line whose time is in this piece, if that is before `key`."""
        last = text.rfind(b"\n", at, max(at, len(text) - self._head_bytes)) + 1
        found = self._stamp_of(text, last) if last else None
        return last if found is not None and found < key else at

    def _stamp_of(self, text: bytes, at: int) -> bytes | None:
        if not text.startswith(self._before, at):
            return None
        found = text[at + len(self._before) : at + self._head_bytes]
        return found if _STAMP.fullmatch(found) else None
