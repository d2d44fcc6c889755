"""Where a frame ends, and whether it may be decoded.

Owns the walk over the bytes of a frame before anything is built from them.  msgpack's own `Unpacker` cannot
hold our bounds: it allows 1,024 levels, it looks at the length of a string only when the whole of it has
arrived, its `max_buffer_size` counts the bytes that are not parsed yet and not the frame, and it takes
extension types and keys of bytes.  So the frame is walked first, here, and decoded afterwards in one call.

The walk can stop at any byte and be resumed with more; it never looks at a byte twice, but for the last key.
It must not know what a message is.
"""

from __future__ import annotations

from enum import Enum, auto

from procd.errors import RemoteProtocolError

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from typing import NoReturn

    from procd.wire.limits import Limits


class _Kind(Enum):
    """What a length field counts."""

    TEXT = auto()
    BINARY = auto()
    ARRAY = auto()
    MAP = auto()


# First bytes of the format (github.com/msgpack/msgpack/blob/master/spec.md).  The length of these values
# stands in a field of its own: first byte → width of the field, kind.
_LENGTH_FIELDS = {
    0xC4: (1, _Kind.BINARY), 0xC5: (2, _Kind.BINARY), 0xC6: (4, _Kind.BINARY),
    0xD9: (1, _Kind.TEXT), 0xDA: (2, _Kind.TEXT), 0xDB: (4, _Kind.TEXT),
    0xDC: (2, _Kind.ARRAY), 0xDD: (4, _Kind.ARRAY),
    0xDE: (2, _Kind.MAP), 0xDF: (4, _Kind.MAP),
}  # fmt: skip
_NUMBER_SIZES = {
    0xCA: 5, 0xCB: 9,
    0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9,
    0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9,
}  # fmt: skip


def _short_text_size(first: int) -> int:
    return 1 + (first & 0x1F) if 0xA0 <= first <= 0xBF else 0


def _short_size(first: int) -> int:
    if first < 0x80 or first >= 0xE0 or first in {0xC0, 0xC2, 0xC3}:
        return 1
    return _short_text_size(first) or _NUMBER_SIZES.get(first, 0)


# The whole size of a value that its first byte tells; 0 where the first byte does not.  Tuples, because nine
# of ten values are such, and one lookup for each is what the walk costs.
_SHORT = tuple(_short_size(first) for first in range(256))
_SHORT_TEXT = tuple(_short_text_size(first) for first in range(256))

_END_OF_CONTAINER = -1


class FrameScanner:
    """Walks one frame; after its end, a new one must be made."""

    __slots__ = ("_in_map", "_left", "_limits", "_outer", "_position", "_values")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._position = 0
        # Of the container that the position is in: how many values (in a map: pairs) are left, and its kind.
        # Around all stands a container of one value, the frame.
        self._left = 1
        self._in_map = False
        self._outer: list[tuple[int, bool]] = []
        self._values = 1

    def end_of_frame(self, buffer: bytes | bytearray) -> int | None:
        """The size of the frame that `buffer` begins with, or None while it is incomplete.

        To be called again with the same bytes and more behind them.  Raises RemoteProtocolError as soon as the
        bytes show that the frame cannot be accepted; a length is believed and refused before what it counts.
        """
        try:
            while self._outer or self._left:
                head = self._skip_short_values(buffer)
                if head != _END_OF_CONTAINER:
                    self._enter(buffer, head)
                elif self._outer:
                    self._left, self._in_map = self._outer.pop()
        except IndexError:  # the buffer ends within the frame: the next byte was asked for, and is not there
            self._check_frame_bytes(max(self._position, len(buffer)))
            return None
        self._check_frame_bytes(self._position)
        return self._position if self._position <= len(buffer) else None

    def _skip_short_values(self, buffer: bytes | bytearray) -> int:
        """Where the next value stands that `_enter` must look at, or _END_OF_CONTAINER.

        The position of a map's value is returned while `_position` stays at its key, so that an interrupted
        walk resumes at a whole pair.
        """
        position, left = self._position, self._left
        try:
            if self._in_map:
                while left:
                    start = position + (_SHORT_TEXT[buffer[position]] or self._long_key_size(buffer, position))
                    size = _SHORT[buffer[start]]
                    if not size:
                        return start
                    position = start + size
                    left -= 1
            else:
                while left:
                    size = _SHORT[buffer[position]]
                    if not size:
                        return position
                    position += size
                    left -= 1
            return _END_OF_CONTAINER
        finally:
            self._position, self._left = position, left

    def _enter(self, buffer: bytes | bytearray, head: int) -> None:
        """Go into the container, or behind the long value, whose first byte is at `head`."""
        first = buffer[head]
        if 0x80 <= first <= 0x9F:
            self._open(head + 1, first & 0x0F, in_map=first <= 0x8F)
            return
        if first not in _LENGTH_FIELDS:
            what = "a byte that is no type" if first == 0xC1 else "an extension type"
            self._refuse(f"{what} (0x{first:02x})", head)
        length, start, kind = self._length_at(buffer, head)
        if kind is _Kind.ARRAY or kind is _Kind.MAP:
            self._open(start, length, in_map=kind is _Kind.MAP)
            return
        text = kind is _Kind.TEXT
        bound = self._limits.text_bytes if text else self._limits.binary_bytes
        self._check(length, bound, "bytes of text" if text else "bytes of binary", head)
        self._left -= 1
        self._position = start + length
        self._check_frame_bytes(self._position)

    def _open(self, start: int, length: int, *, in_map: bool) -> None:
        limits = self._limits
        if in_map:
            self._check(length, limits.map_length, "pairs in a map", start)
        else:
            self._check(length, limits.array_length, "values in an array", start)
        self._values += 2 * length if in_map else length
        self._check(self._values, limits.values, "values in a frame", start)
        self._outer.append((self._left - 1, self._in_map))
        self._check(len(self._outer), limits.depth, "containers within each other", start)
        self._position, self._left, self._in_map = start, length, in_map

    def _long_key_size(self, buffer: bytes | bytearray, head: int) -> int:
        first = buffer[head]
        if first not in _LENGTH_FIELDS or _LENGTH_FIELDS[first][1] is not _Kind.TEXT:
            self._refuse("a key of a map that is not text", head)
        length, start, _ = self._length_at(buffer, head)
        self._check(length, self._limits.text_bytes, "bytes of text", head)
        return start + length - head

    @staticmethod
    def _length_at(buffer: bytes | bytearray, head: int) -> tuple[int, int, _Kind]:
        """The length that is declared at `head`, where the counted begins, and what is counted."""
        width, kind = _LENGTH_FIELDS[buffer[head]]
        start = head + 1 + width
        buffer[start - 1]  # raises IndexError, as a slice would not, while the field is incomplete
        return int.from_bytes(buffer[head + 1 : start], "big"), start, kind

    def _check(self, found: int, bound: int, what: str, position: int) -> None:
        if found > bound:
            self._refuse(f"{found} {what}, and {bound} are the limit", position)

    def _check_frame_bytes(self, found: int) -> None:
        if found > self._limits.frame_bytes:
            raise RemoteProtocolError(f"a frame of more than {self._limits.frame_bytes} bytes")

    @staticmethod
    def _refuse(what: str, position: int) -> NoReturn:
        raise RemoteProtocolError(f"{what}, at byte {position} of the frame")
