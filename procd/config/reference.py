"""The schema as documents: the JSON Schema for editors, and each key with its words.

Owns how types and defaults are written for people and editors.  What they are is in `schema`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from procd.config.limits import RESOURCES
from procd.config.program_schema import ProgramTable
from procd.config.schema import ConfigurationFile, SocketTable
from procd.config.table import NAME_PATTERN, Table, metadata, table_in
from procd.config.values import SHORTEST_S, Duration, LimitBounds, Mode, Signal, Size, Span, Step
from procd.quantities import format_duration, format_size, signal_name

_DURATION = {"type": "string", "pattern": r"^[0-9.]+ ?(ms|s|m|h|d)?$"}
_SIGNAL = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 64}, {"type": "string"}]}
_LIMIT = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
_SCHEMAS_OF_VALUES: dict[type, dict[str, Any]] = {
    Duration: {"anyOf": [{"type": "number", "minimum": 0}, _DURATION]},
    Span: {"anyOf": [{"type": "number", "minimum": SHORTEST_S}, _DURATION]},
    Size: {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ ?([KMG]i?)?B?$"}]
    },
    Signal: _SIGNAL,
    Mode: {"type": "string", "pattern": "^0?[0-7]{3}$"},
    Step: {
        "type": "array",
        "prefixItems": [_SIGNAL, {"anyOf": [{"type": "number", "minimum": 0}, _DURATION]}],
        "minItems": 2,
        "items": False,
    },
    LimitBounds: {
        "anyOf": [*_LIMIT["anyOf"], {"type": "array", "items": _LIMIT, "minItems": 2, "maxItems": 2}]
    },
}


class Key(Struct, frozen=True):
    """One key as the documentation shows it; `default` is as TOML writes it, empty where there is none."""

    name: str
    default: str
    description: str
    in_place: bool


def keys_of(kind: type[Table]) -> list[Key]:
    """The keys of a table, with those of the tables within it (`log.path`)."""
    found = []
    for field in msgspec.structs.fields(kind):
        table = table_in(field.type)
        if table is not None:
            inner = keys_of(table)
            found += [
                Key(f"{field.name}.{key.name}", key.default, key.description, key.in_place) for key in inner
            ]
        else:
            noted = metadata(field.type)
            default = _toml(_default(field))
            found.append(Key(field.name, default, noted["description"], noted.get("in_place", False)))
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the configuration file."""
    schema = msgspec.json.schema(ConfigurationFile, schema_hook=_schema_of_value)
    tables = schema["$defs"]
    for kind in _tables(ConfigurationFile) | {SocketTable}:
        _finish(tables[kind.__name__], kind)
    # [defaults] and [programs.NAME] have the same keys, but only a program must have a command.
    tables["Program"] = {**tables[ProgramTable.__name__], "title": "Program", "required": ["command"]}
    for properties in (tables["Program"]["properties"], tables[ProgramTable.__name__]["properties"]):
        properties["limits"]["propertyNames"] = {"enum": sorted(RESOURCES)}
    named = tables[ConfigurationFile.__name__]["properties"]
    named["programs"]["additionalProperties"] = {"$ref": "#/$defs/Program"}
    for key in ("programs", "sockets"):
        named[key]["propertyNames"] = {"pattern": f"^{NAME_PATTERN}$"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "procd.toml", **schema}


def _tables(kind: type[Table]) -> set[type[Table]]:
    """The table itself, and every table in it."""
    found = {kind}
    for field in msgspec.structs.fields(kind):
        table = table_in(field.type)
        if table is not None:
            found |= _tables(table)
    return found


def _finish(schema: dict[str, Any], kind: type[Table]) -> None:
    """Put into one table what msgspec cannot know: defaults of our own types, and that TOML has no null."""
    for field in msgspec.structs.fields(kind):
        entry = schema["properties"][field.name]
        default = _default(field)
        members = [member for member in entry.pop("anyOf", []) if member != {"type": "null"}]
        if len(members) == 1:
            entry.update(members[0])
        elif members:
            entry["anyOf"] = members
        if isinstance(default, tuple):
            entry["default"] = list(default)
        if default is None:
            entry.pop("default", None)
        elif type(default) in _SCHEMAS_OF_VALUES:
            entry["default"] = _word(default)


def _schema_of_value(kind: type) -> dict[str, Any]:
    return dict(_SCHEMAS_OF_VALUES[kind])


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _word(value: object) -> str:
    match value:
        case Duration():
            return format_duration(value)
        case Size():
            return format_size(value)
        case Signal():
            return signal_name(value).removeprefix("SIG")
        case Mode():
            return f"{value:04o}" if value > 0o777 or value & 0o700 else f"{value:03o}"
        case _:
            return str(value)


def _toml(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case dict():
            return "{}"
        case str() | Duration() | Size() | Signal() | Mode():
            return f'"{_word(value)}"'
        case _:
            return str(value)
