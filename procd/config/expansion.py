"""`${NAME}` in strings of the configuration.

Owns the syntax: `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$`.  Any other dollar is a dollar, so
`awk '{print $1}'` needs no care.  What is put in is not expanded again.  Must not know where variables come
from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from procd.config.problems import Mistake

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_CHARACTERS = 131_071
"""The kernel takes no longer argument or variable: MAX_ARG_STRLEN of execve(2), less the final NUL."""

_MOST_NESTED = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BRACES = re.compile(r"\$\$|\$\{|\}")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with its references replaced.

    Raises Mistake for a name that is not set and has no default, for a reference that is not one, and for a
    NUL, which no argument, variable or path can hold.
    """
    if "$" in text:
        text = _expand(text, variables, depth=0)
    if "\0" in text:
        raise Mistake("a NUL character cannot be passed to a program", "remove \\u0000")
    return text


def _expand(text: str, variables: Mapping[str, str], depth: int) -> str:
    if depth > _MOST_NESTED:
        raise Mistake(f"more than {_MOST_NESTED} references within each other", "nest less")
    pieces: list[str] = []
    size = position = 0
    while (dollar := text.find("$", position)) >= 0:
        pieces.append(text[position:dollar])
        if text.startswith("${", dollar):
            end = _closing_brace(text, dollar + 2)
            piece = _value(text[dollar + 2 : end], variables, depth)
            position = end + 1
        else:
            piece = "$"
            position = dollar + (2 if text.startswith("$$", dollar) else 1)
        pieces.append(piece)
        size += len(piece)
        if size > MOST_CHARACTERS:
            raise Mistake(f"would be longer than {MOST_CHARACTERS} characters", "pass it in a file")
    pieces.append(text[position:])
    return "".join(pieces)


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for match in _BRACES.finditer(text, start):
        if match.group() == "${":
            depth += 1
        elif match.group() == "}":
            depth -= 1
        if not depth:
            return match.start()
    raise Mistake(f"{text[start - 2 : start + 18]!r} has no closing brace", "write }, or $${ for a literal ${")


def _value(reference: str, variables: Mapping[str, str], depth: int) -> str:
    match = _NAME.match(reference)
    name = match.group() if match else ""
    operator, operand = reference[len(name) :][:2], reference[len(name) + 2 :]
    if not name or operator not in {"", ":-", ":?"}:
        raise Mistake(
            f"${{{reference[:40]}}} is not a reference",
            "write ${NAME}, ${NAME:-default} or ${NAME:?message}; $${ is a literal ${",
        )
    value = variables.get(name)
    if value or (value is not None and not operator):
        return value
    if operator == ":-":
        return _expand(operand, variables, depth + 1)
    if operator == ":?":
        raise Mistake(f"{name} is not set: {operand or 'it is required'}", f"set {name}")
    raise Mistake(
        f"{name} is not set", f"set it in environment, or write ${{{name}:-DEFAULT}}; $${{{name}}} is literal"
    )
