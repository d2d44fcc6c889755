"""What every table of the configuration is: a struct whose keys carry their words.

Owns how a key is written down.  Which keys there are is in `program_schema` and `schema`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import Meta, Struct

from procd.config.values import LimitBounds

T = TypeVar("T")

NAME_PATTERN = r"[A-Za-z0-9_.-]{1,64}"


def key(description: str, *, in_place: bool = False) -> Meta:
    """What is known of a key: its words, and whether a running program can take a new value."""
    return Meta(description=description, extra={"in_place": in_place})


def default(value: T) -> T:
    """A default that msgspec must not try to write into the JSON Schema itself (see `json_schema`).

    A table that does not say otherwise holds this very object, so `is` tells that at once.
    """
    made: T = msgspec.field(default_factory=partial(_itself, value))
    return made


def _itself(value: T) -> T:
    return value


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration.

    `is_joined` tells whether what a program says is added to what [defaults] say, entry by entry.
    """

    is_joined: ClassVar[bool] = True


def metadata(annotation: Any) -> dict[str, Any]:  # noqa: ANN401 - a type expression
    """What `key` noted about a field, from the annotation of it; empty for a table."""
    noted: dict[str, Any] = {}
    for meta in getattr(annotation, "__metadata__", ()):
        if meta.description:
            noted["description"] = meta.description
        noted.update(meta.extra or {})
    return noted


def is_table(annotation: Any) -> bool:  # noqa: ANN401 - a type expression
    """Whether a field is a table whose keys the schema knows."""
    return isinstance(annotation, type) and issubclass(annotation, Table)


def table_in(annotation: Any) -> type[Table] | None:  # noqa: ANN401 - a type expression
    """The table that a field is, or is an array of (`[[control.allow]]`)."""
    if getattr(annotation, "__origin__", None) is tuple:
        annotation = annotation.__args__[0]
    return annotation if is_table(annotation) else None


def joined_keys(kind: type[Table]) -> tuple[str, ...]:
    """The keys of a table that are tables themselves, and joined entry by entry."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if _is_joined(field.type))


def _is_joined(annotation: Any) -> bool:  # noqa: ANN401 - a type expression
    if is_table(annotation):
        return bool(annotation.is_joined)
    plain = getattr(annotation, "__origin__", None)
    return plain == dict[str, str] or plain == dict[str, LimitBounds]
