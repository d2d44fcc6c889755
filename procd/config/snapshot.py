"""Specs as bytes, and back: what a procd remembers of its configuration for the one that comes after it.

The file may have changed since, or be gone; what runs was started from what is here.  Pure.
"""

from __future__ import annotations

import zlib
from typing import Any, TypeVar

import msgpack
import msgspec

#: Of the shape of a snapshot.  A key that is new has a default, and one that is gone is passed over: for those
#: it stays.  The version before this one can be read too, once there is one.
VERSION = 1

#: Specs of one configuration are much alike: the fastest level already leaves a tenth.
_LEVEL = 1

T = TypeVar("T")


class _Content(msgspec.Struct, array_like=True):
    version: int
    content: Any


class UnknownVersionError(ValueError):
    """A snapshot that another version of procd has made."""


def dump(content: object) -> bytes:
    """Turn a Configuration, a spec, or a list of these, into bytes."""
    whole = _Content(VERSION, content)
    try:
        # A tenth of the time of what follows, and every start waits for it.
        packed = _ENCODER.encode(whole)
    except UnicodeEncodeError:
        # What is not UTF-8 in an environment is carried as surrogates, which only msgpack writes.
        builtins = msgspec.to_builtins(whole, enc_hook=_as_number)
        packed = msgpack.packb(builtins, unicode_errors="surrogateescape")
    return zlib.compress(packed, _LEVEL)


def load(data: bytes, kind: type[T]) -> T:
    """Turn bytes into what they were made of again, which is of this kind.

    Raises UnknownVersionError for those of another version, and ValueError for what is no snapshot of it.
    """
    try:
        raw = msgpack.unpackb(zlib.decompress(data), unicode_errors="surrogateescape")
    except (zlib.error, msgpack.UnpackException) as error:
        raise ValueError(f"this is no snapshot of a configuration: {error}") from error
    if not isinstance(raw, list) or len(raw) != len(_Content.__struct_fields__) or raw[0] != VERSION:
        found = raw[0] if isinstance(raw, list) and raw else None
        raise UnknownVersionError(f"a snapshot of version {found!r}; this procd reads {VERSION}")
    return msgspec.convert(raw[1], kind)


def _as_number(value: object) -> int:
    """A Size is a number that remembers how it was written."""
    if isinstance(value, int):
        return int(value)
    raise NotImplementedError(f"{type(value)} has no place in a snapshot")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_as_number)
