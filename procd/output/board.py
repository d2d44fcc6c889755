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
#: Of the dropped bytes, those of which a mark in the log tells.
_MARKED = 5
#: The pipe whose beginning was told last, and the offset that was told.
_BEGUN_PIPE = 6
_BEGUN = 7

# Words of the board itself
#: The slot that is in the middle of a turn (0: none), the size of its file before it, and who wrote the bytes.
_TURN = 0
_TURN_SIZE = 1
_TURN_PID = 2
#: Where the words of that slot are kept as they were before the turn: after the last slot.
_BEFORE = SLOTS * _WORDS


class Board:
    """The slots, by number from 1."""

    __slots__ = ("_map", "_words", "fd")

    def __init__(self, fd: int) -> None:
        """Map a board that was made."""
        self.fd = fd
        self._map = mmap.mmap(fd, (SLOTS + 1) * _BYTES)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def make(cls) -> Board:
        """Make one, all zero.  Raises OSError."""
        fd = os.memfd_create("procd-logs", os.MFD_CLOEXEC)
        os.ftruncate(fd, (SLOTS + 1) * _BYTES)
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

    def unmarked(self, slot: int) -> int:
        """Dropped bytes of which no mark in the log tells yet."""
        at = slot * _WORDS
        return self._words[at + _DROPPED] - self._words[at + _MARKED]

    def mark(self, slot: int) -> None:
        """A mark in the log tells of all that was dropped so far."""
        at = slot * _WORDS
        self._words[at + _MARKED] = self._words[at + _DROPPED]

    def begin_pipe(self, slot: int, pipe: int) -> int:
        """Note that a pipe begins here, at the end; returns the offset, of a pipe that had begun that of then.

        `pipe` is its inode, which no other pipe has: numbers begin anew with a supervisor.
        """
        at = slot * _WORDS
        end = self._words[at + _END]
        if self._words[at + _BEGUN_PIPE] == pipe:
            return min(self._words[at + _BEGUN], end)
        # Killed in between, this is told anew: of no pipe stands there what was told of another.
        self._words[at + _BEGUN_PIPE] = 0
        self._words[at + _BEGUN] = end
        self._words[at + _BEGUN_PIPE] = pipe
        return end

    # A turn in which bytes pass through the memory of the logger can be killed anywhere in between: then it is
    # undone, and done again with what is in the stash.

    def begin(self, slot: int, size: int, pid: int) -> None:
        """Begin such a turn: the file of this slot has so many bytes, and what comes was written by `pid`."""
        words, at = self._words, slot * _WORDS
        words[_BEFORE : _BEFORE + _WORDS] = words[at : at + _WORDS]
        words[_TURN_SIZE] = size
        words[_TURN_PID] = pid
        # Last: as soon as a slot stands there, all of it counts.
        words[_TURN] = slot

    def commit(self) -> None:
        """The turn is done: what may still be in the stash is in the file, or is counted as dropped."""
        self._words[_TURN] = 0

    @property
    def interrupted(self) -> tuple[int, int, int]:
        """The slot whose turn was not done (0: none), the size of its file before, and who wrote the bytes."""
        return self._words[_TURN], self._words[_TURN_SIZE], self._words[_TURN_PID]

    def undo(self) -> None:
        """Count for the interrupted slot as before its turn; the turn is begun still."""
        at = self._words[_TURN] * _WORDS
        self._words[at : at + _WORDS] = self._words[_BEFORE : _BEFORE + _WORDS]

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._map.close()
        os.close(self.fd)
