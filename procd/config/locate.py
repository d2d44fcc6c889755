"""From a key's path to its line in a TOML document.

Owns a scanner that finds keys and nothing else: tomllib decides what is valid and what values mean, but it
throws positions away.  So this runs on text that tomllib has accepted, or on what stands before its complaint,
and only when there is a problem to report.  Must not know what the keys mean.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

Path: TypeAlias = tuple[str | int, ...]
"""Keys, and indexes of arrays, from the root of a document."""

_BLANK = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    # A closing delimiter of three quotes takes up to two more that belong to the text (TOML 1.0, "String").
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
# A date and a time may have a space between them, so a bare value ends where the next token begins.
_BARE_VALUE = re.compile(r"[^,\]}\n#]+")


def lines_of_keys(text: str) -> Mapping[Path, int]:
    """The line (from 1) of each key, table header and array element of TOML.

    Of a text that is no TOML, those before the place where that shows.
    """
    return _Scanner(text).scan()


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest table around it that is written in the document; 0 for none."""
    for length in range(len(path), 0, -1):
        line = lines.get(path[:length])
        if line is not None:
            return line
    return 0


def repeated_key(text: str) -> tuple[str, int] | None:
    """The last key of a text that stands there for the second time, and the line of the first."""
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.repeated


class _NotToml(Exception):  # noqa: N818 - it names what the text is
    """The text ends, or goes on as no TOML does."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._counted_to = 0
        self._line = 1
        self._lines: dict[Path, int] = {}
        self._table_counts: dict[Path, int] = {}
        self.repeated: tuple[str, int] | None = None

    def scan(self) -> dict[Path, int]:
        # A wrong line is a smaller evil than a traceback in place of the problem that was to be reported.
        with suppress(_NotToml):
            self._statements()
        return self._lines

    def _statements(self) -> None:
        prefix: Path = ()
        self._skip(_BETWEEN)
        while self._position < len(self._text):
            if self._next() == "[":
                prefix = self._header()
            else:
                self._pair(prefix)
            self._skip(_BETWEEN)

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._position)
        self._position += 2 if is_array else 1
        self._skip(_BLANK)
        line = self._current_line()
        keys = self._keys()
        self._position += 2 if is_array else 1
        return self._note_header(keys, line, is_array=is_array)

    def _note_header(self, keys: list[str], line: int, *, is_array: bool) -> Path:
        path: Path = ()
        for key in keys[:-1]:
            path = self._into_last_element((*path, key))
            self._lines.setdefault(path, line)
        path = (*path, keys[-1])
        if is_array:
            self._lines.setdefault(path, line)
            self._table_counts[path] = self._table_counts.get(path, 0) + 1
        path = self._into_last_element(path)
        # `[a]` may follow `[a.b]`: its own header is the better place than the first mention.
        self._lines[path] = line
        return path

    def _into_last_element(self, path: Path) -> Path:
        count = self._table_counts.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, prefix: Path) -> None:
        line = self._current_line()
        keys = self._keys()
        path = prefix
        first = self._lines.get((*prefix, *keys))
        for key in keys:
            path = (*path, key)
            self._lines.setdefault(path, line)
        if first is not None:
            self.repeated = (".".join(keys), first)
        self._position += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while self._text.startswith(".", self._position):
            self._position += 1
            self._skip(_BLANK)
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        bare = _BARE_KEY.match(self._text, self._position)
        if bare:
            key = bare.group()
            self._position = bare.end()
        else:
            written = self._take(_STRING)
            try:
                key = cast("str", tomllib.loads(f"key = {written}")["key"])
            except tomllib.TOMLDecodeError:
                raise _NotToml from None
        self._skip(_BLANK)
        return key

    def _value(self, path: Path) -> None:
        first = self._next()
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            self._take(_STRING)
        else:
            self._take(_BARE_VALUE)

    def _array(self, path: Path) -> None:
        self._position += 1
        index = 0
        while not self._ends("]"):
            element = (*path, index)
            self._lines[element] = self._current_line()
            self._value(element)
            index += 1

    def _inline_table(self, path: Path) -> None:
        self._position += 1
        while not self._ends("}"):
            self._pair(path)

    def _ends(self, closing: str) -> bool:
        self._skip(_BETWEEN)
        if self._text.startswith(",", self._position):
            self._position += 1
            self._skip(_BETWEEN)
        if self._text.startswith(closing, self._position):
            self._position += 1
            return True
        return False

    def _next(self) -> str:
        if self._position >= len(self._text):
            raise _NotToml
        return self._text[self._position]

    def _skip(self, what: re.Pattern[str]) -> None:
        self._take(what)

    def _take(self, what: re.Pattern[str]) -> str:
        match = what.match(self._text, self._position)
        if match is None:
            raise _NotToml
        self._position = match.end()
        return match.group()

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._position)
        self._counted_to = self._position
        return self._line
