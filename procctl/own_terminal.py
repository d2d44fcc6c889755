"""The terminal of whoever runs procctl: given to a program for a while, and given back on every way out.

Owns its modes and its size.  What is shown on it, and what is typed, it must not know.
"""

from __future__ import annotations

import os
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class OwnTerminal:
    """A terminal at a descriptor, with the modes that it has now as those that it gets back."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] = termios.tcgetattr(fd)
        self._modes: list[Any] | None = None

    def pass_everything(self) -> None:
        """Let every key through as it is typed, and echo nothing: the program does."""
        self._change(_make_raw)

    def pass_lines(self, last_key: bytes) -> None:
        """Let lines through, edited and echoed here; `last_key`, a control character, ends one as well.

        So keys can be seen when they are typed, and not only at the end of a line.
        """

        def change(modes: list[Any]) -> None:
            # Ctrl-Q and Ctrl-S are keys, too.
            modes[_IFLAG] &= ~termios.IXON
            if last_key and last_key < b" ":
                modes[_CC][termios.VEOL] = last_key

        self._change(change)

    def _change(self, change: Callable[[list[Any]], None]) -> None:
        modes = termios.tcgetattr(self._fd)
        change(modes)
        self._modes = modes
        self.resume()

    def resume(self) -> None:
        """Have the modes of before the interruption again."""
        if self._modes is not None:
            # Not TCSADRAIN: a terminal that somebody has stopped would hold us here.
            termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)

    def interrupt(self) -> None:
        """Give it back for now."""
        termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def give_back(self, *, with_typed: bool) -> None:
        """Give it back, with what was typed and not read, or without: it was meant for the program.

        Does nothing where there is no terminal any more.
        """
        self._modes = None
        with suppress(termios.error):
            if not with_typed:
                termios.tcflush(self._fd, termios.TCIFLUSH)
            self.interrupt()


def _make_raw(modes: list[Any]) -> None:
    """Do what tty.cfmakeraw does, which came with Python 3.12."""
    modes[_IFLAG] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.IGNPAR | termios.PARMRK | termios.INPCK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON | termios.IXANY | termios.IXOFF
    )  # fmt: skip
    modes[_OFLAG] &= ~termios.OPOST
    modes[_CFLAG] = modes[_CFLAG] & ~(termios.PARENB | termios.CSIZE) | termios.CS8
    modes[_LFLAG] &= ~(
        termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ECHONL | termios.ICANON | termios.IEXTEN
        | termios.ISIG | termios.NOFLSH | termios.TOSTOP
    )  # fmt: skip
    modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = 1, 0


def screen_size(*fds: int) -> dict[str, int]:
    """The size of the first of these that is a terminal and knows it, as parameters; else none."""
    for fd in fds:
        with suppress(OSError):
            columns, rows = os.get_terminal_size(fd)
            if rows and columns:
                return {"rows": rows, "columns": columns}
    return {}
