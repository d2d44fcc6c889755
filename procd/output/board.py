"""The board: how far every log has come, in memory that the daemon and the logger share.

The logger writes it after each turn, the daemon reads it when somebody asks: no message is sent for that.  It
is a memfd that the daemon makes and keeps, so it outlives the logger.  Bytes are counted as they stand in the
files, from the first byte that the log ever had: the *offset* of a byte never changes, whatever is rotated.
"""

from __future__ import annotations

import mmap
import os

#: Logs that there can be: 10,000 programs with a stderr of their own, three times over.  The memory is that of
#: the slots in use.
SLOTS = 65536

#: 64-bit words of a slot.
_WORDS = 8
_BYTES = 8 * _WORDS
#: The first slot belongs to the board itself.
_OWN = 0

# Words of a slot
#: Offset after the last byte that is in the log.
_END = 0
#: Offset of the first byte of the present file.
_START = 1
#: Bytes of output that were dropped, and lines that were cut, since the slot was given out.
_DROPPED = 2
_CUT = 3
#: Bytes of output that were taken out of pipes.
_TAKEN = 4

# Words of the board itself
#: The slot whose bytes are in the stash, and where its file ended before them.  0: none.
_STASHED = 0
_STASHED_AT = 1


class Board:
    """The slots, by number from 1."""

    __slots__ = ("_map", "_words", "fd")

    def __init__(self, fd: int) -> None:
        """Map a board that was made."""
        self.fd = fd
        self._map = mmap.mmap(fd, SLOTS * _BYTES)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def make(cls) -> Board:
        """Make one, all zero.  Raises OSError."""
        fd = os.memfd_create("procd-logs", os.MFD_CLOEXEC)
        os.ftruncate(fd, SLOTS * _BYTES)
        return cls(fd)

    def clear(self, slot: int) -> None:
        """Begin a slot anew."""
        at = slot * _WORDS
        for word in range(_WORDS):
            self._words[at + word] = 0

    def end(self, slot: int) -> int:
        """Offset after the last byte that is in the log."""
        return self._words[slot * _WORDS + _END]

    def start(self, slot: int) -> int:
        """Offset of the first byte of the present file."""
        return self._words[slot * _WORDS + _START]

    def dropped(self, slot: int) -> int:
        """Bytes of output that are in no log."""
        return self._words[slot * _WORDS + _DROPPED]

    def cut(self, slot: int) -> int:
        """Lines that were cut."""
        return self._words[slot * _WORDS + _CUT]

    def taken(self, slot: int) -> int:
        """Bytes of output that were taken out of pipes."""
        return self._words[slot * _WORDS + _TAKEN]

    def set_extent(self, slot: int, start: int, end: int) -> None:
        """Say where the present file begins and how far it reaches."""
        at = slot * _WORDS
        # A reader may come in between: never is the start beyond the end, nor the end before what it was.
        self._words[at + _END] = end
        self._words[at + _START] = start

    def count(self, slot: int, *, taken: int = 0, dropped: int = 0, cut: int = 0) -> None:
        """Add to the counters of a log."""
        at = slot * _WORDS
        if taken:
            self._words[at + _TAKEN] += taken
        if dropped:
            self._words[at + _DROPPED] += dropped
        if cut:
            self._words[at + _CUT] += cut

    @property
    def stashed(self) -> tuple[int, int]:
        """The slot whose bytes are in the stash, and the size of its file before them; slot 0: nobody's."""
        return self._words[_OWN + _STASHED], self._words[_OWN + _STASHED_AT]

    @stashed.setter
    def stashed(self, value: tuple[int, int]) -> None:
        # The size first: as soon as a slot stands there, it counts.
        self._words[_OWN + _STASHED_AT] = value[1]
        self._words[_OWN + _STASHED] = value[0]

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._map.close()
        os.close(self.fd)
