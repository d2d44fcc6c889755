"""A log in a file that is rotated: from a pipe into the file, and from one file to the next at a line's end.

Owns the choice of how bytes move: by splice(2) where they need not be looked at (by way of another pipe where
one is busy), and through our memory (`turns`) for formats, and on file systems without splice.  Knows nothing
of several pipes, or of what is done in trouble.
"""

from __future__ import annotations

import time

from procd.output import messages
from procd.output.logger import rotation
from procd.output.logger.compression import remove
from procd.output.logger.file import NO_SPLICE, File
from procd.output.logger.formats import Format, whole

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from procd.output.logger.pipe import Pipe
    from procd.output.logger.spec import Spec
    from procd.output.logger.world import World

#: Bytes that are looked at in one turn: with more, the allocator goes to the kernel for each.
BATCH_BYTES = 1 << 15
#: A line that goes on for so long where a file has to be rotated is cut.
LINE_BYTES = 1 << 20
#: Seconds between two looks whether a log that is written still stands where it was.
CHECK_S = 1.0
#: Seconds after which a rotation that failed is tried again.
ROTATE_AGAIN_S = 10.0


class RotatingFile:
    """The present file of a log, and its way to the next."""

    __slots__ = (
        "_beyond",
        "_check_at",
        "_continued",
        "_file",
        "_format",
        "_pid",
        "_rotate_at",
        "_slot",
        "_spec",
        "_world",
        "due",
        "splices",
    )

    #: A file never lets one wait.
    waits_for = -1

    def __init__(self, world: World, slot: int, spec: Spec) -> None:
        """Open the file of a log, and finish the turn in which the last logger was killed.  Raises OSError."""
        self._world = world
        self._slot = slot
        self._spec = spec
        self._format = Format(spec)
        #: It is to be rotated at the next end of a line, whatever its size.
        self.due = False
        #: Bytes that have come since it should have been rotated, without the end of a line.
        self._beyond = 0
        self._check_at = self._rotate_at = 0.0
        #: Bytes can be moved without being read.
        self.splices = self._format.is_raw
        #: Who wrote the line in the middle of which the file ends; 0 where that is not known.
        self._pid = 0
        #: The file ends in the middle of a line; of a raw log this is not kept.
        self._continued = False
        self._open()
        try:
            self._redo()
        except OSError:
            self._file.close()
            raise
        remove(spec.path + rotation.UNFINISHED)
        if spec.compress:
            world.compression.want(spec.path, spec.keep)

    def _open(self) -> None:
        self._file = File(self._spec.path)
        self._find_start(self._file)
        self._continued = not self._format.is_raw and not self._file.at_line_start
        self._tell_extent()

    def _find_start(self, file: File) -> None:
        """Offsets never go back: what is known of the log decides where its file begins."""
        board = self._world.board
        start, end = board.start(self._slot), board.end(self._slot)
        if file.start is not None and file.end >= end:
            return
        if not file.size or not end:
            # A new file, perhaps because a rotation was killed right before it was made; or a cold start.
            end = max(end, rotation.end_of_old(self._spec.path, self._spec.keep))
        elif file.start is None and start + file.size >= end:
            end = start
        file.place(end)

    def _redo(self) -> None:
        turns = self._world.turns
        if turns.slot_left != self._slot or turns.left is None:
            return
        size, pid, data = turns.left.size, turns.left.pid, turns.left.data
        if self._file.size > size:
            self._file.cut(size)
            self._continued = not self._format.is_raw and not self._file.at_line_start
        if data:
            self._file.append(self._text(data, pid))
            self._note_line(data, pid)
        turns.redone()
        self._tell_extent()

    def _tell_extent(self) -> None:
        self._world.board.set_extent(self._slot, self._file.start or 0, self._file.end)

    @property
    def since(self) -> int | None:
        """Unix time of the first byte of the present file; None while there is none."""
        return self._file.since

    @property
    def size(self) -> int:
        """Bytes in the present file."""
        return self._file.size

    @property
    def at_line_start(self) -> bool:
        """Whether the next byte begins a line."""
        return self._file.at_line_start

    # Taking

    def take(self, pipe: Pipe, at_most: int) -> int:
        """Move bytes from a pipe; returns how many, 0 at the end of the pipe.

        Raises BlockingIOError when the pipe is empty, and OSError when the file takes no more: then all that
        has left the pipe is in the file.
        """
        if self._world.loop.now >= self._check_at:
            self._check()
        moved = self._take_unseen(pipe, at_most) if self.splices else None
        if moved is None:
            moved = self._take_looking(pipe, min(at_most, BATCH_BYTES))
        self._tell_extent()
        return moved

    def _take_unseen(self, pipe: Pipe, at_most: int) -> int | None:
        """Move bytes without a look at them; None where that is not possible."""
        self._file.seek_end()
        room = self._room
        if room is not None:
            at_most = min(at_most, room - BATCH_BYTES)
            if at_most <= 0:
                return None
        return self._splice(pipe, at_most)

    def _splice(self, pipe: Pipe, at_most: int) -> int | None:
        """Move bytes to the end, where `seek_end` has gone; None where the file system cannot do that."""
        try:
            if pipe.is_large:
                return self._world.turns.pour(self._slot, self._file, pipe.fd, pipe.pid, at_most)
            moved = self._file.splice(pipe.fd, at_most)
        except OSError as error:
            if error.errno not in NO_SPLICE:
                raise
            self.splices = False
            return None
        self._world.board.count(self._slot, taken=moved)
        return moved

    @property
    def _room(self) -> int | None:
        """How many bytes may still come into this file; None: any number."""
        if self._world.loop.now < self._rotate_at:
            return None
        if self.due:
            return 0
        return None if self._spec.max_size is None else self._spec.max_size - self._file.size

    def _take_looking(self, pipe: Pipe, at_most: int) -> int:
        """Look at what comes, and move as much of it as belongs into this file."""
        data = self._world.stash.peek(pipe.fd, at_most)
        if not data:
            return 0
        self._file.seek_end()
        if not self._format.is_raw:
            self._end_line_of_another(pipe.pid)
            data = data[: whole(data)]
        text = self._text(data, pipe.pid)
        room = self._room
        rotates = room is not None and len(text) > room
        if rotates:
            lines = self._fitting(text, room or 0)
            if not lines:
                self.rotate_if_possible()
                return self._take_looking(pipe, at_most)
            if lines > 0:
                data = first_lines(data, lines)
            rotates = data.endswith(b"\n")
        moved = self._move(pipe, data)
        if rotates and moved == len(data):
            self.rotate_if_possible()
        elif room is not None and moved >= room:
            self._beyond += moved
            if self._beyond > LINE_BYTES and not self._file.at_line_start:
                self._cut_line()
        return moved

    def _fitting(self, text: bytes, room: int) -> int:
        """How many lines of this belong into the present file; -1: all of it, whatever its size."""
        end = text.rfind(b"\n", 0, room) + 1 if room > 0 else 0
        if end:
            return text.count(b"\n", 0, end)
        if self._file.size and self._file.at_line_start:
            return 0
        # A line that has begun here ends here.
        return 1 if b"\n" in text else -1

    def _move(self, pipe: Pipe, data: bytes) -> int:
        """Move these first bytes of a pipe."""
        if self.splices:
            moved = self._splice(pipe, len(data))
            if moved is not None:
                return moved
        pid = pipe.pid
        moved_data = self._world.turns.move(
            self._slot, self._file, pipe.fd, pid, data, lambda data: self._text(data, pid)
        )
        self._note_line(moved_data, pid)
        return len(moved_data)

    # Lines

    def _text(self, data: bytes, pid: int) -> bytes:
        """How bytes of a pipe stand in the file."""
        return self._format.lines(data, time.time(), pid, continued=self._continued)

    def _note_line(self, data: bytes, pid: int) -> None:
        self._continued = not self._format.is_raw and not data.endswith(b"\n")
        self._pid = pid

    def _end_line_of_another(self, pid: int) -> None:
        if self._continued and self._pid not in {0, pid}:
            self._append(self._format.line_end)

    def end_line(self, pid: int) -> None:
        """Who wrote this is gone: end its line, if the format has ends.  Raises OSError."""
        if self._continued and self._pid in {0, pid}:
            self._append(self._format.line_end)
            self._tell_extent()

    def _append(self, text: bytes, *, marks: bool = False) -> None:
        self._world.turns.append(self._slot, self._file, text, marks=marks)
        self._continued = False

    def write(self, lines: bytes) -> None:
        """Write whole lines that come from no pipe.  Raises OSError."""
        self._file.seek_end()
        end = self._line_end()
        self._append(end + self._format.lines(lines, time.time(), 0, continued=False))
        self._tell_extent()

    def remark(self, text: str, *, marks: bool = False) -> None:
        """Write a line of our own; `marks` says that it tells of all that was dropped.  Raises OSError."""
        self._file.seek_end()
        self._append(self._line_end() + self._format.remark(text, time.time()), marks=marks)
        self._tell_extent()

    def _line_end(self) -> bytes:
        """What is missing for the file to end with a line."""
        return b"" if self._file.at_line_start else self._format.line_end

    def _cut_line(self) -> None:
        self._world.board.count(self._slot, cut=1)
        self.remark(f"a line of more than {LINE_BYTES} bytes was cut here")
        self.rotate_if_possible()

    # Files

    def _check(self) -> None:
        """Whoever moved or deleted the file finds a new one in its place."""
        self._check_at = self._world.loop.now + CHECK_S
        if self._file.is_gone():
            self._file.seek_end()
            self._tell_extent()
            self._file.close()
            self._open()

    def rotate_if_possible(self) -> None:
        """Rotate; where old files cannot be moved, the present one goes on growing, and that is said."""
        try:
            self.rotate()
        except rotation.RollError as error:
            self._rotate_at = self._world.loop.now + ROTATE_AGAIN_S
            self._world.say([messages.TROUBLE, self._slot, f"cannot be rotated: {error.reason}"])

    def rotate(self) -> None:
        """Go on in a new file.

        Raises RollError when the old ones cannot be moved: then this one goes on.  Raises OSError when there
        can be no new one: then this target is of no use any more.
        """
        spec, file = self._spec, self._file
        end = file.end
        if self._continued:
            self._append(self._format.line_end)
            end = file.end
        if not file.is_gone():
            rotation.roll(spec.path, spec.keep)
        if self._rotate_at:
            self._world.say([messages.WELL, self._slot, 0])
        self.due, self._beyond, self._rotate_at = False, 0, 0.0
        file.close()
        self._world.board.set_extent(self._slot, self._world.board.start(self._slot), end)
        self._open()
        self._world.say([messages.ROLLED, self._slot])
        if spec.compress:
            self._world.compression.want(spec.path, spec.keep)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def first_lines(data: bytes, count: int) -> bytes:
    """The first so many lines; there have to be as many."""
    return data[: len(data) - len(data.split(b"\n", count)[-1])]
