"""Tables of TOML into tables of the schema, with every mistake of every key.

Owns the words for a value of a wrong type.  A table that is right is converted by msgspec in one step; only
one that is wrong is looked at key by key, since msgspec stops at its first mistake.  Must not know what
single keys mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import inspect

from procd.config.problems import did_you_mean, quoted
from procd.config.table import Table, table_in
from procd.config.values import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.document import Place
    from procd.config.problems import Problems

TableT = TypeVar("TableT", bound=Table)


def converted(raw: Mapping[str, Any], kind: type[TableT]) -> TableT | None:
    """`raw` as a table of the schema, or None when something in it is wrong."""
    try:
        return msgspec.convert(raw, kind, dec_hook=decode)
    except msgspec.ValidationError:
        return None


def checked(raw: object, kind: type[TableT], place: Place, problems: Problems) -> TableT:
    """`raw` as a table of the schema; what is wrong in it is recorded, and its default stands in."""
    table = converted(without_mistakes(raw, kind, place, problems), kind)
    if table is None:
        raise AssertionError("unreachable: the table was checked key by key")
    return table


def without_mistakes(raw: object, kind: type[Table], place: Place, problems: Problems) -> dict[str, Any]:
    """What of `raw` can be converted to `kind`; what cannot is recorded, key by key."""
    if not isinstance(raw, dict):
        problems.add(place, f"{quoted(raw)} is not a table", f"write [{place.key}] and its keys below it")
        return {}
    if converted(raw, kind) is not None:
        return raw
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    good = {}
    for key, value in raw.items():
        if key not in fields:
            problems.add(place / key, *unknown_key(key, kind))
            continue
        kept = _Check(problems).keep(value, fields[key], place / key)
        if kept is not _NOTHING:
            good[key] = kept
    return good


def unknown_key(key: str, kind: type[Table]) -> tuple[str, str]:
    """What is wrong with a key that the schema does not have, and the remedy."""
    known = kind.__struct_fields__
    return "there is no such key", did_you_mean(key, known, f"the keys here are {', '.join(known)}")


_NOTHING = object()


class _Check:
    """One value against its type."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def keep(self, value: object, annotation: Any, place: Place) -> object:  # noqa: ANN401 - a type expression
        """What of the value is right: all of a scalar or array, the good entries of a table, or _NOTHING."""
        table = table_in(annotation)
        if table is annotation and table is not None:
            return without_mistakes(value, table, place, self._problems)
        if table is not None:
            return self._tables(value, table, place)
        expected = _bare(inspect.type_info(annotation))
        values = _value_type(expected)
        if values is not None and isinstance(value, dict):
            return {key: item for key, item in value.items() if self._is_right(item, values, place / key)}
        return value if self._is_right(value, expected, place) else _NOTHING

    def _tables(self, value: object, table: type[Table], place: Place) -> object:
        if not isinstance(value, list):
            what = f"{quoted(value)} is not an array of tables"
            self._problems.add(place, what, f"write [[{place.key}]] and its keys below it")
            return _NOTHING
        return [
            without_mistakes(item, table, place / index, self._problems) for index, item in enumerate(value)
        ]

    def _is_right(self, value: object, expected: inspect.Type, place: Place) -> bool:
        """Whether the value fits; records a problem for each part that does not."""
        expected = _bare(expected)
        items = _item_type(expected) if isinstance(value, list) else None
        if items is not None and isinstance(value, list):
            verdicts = [self._is_right(item, items, place / index) for index, item in enumerate(value)]
            return all(verdicts)
        if _fits(value, expected):
            return True
        self._problems.add(place, f"{quoted(value)} is not {_words(expected)}", _remedy(value, expected))
        return False


def _bare(expected: inspect.Type) -> inspect.Type:
    while isinstance(expected, inspect.Metadata):
        expected = expected.type
    return expected


def _members(expected: inspect.Type) -> list[inspect.Type]:
    members = expected.types if isinstance(expected, inspect.UnionType) else (expected,)
    return [member for member in map(_bare, members) if not isinstance(member, inspect.NoneType)]


def _item_type(expected: inspect.Type) -> inspect.Type | None:
    for member in _members(expected):
        if isinstance(member, inspect.VarTupleType):
            return member.item_type
    return None


def _value_type(expected: inspect.Type) -> inspect.Type | None:
    for member in _members(expected):
        if isinstance(member, inspect.DictType):
            return member.value_type
    return None


def _fits(value: object, expected: inspect.Type) -> bool:
    return any(_fits_one(value, member) for member in _members(expected))


def _fits_one(value: object, expected: inspect.Type) -> bool:
    match expected:
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.IntType() | inspect.FloatType():
            numbers: Any = int if isinstance(expected, inspect.IntType) else int | float
            return isinstance(value, numbers) and not isinstance(value, bool) and _in_bounds(value, expected)
        case inspect.LiteralType():
            return value in expected.values
        case inspect.CustomType():
            try:
                decode(expected.cls, value)
            except ValueError:
                return False
            return True
        case _:
            return False


def _in_bounds(value: Any, expected: inspect.IntType | inspect.FloatType) -> bool:  # noqa: ANN401 - int or float
    low, high = expected.ge, expected.le
    return (low is None or value >= low) and (high is None or value <= high)


def _words(expected: inspect.Type) -> str:
    members = _members(expected)
    # A comma, where an "or" within the words of one would run into the next.
    between = ", or " if isinstance(members[-1], inspect.DictType) else " or "
    return between.join(_words_of_one(member) for member in members)


def _words_of_one(expected: inspect.Type) -> str:
    match expected:
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "a string"
        case inspect.IntType():
            return f"a whole number{_range(expected)}"
        case inspect.FloatType():
            return f"a number{_range(expected)}"
        case inspect.LiteralType():
            return " or ".join(quoted(value) for value in expected.values)
        case inspect.CustomType():
            kind: Any = expected.cls
            return str(kind.expected)
        case inspect.VarTupleType():
            return f"an array whose elements are each {_words(expected.item_type)}"
        case inspect.DictType():
            return f"a table whose values are each {_words(expected.value_type)}"
        case _:
            raise AssertionError(f"unreachable: the schema has no other type ({expected})")


def _range(expected: inspect.IntType | inspect.FloatType) -> str:
    return (
        f" from {expected.ge:.12g} to {expected.le:.12g}"
        if expected.ge is not None and expected.le is not None
        else ""
    )


def _remedy(value: object, expected: inspect.Type) -> str:
    members = _members(expected)
    for member in members:
        if isinstance(member, inspect.LiteralType):
            word = value if isinstance(value, str) else ""
            return did_you_mean(word, [str(known) for known in member.values])
    kinds = {type(member) for member in members}
    if inspect.StrType in kinds and isinstance(value, int | float):
        return f'put it in quotes: "{quoted(value)}"'
    if inspect.BoolType in kinds and isinstance(value, str) and value in {"true", "false"}:
        return f"write {value} without quotes"
    if inspect.VarTupleType in kinds and isinstance(value, str):
        return f"put it in brackets: [{quoted(value)}]"
    return ""
