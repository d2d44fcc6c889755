"""What a terminal shows, as a pipe.

Whoever keeps output looks into pipes before they take from them (tee(2)), asks how much is in them, makes them
larger: a terminal can do none of that.  So its bytes are moved into a pipe, with splice(2), which keeps them in
the kernel: nothing is lost with this process.  Must not know who reads the pipe.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: A terminal that was ready so often in a row, each time so soon after the last, with less than this each time,
#: is looked at by the clock, so long after each look: a flood of lines costs some wake-ups instead of one for
#: each line, and what comes when all is quiet is not delayed.
HOT_TIMES = 4
HOT_S = 0.002
LITTLE_BYTES = 2048
PAUSE_S = 0.001
#: Moves after which all is out that a terminal can hold (64 KiB and a page): what comes then is new.
DRAIN_MOVES = 64
#: What an ordinary user may make of a pipe (pipe(7), pipe-max-size).
_PIPE_BYTES = 1 << 20
#: The least room of a pipe that poll(2) calls writable: a page.
_PAGE = 4096

#: Kernels before 5.11 cannot splice from a terminal.
_NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS})
#: The last user of the terminal is gone (tty_ioctl(4)); or the last reader of the pipe.
_ENDS = frozenset({errno.EIO, errno.EPIPE})

_log = structlog.get_logger(__name__)


class Tap:
    """Moves what a terminal shows into a pipe, until one of them ends; then it closes both and says so.

    `terminal` is our end of it, `pipe` the write end; both are taken over and made non-blocking.  While the
    pipe is full the terminal is not read, and the program waits with it.
    """

    __slots__ = ("_heat", "_last", "_loop", "_on_end", "_pause", "_pipe", "_splices", "_terminal")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, terminal: int, pipe: int, on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._terminal = terminal
        self._pipe = pipe
        self._on_end = on_end
        self._pause: asyncio.TimerHandle | None = None
        self._splices = True
        #: How often in a row it was ready again at once, and when it last was.
        self._heat = 0
        self._last = 0.0
        os.set_blocking(terminal, False)
        os.set_blocking(pipe, False)
        # Each move takes a page of the pipe, however small it is.  With many, last words find room also when
        # the reader is not at it just then; without, they come when there is room.
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        loop.add_reader(terminal, self._turn)
        # As with a pipe to a child (`Descriptor`): it is "readable" only when its last reader is gone.
        loop.add_reader(pipe, self._reader_left)

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._terminal < 0

    def _turn(self) -> None:
        """Move once.

        Not more: the kernel gives some 4 KiB, and whoever asks it for the next before it is ready waits in
        the system call for a thread of the kernel.
        """
        now, busy = self._loop.time(), self._pause is not None
        self._heat = self._heat + 1 if now - self._last < HOT_S else 0
        self._last = now
        try:
            moved = self._move()
        except BlockingIOError:
            if not _has_room(self._pipe):
                self._wait_for_room()
                return
            moved = 0
        except OSError as error:
            self._end(error)
            return
        if 0 < moved < LITTLE_BYTES and (busy or self._heat >= HOT_TIMES):
            self._rest()
            self._pause = self._loop.call_later(PAUSE_S, self._turn)
        elif busy:
            self._go_on()

    def _wait_for_room(self) -> None:
        self._rest()
        self._loop.add_writer(self._pipe, self._go_on)

    def _move(self) -> int:
        """Move some bytes; returns how many.

        Raises BlockingIOError when there are none, or no room, and OSError at the end.
        """
        if self._splices:
            try:
                moved = os.splice(self._terminal, self._pipe, 1 << 16)
            except OSError as error:
                if error.errno not in _NO_SPLICE:
                    raise
                self._splices = False
            else:
                if not moved:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return moved
        if not _has_room(self._pipe):
            raise BlockingIOError
        data = os.read(self._terminal, _PAGE)
        if not data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        # We are the only one who writes, there is room for a page, and so it takes all of it.
        return os.write(self._pipe, data)

    def _reader_left(self) -> None:
        self._end(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def _go_on(self) -> None:
        if not self.closed:
            self._rest()
            self._loop.add_reader(self._terminal, self._turn)

    def _rest(self) -> None:
        """Wait for nothing."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._loop.remove_reader(self._terminal)
        self._loop.remove_writer(self._pipe)

    def drain(self) -> None:
        """Move now what the terminal has, as far as there is room."""
        if self.closed:
            return
        try:
            for _ in range(DRAIN_MOVES):
                self._move()
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        if error.errno not in _ENDS:
            _log.error("terminal cannot be read", reason=error.strerror)
        self.close()
        self._on_end()

    def close(self) -> None:
        """Let go of both; harmless if that was done."""
        if self.closed:
            return
        self._rest()
        self._loop.remove_reader(self._pipe)
        terminal, self._terminal = self._terminal, -1
        os.close(terminal)
        os.close(self._pipe)


def _has_room(pipe: int) -> bool:
    """Whether a write of a page would not wait; also when it would fail, which then is seen."""
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    return bool(poll.poll(0))
