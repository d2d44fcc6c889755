"""All that is left of a log: the present file and the older ones, as one row of bytes.

Owns the names of the files (`PATH`, `PATH.1`, `PATH.2.gz`, …), where each begins in the log, and the reading
across them.  Offsets are logical: a byte keeps its own for ever, whatever is rotated.  Must not know who writes
the log, or who reads it.

The logger renames files while we look.  So they are looked through from the newest to the oldest: they only
move in that direction, so one may be seen twice, and none is missed.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from procd.output.logger.file import START, read_attribute
from procd.output.part import open_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from procd.output.part import Part

#: Why bytes are missing.
ROTATED = "rotated away"
CUT = "a file of the log was cut or deleted"
DAMAGED = "a compressed file of the log is damaged"

#: What in the place of an older file is none of the log: a directory, a link.
_NOT_OURS = frozenset({errno.ENOTSUP, errno.ELOOP, errno.ENXIO})
#: How often a rotation may come in between while we look for where the present file begins.
_TRIES = 8
#: After so many numbers without a file there are no more, although `keep` may be ten thousand.
_MISSING = 32


class Extent(NamedTuple):
    """Where the present file of a log begins, and how far the log reaches."""

    start: int
    end: int


class Gap(NamedTuple):
    """So many bytes are in no file, and why."""

    size: int
    reason: str


#: What a step of a reader gives: bytes, none at the end; a gap; None when it takes another step.
Step: TypeAlias = bytes | Gap | None


class History:
    """The files of one log.

    `known` is what whoever writes the log knows of it: None while nobody does.
    """

    def __init__(self, path: str, keep: int, known: Callable[[], Extent | None]) -> None:
        self.path = path
        self.keep = keep
        self.known = known

    # The files

    def parts(self) -> Iterator[Part]:
        """Open the files, the newest first, each with its start; whoever takes one closes it.

        Raises OSError where the present one cannot be read.
        """
        seen = set()
        above = None
        known, present = self._present()
        if present is not None:
            seen.add(present.identity)
            above = present.start
            yield present
        for part in self._older():
            if part.identity in seen or not self._place(part, above, known):
                part.close()
                continue
            seen.add(part.identity)
            above = part.start
            yield part

    def _present(self) -> tuple[Extent | None, Part | None]:
        """What is known, and the present file, if there is anything in it."""
        tries = _TRIES
        while True:
            known = self.known()
            part = open_part(self.path)
            if part is None or (part.claimed is None and not part.size):
                # It is about to be made: in the middle of a rotation, what is known is of the one before.
                if part is not None:
                    part.close()
                return known, None
            if part.claimed is not None and (known is None or part.claimed <= known.end):
                part.start = part.claimed
                return known, part
            if known is None:
                part.start = self._end_of_older()
                return known, part
            part.start = known.start
            again = self.known()
            tries -= 1
            if again is None or again.start == known.start or not tries:
                return known, part
            # It was rotated just now.
            part.close()

    def _place(self, part: Part, above: int | None, known: Extent | None) -> bool:
        """Say where an older file begins, the next one beginning at `above`; False if it cannot be of this log.

        What is claimed is believed as far as it can be: somebody else may have made the file.
        """
        if above is None:
            above = known.end if known is not None else None
            if part.claimed is not None and (above is None or part.claimed <= above):
                part.start = part.claimed
                return True
            if above is None:
                above = self._end_of_older()
            elif known is not None and part.size != known.end - known.start:
                # It is not the file that is known: that one is gone.
                above = known.start
        else:
            part.fit(above)
            if part.claimed is not None and part.claimed + part.size <= above:
                part.start = part.claimed
                return True
        part.start = above - part.size
        return part.start >= 0

    def _older(self) -> Iterator[Part]:
        """Open the older files, the newest first."""
        missing = 0
        for number in range(1, self.keep + 1):
            missing += 1
            # In this order: one that is being compressed is there under the one name or the other.
            for name in (f"{self.path}.{number}", f"{self.path}.{number}.gz"):
                try:
                    part = open_part(name)
                except OSError as error:
                    if error.errno not in _NOT_OURS:
                        raise
                    continue
                if part is not None:
                    yield part
                    missing = 0
                    break
            if missing == _MISSING:
                return

    def _end_of_older(self) -> int:
        """Where the present file begins when nobody knows: after what the older ones hold."""
        size = 0
        for part in self._older():
            part.close()
            size += part.size
            if part.claimed is not None:
                return part.claimed + size
        return size

    # Places in the log

    def extent(self) -> Extent:
        """Where the present file begins and how far the log reaches, as it is known, or as the files say."""
        known = self.known()
        if known is not None:
            return known
        for part in self.parts():
            part.close()
            return Extent(part.start if part.path == self.path else part.end, part.end)
        return Extent(0, 0)

    def first(self) -> int:
        """The offset of the oldest byte that is left, or the end of a log that has none."""
        first = None
        for part in self.parts():
            part.close()
            first = part.start
        return self.extent().end if first is None else first

    def begun(self) -> float | None:
        """When the oldest byte that is left came (Unix time), as far as is known; None if there is none."""
        oldest = None
        for part in self.parts():
            part.close()
            if part.size:
                oldest = part.changed if part.since is None else part.since
        return oldest

    def find(self, offset: int) -> Part | Gap | None:
        """Open the file that has this byte; a gap if only later ones are left, None at the end of them all."""
        above, seen = None, 0
        for part in self.parts():
            if part.start <= offset < part.end:
                return part
            part.close()
            if part.end <= offset:
                return None if above is None else Gap(above - offset, CUT)
            above = part.start
            seen += 1
        if above is None:
            return None
        # Rotation leaves an older file, if it leaves any.
        return Gap(above - offset, CUT if seen == 1 and self.keep else ROTATED)

    def is_present(self, part: Part) -> bool:
        """Whether this is the file that stands at the path of the log."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == part.identity


