"""The terminal of a life: who looks at it, how large it is for them, and what is typed.

Owns the size that several viewers share.  Must not know who they are, or how the output comes to them: that is
in the log, like everybody's.
"""

from __future__ import annotations

import errno
import os
import termios
from typing import TYPE_CHECKING, NamedTuple

from procd.errors import DescriptorClosed, SpawnError, StdinClosed
from procd.process import Tap
from procd.runtime.input import Input

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from procd.process import Descriptor, Process

#: Seconds for which a terminal has another size, so that its program sees a change and draws everything anew.
REDRAW_S = 0.1

_LFLAG, _CC = 3, 6
#: What ends the input where the program has set nothing: Ctrl-D.
_END_OF_FILE = b"\x04"
_NO_KEY = b"\0"


class Size(NamedTuple):
    """The size of a terminal, in characters."""

    rows: int
    columns: int


#: What a terminal has before anybody has looked at it.
FIRST_SIZE = Size(24, 80)


class Console:
    """The terminal of one life.

    Viewers of different sizes share the smallest number of rows and of columns: then each sees all of it, and
    nobody's screen is overwritten by lines that are too long for it.  The last size stays when all are gone.
    """

    __slots__ = ("_loop", "_process", "_settling", "_size", "_sizes", "_tap", "_terminal")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._process: Process | None = None
        #: A second descriptor of our end, for the tap: it reads on when nobody may type any more.
        self._terminal = -1
        self._tap: Tap | None = None
        self._size = FIRST_SIZE
        self._sizes: dict[object, Size] = {}
        self._settling: asyncio.TimerHandle | None = None

    # Its life

    def prepare(self, ours: Mapping[int, int]) -> None:
        """Take what is needed from our ends, while there is no child yet (`Process.before_spawn`).

        Raises SpawnError.
        """
        try:
            self._terminal = os.dup(ours[1])
        except OSError as error:
            raise SpawnError("terminal", error.errno or errno.EMFILE) from error

    def open(self, process: Process, pipe: int) -> None:
        """Let what the terminal of a process shows flow into a pipe, whose write end is taken over."""
        self._process = process
        descriptor = process.descriptor(1)
        descriptor.pause_producing()
        terminal, self._terminal = self._terminal, -1
        self._tap = Tap(self._loop, terminal, pipe, lambda: descriptor.connection_lost(None))

    def drain(self) -> None:
        """Move what it shows into the pipe now."""
        if self._tap is not None:
            self._tap.drain()

    def close(self) -> None:
        """Type no more, and have no size: the life is over.

        What its descendants still show is read on until the last of them has let go of the terminal.
        """
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self.drain()
        if self._process is not None:
            self._process.descriptor(1).abort_connection()

    # Its size

    def look(self, viewer: object, size: Size) -> None:
        """Somebody looks at it, on a screen of this size; whoever comes new has everything drawn anew."""
        new = viewer not in self._sizes
        self._sizes[viewer] = size
        if new and self._shared() == self._size:
            rows = self._size.rows
            self._set(Size(rows - 1 if rows > 1 else rows + 1, self._size.columns))
            if self._settling is None:
                self._settling = self._loop.call_later(REDRAW_S, self._settle)
        else:
            self._settle()

    def leave(self, viewer: object) -> None:
        """Somebody looks no more; harmless if they did not."""
        if self._sizes.pop(viewer, None) is not None:
            self._settle()

    def _shared(self) -> Size:
        if not self._sizes:
            return self._size
        sizes = self._sizes.values()
        return Size(min(size.rows for size in sizes), min(size.columns for size in sizes))

    def _settle(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self._size = self._shared()
        self._set(self._size)

    def _set(self, size: Size) -> None:
        if self._process is None:
            return
        try:
            self._process.resize(*size)
        except DescriptorClosed:
            # It was hung up, and the end of the life is on its way to us.
            return


class Keyboard(Input):
    """What is typed at a terminal: it cannot be closed, but the end of the input can be typed."""

    __slots__ = ("_at_line_start",)

    def __init__(self, name: str, terminal: Descriptor) -> None:
        super().__init__(name, terminal)
        self._at_line_start = True

    def put(self, content: bytes) -> asyncio.Future[int]:
        """Type; see Input."""
        answer = super().put(content)
        self._at_line_start = content.endswith(b"\n")
        return answer

    def close(self) -> None:
        """Type the key for the end of the input: whoever reads sees it, and may read on.

        Within a line that the terminal edits it has to be typed twice: the first only ends the line
        (termios(3), VEOF).  Raises StdinClosed.
        """
        try:
            modes = termios.tcgetattr(self._pipe.fileno())
        except (termios.error, ValueError) as error:
            raise StdinClosed(f"{self.name} has closed its terminal", "see `procctl status`") from error
        key = modes[_CC][termios.VEOF]
        key = _END_OF_FILE if key == _NO_KEY or not isinstance(key, bytes) else key
        edits = bool(modes[_LFLAG] & termios.ICANON)
        typed = self.put(key * 2 if edits and not self._at_line_start else key)
        self._at_line_start = True
        # Nobody waits for it.
        typed.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
