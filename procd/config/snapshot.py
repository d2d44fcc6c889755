"""Specs as bytes, and back: what a procd remembers of its configuration for the one that comes after it.

The file may have changed since, or be gone; what runs was started from what is here.  Pure.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import msgpack
import msgspec

from procd.config.spec import ProgramSpec, SocketSpec  # noqa: TC001 - msgspec looks at them

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Of the shape of a snapshot.  A key that is new has a default, and one that is gone is passed over: for those
#: it stays.  The version before this one can be read too, once there is one.
VERSION = 1

#: Specs of one configuration are much alike: the fastest level already leaves a tenth.
_LEVEL = 1


class _Content(msgspec.Struct, array_like=True):
    version: int
    programs: list[ProgramSpec]
    sockets: list[SocketSpec]


class UnknownVersionError(ValueError):
    """A snapshot that another version of procd has made."""


def dump(programs: Iterable[ProgramSpec], sockets: Iterable[SocketSpec] = ()) -> bytes:
    """Turn specs into bytes."""
    content = msgspec.to_builtins(_Content(VERSION, list(programs), list(sockets)))
    # msgpack and not msgspec writes it: what is not UTF-8 in an environment is carried as surrogates.
    return zlib.compress(msgpack.packb(content, unicode_errors="surrogateescape"), _LEVEL)


def load(data: bytes) -> tuple[list[ProgramSpec], list[SocketSpec]]:
    """Turn bytes into specs again.

    Raises UnknownVersionError for those of another version, and ValueError for what is no snapshot.
    """
    try:
        raw = msgpack.unpackb(zlib.decompress(data), unicode_errors="surrogateescape")
    except (zlib.error, msgpack.UnpackException) as error:
        raise ValueError(f"this is no snapshot of a configuration: {error}") from error
    if not isinstance(raw, list) or not raw or raw[0] != VERSION:
        found = raw[0] if isinstance(raw, list) and raw else None
        raise UnknownVersionError(f"a snapshot of version {found!r}; this procd reads {VERSION}")
    content = msgspec.convert(raw, _Content)
    return content.programs, content.sockets
