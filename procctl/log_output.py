"""Where the bytes of a log go: unchanged into a file or a pipe, escaped onto a terminal, or as JSON.

Owns what is done to a program's output on its last steps.  It must not know where the bytes come from.
"""

from __future__ import annotations

import base64
import codecs
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from procctl.invocation import say, to_json, write
from procctl.render import amount, escaped_output

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_STDOUT = 1


class Output(Protocol):
    """What takes a log, piece by piece."""

    def data(self, offset: int, piece: bytes) -> None:
        """Take the bytes that stand at `offset` of the log."""

    def gap(self, size: int, reason: str) -> None:
        """Take note that `size` bytes are missing here."""

    def end(self) -> None:
        """Let go of what was held back."""


@contextmanager
def open_output(*, as_json: bool, raw: bool) -> Iterator[Output]:
    """The form that fits standard output and what was asked for."""
    output: Output
    if as_json:
        output = _JsonLines()
    elif os.isatty(OWN_STDOUT) and not raw:
        output = _Terminal()
    else:
        output = _Bytes()
    try:
        yield output
    finally:
        output.end()


def _say_gap(size: int, reason: str) -> None:
    if not size:
        # Nothing is missing, but the log is another one from here on.
        say(reason)
    elif size == 1:
        say(f"1 byte is missing here: {reason}")
    else:
        say(f"{amount(size, 'byte')} are missing here: {reason}")


class _Bytes:
    """Nothing added, nothing changed; what is missing is told on standard error."""

    def data(self, offset: int, piece: bytes) -> None:
        del offset
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(OWN_STDOUT, rest) :]

    def gap(self, size: int, reason: str) -> None:
        _say_gap(size, reason)

    def end(self) -> None:
        pass


class _Terminal:
    """Text with control characters shown instead of obeyed, and so are bytes that are no text."""

    def __init__(self) -> None:
        # Incremental: a character may stand on both sides of the border between two pieces.
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def data(self, offset: int, piece: bytes) -> None:
        del offset
        write(escaped_output(self._decoder.decode(piece)))

    def gap(self, size: int, reason: str) -> None:
        self.end()
        _say_gap(size, reason)

    def end(self) -> None:
        write(escaped_output(self._decoder.decode(b"", final=True)))


class _JsonLines:
    """A line for each piece: `{"offset", "text"}`, or `{"offset", "base64"}` where it is no UTF-8."""

    def data(self, offset: int, piece: bytes) -> None:
        try:
            write(to_json({"offset": offset, "text": piece.decode()}))
        except UnicodeDecodeError:
            write(to_json({"offset": offset, "base64": base64.b64encode(piece).decode("ascii")}))

    def gap(self, size: int, reason: str) -> None:
        write(to_json({"gap_bytes": size, "reason": reason}))

    def end(self) -> None:
        pass
