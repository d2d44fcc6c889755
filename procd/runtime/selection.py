"""Which programs a pattern means.  Pure.

A pattern is a name (`web`: all its instances), an instance (`web@1`), a glob (`web*`), a label (`app:`), `*`.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, Protocol

from procd.errors import NoSuchProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_GLOB = re.compile(r"[*?\[]")


class Nameable(Protocol):
    """What a pattern looks at: a spec, or what is remembered of one."""

    @property
    def name(self) -> str:
        """Of the instance."""

    @property
    def program(self) -> str:
        """The name in the configuration."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Its labels."""


def meaning(pattern: str) -> Callable[[Nameable], bool]:
    """Make the question that a pattern is: whether it means a program."""
    if pattern == "*":
        return lambda _: True
    if pattern.endswith(":"):
        label = pattern[:-1]
        return lambda program: label in program.groups
    if _GLOB.search(pattern):
        matches = re.compile(translate(pattern)).match
        return lambda program: bool(matches(program.name) or matches(program.program))
    return lambda program: pattern in (program.name, program.program)


def select(patterns: Iterable[str], specs: Mapping[str, Nameable]) -> list[str]:
    """Names of the instances that the patterns mean, each once, in the order of `specs`.

    Raises NoSuchProgram for the first pattern that means none, with the nearest name as its hint.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        found = _matches(pattern, specs)
        # With no program at all, "every program" is nothing, and that is no mistake.
        if not found and (pattern != "*" or specs):
            raise _nothing_matches(pattern, specs)
        chosen.update(found)
    return [name for name in specs if name in chosen] if len(chosen) != len(specs) else list(specs)


def _matches(pattern: str, specs: Mapping[str, Nameable]) -> list[str]:
    if pattern in specs:
        return [pattern]
    if pattern == "*":
        return list(specs)
    means = meaning(pattern)
    return [name for name, spec in specs.items() if means(spec)]


def _nothing_matches(pattern: str, specs: Mapping[str, Nameable]) -> NoSuchProgram:
    if pattern.endswith(":"):
        known = sorted({label for spec in specs.values() for label in spec.groups})
        what = f"no program has the label {pattern[:-1]!r}"
    else:
        known = sorted({spec.program for spec in specs.values()})
        what = f"no program matches {pattern!r}"
    import difflib  # noqa: PLC0415 - only once somebody mistypes

    near = difflib.get_close_matches(pattern.removesuffix(":"), known, 1)
    hint = f"did you mean {near[0]!r}?" if near else "`procctl status` lists all programs"
    return NoSuchProgram(what, hint, {"pattern": pattern})
