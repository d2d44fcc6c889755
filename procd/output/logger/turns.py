"""Turns that write bytes before they leave their pipe: they can be killed anywhere, and be done again.

The order of what is done here is the whole point:

1. the board is told which slot's turn it is, and the size of its file (`Board.begin`);
2. the bytes are written to the file; they still are in their pipe;
3. they are moved from the pipe into the stash, which the daemon keeps;
4. what is counted is counted on the board; the turn is committed;
5. the stash is emptied.

A logger that is killed before 4 leaves a turn to the next one, which counts as before the turn, cuts the file
back to its size, and writes what is in the stash (nothing, if it had not come to 3).  Killed after 4, it leaves
a stash that only has to be emptied.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.output.board import Board
    from procd.output.logger.file import File
    from procd.output.logger.stash import Stash


#: The size of a file that is not to be cut.
ANY_SIZE = 1 << 62


class Left:
    """What a killed logger has left of a turn: the size of the file before it, and bytes that `pid` wrote."""

    __slots__ = ("data", "pid", "size")

    def __init__(self, size: int, pid: int, data: bytes) -> None:
        self.size = size
        self.pid = pid
        self.data = data


class Turns:
    """The turns of all logs, one at a time."""

    __slots__ = ("_board", "_stash", "left", "slot_left")

    def __init__(self, board: Board, stash: Stash) -> None:
        self._board = board
        self._stash = stash
        slot, size, pid = board.interrupted
        #: The slot whose turn has to be done again, and what is left of it; 0 and None when there is none.
        self.slot_left = slot
        self.left: Left | None = None
        if slot:
            board.undo()
            self.left = Left(size, pid, stash.left())
        else:
            stash.empty()

    def redone(self) -> None:
        """What was left is written."""
        if self.left is not None:
            self._board.count(self.slot_left, taken=len(self.left.data))
            self.settle()
            self.left = None
            self.slot_left = 0

    def give_up(self) -> None:
        """What was left can be written nowhere: its log is forgotten."""
        self.settle()
        self.left = None
        self.slot_left = 0

    def settle(self) -> None:
        """Make room for other turns: what is left is from now on in our memory only."""
        if self._board.interrupted[0]:
            self._board.commit()
            self._stash.empty()

    def append(self, slot: int, file: File, text: bytes, *, marks: bool = False) -> None:
        """Write something that has come from no pipe; `marks` says that it tells of all that was dropped.

        Raises OSError, with nothing of it in the file.
        """
        self.settle()
        self._board.begin(slot, file.size, 0)
        try:
            file.append(text)
            if marks:
                self._board.mark(slot)
        finally:
            self._board.commit()

    def move(
        self, slot: int, file: File, pipe: int, pid: int, data: bytes, text: Callable[[bytes], bytes]
    ) -> bytes:
        """Write to a file what was seen at the head of a pipe, in the way of `text`; returns what was moved.

        Raises OSError; then nothing has left the pipe, and nothing is in the file.
        """
        self.settle()
        before = file.size
        self._board.begin(slot, before, pid)
        try:
            file.append(text(data))
        except OSError:
            self._board.commit()
            raise
        moved = self._stash.take(pipe, len(data))
        if moved < len(data):
            # The stash has fewer places than the pipe had pieces.
            data = data[:moved]
            file.cut(before)
            file.append(text(data))
        self._taken(slot, moved)
        return data

    def pour(self, slot: int, file: File, pipe: int, pid: int, at_most: int) -> int:
        """Write to a file what is at the head of a pipe, as it is; returns how many bytes, 0 at the pipe's end.

        While splice(2) copies from a pipe into a file it holds that pipe, and its program waits.  Here the
        program goes on writing: what is copied is another pipe that has the same pages (tee(2)).

        Raises BlockingIOError when the pipe is empty, and OSError; then nothing has left the pipe, and nothing
        is in the file.
        """
        seen = self._stash.see(pipe, at_most)
        if not seen:
            return 0
        self.settle()
        before = file.size
        self._board.begin(slot, before, pid)
        try:
            poured = self._stash.pour(file, seen)
        except OSError:
            self._board.commit()
            raise
        moved = self._stash.take(pipe, poured)
        if moved < poured:
            file.cut(before + moved)
        self._taken(slot, moved)
        return moved

    def take(self, slot: int, pipe: int, pid: int, count: int) -> None:
        """Take what was seen at the head of a pipe, and is in good hands."""
        self.settle()
        while count:
            self._board.begin(slot, ANY_SIZE, pid)
            moved = self._stash.take(pipe, count)
            self._taken(slot, moved)
            count -= moved

    def _taken(self, slot: int, count: int) -> None:
        """Steps 4 and 5."""
        self._board.count(slot, taken=count)
        self._board.commit()
        self._stash.empty()

    def drop(self, slot: int, size: int, pipe: int, pid: int, at_most: int) -> int:
        """Throw away what is at the head of a pipe, and count it; returns how many bytes.

        Raises BlockingIOError when the pipe is empty; 0 is the end of the pipe.
        """
        self.settle()
        self._board.begin(slot, size, pid)
        try:
            moved = self._stash.take(pipe, at_most)
            self._board.count(slot, taken=moved, dropped=moved)
        finally:
            self._board.commit()
        self._stash.empty()
        return moved
