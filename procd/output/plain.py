"""What a program wrote, out of the lines of its log: without what a format has added.

The way back from `procd.output.logger.formats`, for whoever looks for something that a program says.  A log may
have changed its format in between, so each line is judged by itself; one that is not of the format is taken as
it is.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING

from procd.config.spec import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of a line of a log that are looked at.  Escaped, a byte takes six.
MAX_LINE_BYTES = 1 << 19

_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ")
_STAMP_BYTES = 28
_MESSAGE = b'"message":"'
#: Bytes that may have to go where a line was cut: an escape is one of six, and a character one of four.
_CUT_BYTES = 6


def _raw(line: bytes) -> bytes:
    return line


def _after_stamp(line: bytes) -> bytes:
    return line[_STAMP_BYTES:] if _STAMP.match(line) else line


def _message(line: bytes) -> bytes:
    """The message of a line that is an object; of one that was cut, as much of it as is there."""
    try:
        said = json.loads(line)
    except ValueError:
        said = _beginning(line)
    message = said.get("message") if isinstance(said, dict) else None
    if not isinstance(message, str):
        return line
    try:
        return message.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Half a character that no format of ours writes: the line is the program's own.
        return line


_WAYS_BACK: dict[LogFormat, Callable[[bytes], bytes]] = {
    LogFormat.RAW: _raw,
    LogFormat.TIMESTAMP: _after_stamp,
    LogFormat.JSON: _message,
}


def _beginning(line: bytes) -> dict[str, str] | None:
    """What is there of the message of a line that was cut, perhaps within an escape or a character."""
    head, found, text = line.partition(_MESSAGE)
    if found and head.startswith(b"{"):
        for cut in range(_CUT_BYTES + 1):
            with contextlib.suppress(ValueError):
                return {"message": json.loads(b'"' + text[: len(text) - cut] + b'"')}
    return None


class Plain:
    """Turns pieces of a log into what the program wrote, whole lines at a time; it holds one line at most."""

    __slots__ = ("_partial", "_way_back")

    def __init__(self, kind: LogFormat) -> None:
        self._way_back = _WAYS_BACK[kind]
        self._partial = bytearray()

    def feed(self, piece: bytes) -> bytes:
        """Take a piece; return the lines that it completes."""
        *complete, rest = piece.split(b"\n")
        lines = []
        for end in complete:
            self._add(end)
            lines.append(self._way_back(bytes(self._partial)) + b"\n")
            self._partial.clear()
        self._add(rest)
        return b"".join(lines)

    def _add(self, piece: bytes) -> None:
        self._partial += piece[: MAX_LINE_BYTES - len(self._partial)]
