"""A program as the files declare it: its own table upon [defaults], and where each value came from.

Owns the merging of the two.  Must not know what the keys mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from procd.config.convert import converted, without_mistakes
from procd.config.program_schema import MERGED, ProgramTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.document import Place
    from procd.config.problems import Problems


class Defaults(Struct, frozen=True):
    """The [defaults] table as written, and without what was wrong in it, which is reported already."""

    place: Place
    raw: object
    good: Mapping[str, Any]


class Declaration(Struct, frozen=True):
    """One program of the files, all instances of it together: its table as written, and as understood."""

    name: str
    own: Place
    raw: Mapping[str, Any]
    defaults: Defaults
    table: ProgramTable

    def is_written(self, key: str) -> bool:
        """Whether there is such a key, be its value right or wrong."""
        return _holds(self.raw, (key,)) or _holds(self.defaults.raw, (key,))

    def written(self, key: str) -> object:
        """The value of a key as it is written, in the program or else in [defaults]; None where it is not."""
        value = self.raw.get(key)
        if value is None and isinstance(self.defaults.raw, dict):
            value = self.defaults.raw.get(key)
        return value

    def place(self, *path: str | int) -> Place:
        """Where the value of a key is written: in the program, else in [defaults], else where it is missing."""
        where = self.own
        replaced = path[0] in self.raw and path[0] not in MERGED
        if not replaced and not _holds(self.raw, path) and _holds(self.defaults.raw, path):
            where = self.defaults.place
        for step in path:
            where /= step
        return where

    def directory(self, *path: str | int) -> str:
        """Where a relative path starts that is the value of this key: at the file that says it."""
        return self.place(*path).document.directory


def declare(name: str, own: Place, raw: object, defaults: Defaults, problems: Problems) -> Declaration | None:
    """Join a program's table with [defaults]; what cannot be converted is recorded and left out.

    None for what is no table at all.
    """
    if not isinstance(raw, dict):
        without_mistakes(raw, ProgramTable, own, problems)
        return None
    table = converted(_merged(defaults.good, raw), ProgramTable)
    if table is None:
        good = without_mistakes(raw, ProgramTable, own, problems)
        table = converted(_merged(defaults.good, good), ProgramTable)
    if table is None:
        raise AssertionError("unreachable: both tables were checked key by key")
    return Declaration(name, own, raw, defaults, table)


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    if not defaults:
        return own
    merged = {**defaults, **own}
    for key in MERGED:
        if key in defaults and isinstance(own.get(key), dict):
            merged[key] = {**defaults[key], **own[key]}
    return merged


def _holds(raw: Any, path: tuple[str | int, ...]) -> bool:  # noqa: ANN401 - TOML
    for step in path:
        if isinstance(raw, list) and isinstance(step, int):
            return step < len(raw)
        if not isinstance(raw, dict) or step not in raw:
            return False
        raw = raw[step]
    return True
