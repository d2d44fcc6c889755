"""The keys that end an attachment, found in what is typed.

Pure: it gets the bytes of a keyboard and says which of them are for the program.
"""

from __future__ import annotations

from typing import NamedTuple

DEFAULT = "ctrl-p,ctrl-q"

_CONTROL = "ctrl-"
#: What a keyboard sends for Ctrl and one of these is the character without its upper three bits (ASCII).
_WITH_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


class Typed(NamedTuple):
    """What is for the program, and whether the keys came, behind which nothing is."""

    passed: bytes
    detached: bool


def parse(words: str) -> bytes:
    """Read `ctrl-p,ctrl-q`: what a keyboard sends for these keys; nothing for no keys.

    Raises ValueError for a word that is neither `ctrl-` and a key, nor one ASCII character.
    """
    return b"".join(_key(word) for word in words.split(",")) if words else b""


def _key(word: str) -> bytes:
    if word.startswith(_CONTROL) and len(word) == len(_CONTROL) + 1:
        key = _WITH_CONTROL.find(word[-1].lower())
        if key >= 0:
            return bytes([key])
    elif len(word) == 1 and word.isascii() and word.isprintable():
        return word.encode()
    raise ValueError(f"{word!r} is no key: write ctrl-a to ctrl-z, ctrl-@, ctrl-[, ctrl-\\, ctrl-], ctrl-^, "
                     "ctrl-_, or one character")  # fmt: skip


class DetachKeys:
    """Looks for a sequence of keys.  Its beginning is held back until it is known what it begins."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> Typed:
        """Take what was typed."""
        keys = self._keys
        if not keys:
            return Typed(data, detached=False)
        data = self._held + data
        found = data.find(keys)
        if found >= 0:
            self._held = b""
            return Typed(data[:found], detached=True)
        held = min(len(keys) - 1, len(data))
        while held and not keys.startswith(data[-held:]):
            held -= 1
        passed, self._held = data[: len(data) - held], data[len(data) - held :]
        return Typed(passed, detached=False)
