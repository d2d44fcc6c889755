"""Files of `NAME=value` lines.

Owns their syntax, which is that of systemd's EnvironmentFile= (systemd.exec(5)): comments begin with `#` or
`;`, a backslash at the end of a line continues it, quotes group and may span lines, nothing is expanded.
Must not know who uses the variables.
"""

from __future__ import annotations

import re

from msgspec import Struct

from procd.config.problems import Mistake

_SKIPPED = re.compile(r"(?:[ \t\r]*\n|[ \t]*[#;][^\n]*(?:\n|\Z)|[ \t\r]+\Z)*")
_VALID_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BLANK = re.compile(r"(?:[ \t\r]|\\\n)*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_PLAIN = re.compile(r"(?:\\.|[^\\\n])*\\?", re.DOTALL)
_ESCAPE_IN_DOUBLE = re.compile(r'\\(?:([$"`\\])|\n)')
_ESCAPE_IN_PLAIN = re.compile(r"\\(?:\n|(.)|\Z)")


class Entry(Struct, frozen=True):
    """One assignment and its line."""

    line: int
    name: str
    value: str


class Fault(Struct, frozen=True):
    """One line that is no assignment."""

    line: int
    name: str
    mistake: Mistake


def parse(text: str) -> list[Entry | Fault]:
    """Every assignment and every mistake, in order."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._found: list[Entry | Fault] = []

    def parse(self) -> list[Entry | Fault]:
        line, counted_to = 1, 0
        while True:
            self._take(_SKIPPED)
            if self._position >= len(self._text):
                return self._found
            line += self._text.count("\n", counted_to, self._position)
            counted_to = self._position
            self._found.append(self._assignment(line))

    def _assignment(self, line: int) -> Entry | Fault:
        end = self._text.find("\n", self._position)
        end = len(self._text) if end < 0 else end
        equals = self._text.find("=", self._position, end)
        if equals < 0:
            written = self._text[self._position : end].strip()
            self._position = end
            return Fault(
                line, "", Mistake(f"{written[:40]!r} is not NAME=value", "write NAME=value, or # before it")
            )
        name = self._text[self._position : equals].strip()
        self._position = equals + 1
        try:
            value = self._value()
        except Mistake as mistake:
            self._position = len(self._text)
            return Fault(line, name, mistake)
        return self._checked(line, name, value)

    @staticmethod
    def _checked(line: int, name: str, value: str) -> Entry | Fault:
        if not _VALID_NAME.fullmatch(name):
            remedy = "remove export" if name.startswith("export ") else "names have letters, digits and _"
            return Fault(line, name, Mistake(f"{name!r} is not the name of a variable", remedy))
        if "\0" in value:
            return Fault(line, name, Mistake("a NUL character cannot be passed to a program", "remove it"))
        return Entry(line, name, value)

    def _value(self) -> str:
        pieces = []
        while True:
            self._take(_BLANK)
            quote = self._text[self._position : self._position + 1]
            if quote == "'":
                pieces.append(self._quoted(_SINGLE))
            elif quote == '"':
                pieces.append(_ESCAPE_IN_DOUBLE.sub(r"\1", self._quoted(_DOUBLE)))
            else:
                plain = self._take(_PLAIN).group().rstrip(" \t\r")
                pieces.append(_ESCAPE_IN_PLAIN.sub(r"\1", plain))
                return "".join(pieces)

    def _quoted(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        if match is None:
            raise Mistake("the quote is never closed", "close it, or put a backslash before it")
        self._position = match.end()
        return match.group(1)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self._text, self._position)
        if match is None:
            raise AssertionError("unreachable: these patterns match the empty text")
        self._position = match.end()
        return match
