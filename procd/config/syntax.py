"""Words for text that is not TOML.

Owns what people are told about each of tomllib's syntax errors: the line, and what to do.  Must not know keys.
"""

from __future__ import annotations

import ast
import re

from procd.config.locate import lines_of_keys, repeated_key
from procd.errors import Problem

_POSITION = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL
)
_LEADING_ZERO = re.compile(r"=\s*[+-]?0[0-9]")
_TWICE = re.compile(r"Cannot declare (?P<path>\(.*\)) twice")

_STATEMENT = "a line is KEY = VALUE, [TABLE] or a # comment"
_QUOTE = "close it with the quote that it began with"
_ARRAY = "separate the elements with commas, and close the array with ]"

_REMEDIES = (
    ("Invalid value", 'text stands in quotes: key = "text"; truth is true or false'),
    ("Expected '=' after a key", _STATEMENT),
    ("Invalid statement", _STATEMENT),
    ("Invalid initial character", "a key with other characters than A-Za-z0-9_- stands in quotes"),
    ("Cannot overwrite", "remove one of the two"),
    ("Duplicate inline table key", "remove one of the two"),
    ("Cannot declare", "join the two"),
    ("Cannot mutate immutable", "a value in brackets is complete; write [TABLE] or [[TABLE]] everywhere"),
    ("Unclosed array", _ARRAY),
    ("Unclosed inline table", "separate the entries with commas, and close the table with }"),
    ("Unterminated string", _QUOTE),
    ("Expected \"'", _QUOTE),
    ("Illegal character '\\n'", 'close the quote on the same line, or use """ for text of several lines'),
    ("Illegal character", "write it as \\uXXXX in double quotes"),
    ("Unescaped '\\'", "write \\\\ for a backslash, or use '…', in which nothing is special"),
    ("Invalid hex value", "write four hexadecimal digits after \\u, or eight after \\U"),
    ("Escaped character is not a Unicode scalar value", "write another character"),
    ("Expected newline", "write one KEY = VALUE a line; text, dates and modes stand in quotes"),
    ("Expected ']", "a table is [NAME], or [[NAME]] for one of several"),
    ("Invalid date", "a date is written 2024-12-31"),
)


def syntax_problem(message: str, text: str, name: str) -> Problem:
    """The problem that stands for a TOMLDecodeError with this message about `text`."""
    match = _POSITION.fullmatch(message)
    if match is None:
        return Problem(name, 0, "", f"is not TOML: {message}", "the syntax is described at https://toml.io")
    lines = text.splitlines() or [""]
    # "end of document" may be after the last newline; the mistake is in the last line that says something.
    line = int(match["line"]) if match["line"] else max(text.rstrip().count("\n") + 1, 1)
    what = _repetition(match["what"], "\n".join(lines[:line]), line)
    if not what:
        where = f"in column {match['column']}" if match["line"] else "at the end of the file"
        what = f"{match['what'][:1].lower()}{match['what'][1:]} {where}"
    written = lines[line - 1] if line <= len(lines) else ""
    column = int(match["column"] or 0)
    return Problem(name, line, "", f"is not TOML: {what}", _remedy(match["what"], written, column))


def _remedy(what: str, written: str, column: int) -> str:
    if _LEADING_ZERO.search(written):
        return 'a number has no leading zero; a mode stands in quotes: "022"'
    if "{" in written and column > len(written.rstrip()):
        return "a table in braces stands on one line, without a comma at its end"
    for beginning, remedy in _REMEDIES:
        if what.startswith(beginning):
            return remedy
    return "the syntax is described at https://toml.io"


def _repetition(what: str, text: str, line: int) -> str:
    """What is written twice and where it stood first; empty when the mistake is another one."""
    twice = _TWICE.fullmatch(what)
    if twice:
        path = ast.literal_eval(twice["path"])
        before = "\n".join(text.split("\n")[: line - 1])
        first = lines_of_keys(before).get(path)
        return f"[{'.'.join(path)}] is here for the second time" + (
            f" (first in line {first})" if first else ""
        )
    if what.startswith(("Cannot overwrite", "Duplicate inline table key")):
        found = repeated_key(text)
        return f"{found[0]} is here for the second time (first in line {found[1]})" if found else ""
    return ""
