"""Pseudo-terminals (pty(7)): the ancestor's PTYProcess as a variant of the descriptors.

Owns their making, their size and their modes.  Must not know processes: a terminal becomes the controlling one
of a child in the spawn paths.
"""

from __future__ import annotations

import contextlib
import errno
import os
import termios
from dataclasses import dataclass
from typing import NamedTuple

from procd.errors import SpawnError

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


@dataclass(frozen=True, slots=True)
class Terminal:
    """The terminal that a child is to have: its size, and whether it is raw, or edits lines and echoes."""

    rows: int = 24
    columns: int = 80
    raw: bool = False


class OpenTerminal(NamedTuple):
    """Both ends of a terminal; `path` is the name of the child's end."""

    ours: int
    theirs: int
    path: bytes


def open_terminal(wish: Terminal, owner_uid: int | None) -> OpenTerminal:
    """Make a terminal; it belongs to the user `owner_uid`, so that a child of theirs may open it by its name.

    Raises SpawnError("terminal"), leaving nothing open.
    """
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise SpawnError("terminal", error.errno or errno.EIO) from error
    try:
        # Nobody else is to write to it, not even the members of the group of terminals: who sees what it shows
        # trusts the program.
        os.fchmod(theirs, 0o600)
        if owner_uid is not None:
            with contextlib.suppress(PermissionError):  # as with pipes
                os.fchown(theirs, owner_uid, -1)
        termios.tcsetwinsize(theirs, (wish.rows, wish.columns))
        if wish.raw:
            set_raw(theirs)
        return OpenTerminal(ours, theirs, os.fsencode(os.ttyname(theirs)))
    except (OSError, termios.error) as error:
        os.close(ours)
        os.close(theirs)
        raise SpawnError("terminal", getattr(error, "errno", None) or error.args[0]) from error


def set_raw(fd: int) -> None:
    """Pass every byte through in both directions, as cfmakeraw(3) has it."""
    modes = termios.tcgetattr(fd)
    modes[_IFLAG] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    modes[_OFLAG] &= ~termios.OPOST
    modes[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    modes[_CFLAG] = modes[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, modes)


def set_cooked(fd: int) -> None:
    """Echo, edit lines, and turn control characters into signals, as a terminal does for people."""
    modes = termios.tcgetattr(fd)
    modes[_IFLAG] |= termios.BRKINT | termios.ICRNL | termios.IXON
    modes[_OFLAG] |= termios.OPOST | termios.ONLCR
    modes[_LFLAG] |= (
        termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ICANON | termios.ISIG | termios.IEXTEN
    )
    modes[_CC][termios.VEOF], modes[_CC][termios.VEOL] = b"\x04", b"\0"
    termios.tcsetattr(fd, termios.TCSANOW, modes)
