"""What is to be executed, made ready before anything is forked.

Owns the encoding of commands, arguments and environment, the search on PATH, and the record that all spawn
paths take.  Must not know how they start a child.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from procd.errors import SpawnError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from procd.process.settings import Settings

# Pairs of a descriptor of ours and its number in the child.
Moves = tuple[tuple[int, int], ...]

# What exec tries when a child's environment has no PATH: execvp(3)'s default without the current directory.
DEFAULT_PATH = b"/bin:/usr/bin"


@dataclass(frozen=True, slots=True)
class Launch:
    """One child to be.

    `candidates` are the files to try, in order; `moves` the descriptors that it gets, as Wiring has them;
    `terminal` the path of the terminal that is to control it, which is also the source of the moves to 0, 1, 2.
    """

    candidates: tuple[bytes, ...]
    arguments: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    moves: Moves
    settings: Settings
    terminal: bytes | None = None

    @property
    def command(self) -> str:
        """The command in words, for errors."""
        return os.fsdecode(self.candidates[0])


def encode_arguments(arguments: Sequence[str | bytes]) -> tuple[bytes, ...]:
    """The argv of a child; text goes out as it came in (surrogateescape).

    Raises SpawnError("arguments") for an empty argv and for text that cannot be passed.
    """
    if not arguments:
        raise SpawnError("arguments", errno.EINVAL, "no arguments, not even a name")
    return tuple(_encode("arguments", argument) for argument in arguments)


def encode_environment(environment: Mapping[str, str] | Mapping[bytes, bytes] | None) -> Mapping[bytes, bytes]:
    """The environment of a child; None is our own, {} is none.

    Raises SpawnError("environment") for what cannot be passed.
    """
    if environment is None:
        # The dictionary behind it, where there is one: os.environb decodes and encodes each entry in Python, at
        # a fifth of the cost of a plain spawn.
        inherited: Mapping[bytes, bytes] = getattr(os.environb, "_data", os.environb)
        return inherited
    return dict(map(_variable, environment, environment.values()))


def find_candidates(
    command: str | bytes, environment: Mapping[bytes, bytes], *, directory_changes: bool
) -> tuple[bytes, ...]:
    """The files that execvpe(3) would try for `command`, on the child's own PATH.

    Those that do not exist are left out, so that a mistyped command costs no fork; with `directory_changes`
    only absolute ones can be judged from here.  Raises SpawnError("exec", ENOENT) when none is left.
    """
    name = _encode("exec", command)
    if b"/" in name:
        return (name,)
    path = environment.get(b"PATH", DEFAULT_PATH)
    tried = [(part or b".") + b"/" + name for part in path.split(b":")] if name else []
    found = tuple(
        file for file in tried if (directory_changes and not file.startswith(b"/")) or os.path.lexists(file)
    )
    if not found:
        raise SpawnError("exec", errno.ENOENT, os.fsdecode(name))
    return found


# The same eighty variables go to every child of a daemon: encoding and checking them anew took a third of a
# plain spawn.  By pairs, because looking up the parts of each of them still took a tenth of it.
@lru_cache(maxsize=256)
def _variable(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    key = _encode("environment", name)
    if not key or b"=" in key:
        raise SpawnError("environment", errno.EINVAL, os.fsdecode(key))
    return key, _encode("environment", value)


def _encode(stage: str, text: str | bytes) -> bytes:
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise SpawnError(stage, errno.EILSEQ, repr(text)) from error
    if b"\0" in encoded:
        raise SpawnError(stage, errno.EINVAL, repr(text))
    return encoded