class Reader:
    """Reads a log from an offset on, whichever files the bytes are in, one bounded step at a time.

    It has one file open at most, and reads it to its end also when it was renamed or deleted meanwhile.
    """

    def __init__(self, history: History, offset: int) -> None:
        self.offset = offset
        self._history = history
        self._part: Part | None = None
        self._start_known: int | None = None

    def step(self, at_most: int, limit: int | None = None) -> Step:
        """Read on, up to the offset `limit`, or to the end.

        Raises OSError.
        """
        known = self._history.known()
        # Beyond what the logger says may stand what it takes back: a turn that was killed in its middle.
        end = known.end if known is not None else None
        if limit is not None:
            end = limit if end is None else min(limit, end)
        if end is not None and self.offset >= end:
            return b""
        if self._part is None:
            found = self._find(end)
            if found is None:
                return b""
            if isinstance(found, Gap):
                self.offset += found.size
                return found
            self._part = found
            self._start_known = known.start if known is not None else None
        return self._read(self._part, at_most if end is None else min(at_most, end - self.offset))

    def _find(self, end: int | None) -> Part | Gap | None:
        found = self._history.find(self.offset)
        if found is None and end is not None:
            # All that was written was in a file when we began to look: somebody has cut it off.
            return Gap(end - self.offset, CUT)
        if isinstance(found, Gap) and end is not None and found.size > end - self.offset:
            return Gap(end - self.offset, found.reason)
        return found

    def _read(self, part: Part, at_most: int) -> Step:
        piece = part.read(self.offset, at_most)
        if piece is None:
            return None
        if not self._still_begins(part):
            self.close()
            return None
        if piece:
            self.offset += len(piece)
            return piece
        self.close()
        if part.compressed and self.offset < part.end:
            gap = Gap(part.end - self.offset, DAMAGED)
            self.offset = part.end
            return gap
        return None

    def _still_begins(self, part: Part) -> bool:
        """Whether a file begins where it did: one that somebody has truncated begins anew.

        The logger says so in the file before it writes there again, so bytes that were read before it was asked
        are those that were meant.
        """
        if part.compressed:
            return True
        claimed = read_attribute(part.fd, START)
        if claimed is not None:
            return claimed == (part.start if part.claimed is None else part.claimed)
        known = self._history.known()
        if known is None or known.start == self._start_known:
            return True
        self._start_known = known.start
        return known.start == part.start or not self._history.is_present(part)

    def close(self) -> None:
        """Let go of the file; harmless if that was done."""
        if self._part is not None:
            self._part.close()
            self._part = None
