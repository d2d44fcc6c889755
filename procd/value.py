"""Records for what every procctl imports: errors and messages.

Owns comparing, ordering and showing by fields.  They are neither dataclasses nor typing.NamedTuple: to import
`dataclasses` and `typing`, with what those import, takes a quarter of the time of a `procctl status`, and some
modules do not import `TYPE_CHECKING` from there for the same reason.
"""

from __future__ import annotations


class Value:
    """A record whose fields are its slots, in their order; not to be changed once it is made."""

    __slots__: tuple[str, ...] = ()

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, type(self)) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._fields() < other._fields() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"
