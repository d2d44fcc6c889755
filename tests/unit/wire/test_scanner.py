"""The walk over a frame: each bound, at the byte that shows that it is exceeded."""

from __future__ import annotations

import msgpack
import pytest

from procd.errors import RemoteProtocolError
from procd.wire.limits import Limits
from procd.wire.scanner import FrameScanner

SMALL = Limits(
    frame_bytes=400, values=20, depth=3, array_length=10, map_length=4, text_bytes=300, binary_bytes=100
)


def end_of_frame(frame: bytes, limits: Limits = SMALL) -> int | None:
    """Walk once over all that there is."""
    return FrameScanner(limits).end_of_frame(frame)


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 127, 128, 2**16, 2**32, 2**64 - 1, -1, -33, -(2**7), -(2**15), -(2**31), -(2**63),
        1.5, "", "x" * 31, "x" * 32, "x" * 300, b"", b"x" * 100, [], [1] * 10, {}, {"a": 1},
        {"k" * 40: [b"x", {}]}, [[[]]], {"a": {"b": {}}}, {"k" * 300: None},
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_every_type_ends_where_it_ends(value: object) -> None:
    """The end is found whatever follows, and from every byte short of it the walk can go on."""
    frame: bytes = msgpack.packb(value)
    assert end_of_frame(frame) == len(frame)
    assert end_of_frame(frame + b"\xc1\xc1") == len(frame)
    scanner = FrameScanner(SMALL)
    assert [scanner.end_of_frame(frame[:size]) for size in range(len(frame))] == [None] * len(frame)
    assert scanner.end_of_frame(frame) == len(frame)


@pytest.mark.parametrize(
    "value", [1.5, "x" * 260, b"x" * 90, [1] * 10, {"a": 1}], ids=lambda value: repr(value)[:20]
)
def test_the_longer_encodings_of_a_length_are_understood(value: object) -> None:
    """A peer may write a length in more bytes than it needs (32-bit arrays, maps, texts, and single floats)."""
    body = msgpack.packb(value, use_single_float=True)
    wide = {
        list: lambda: b"\xdd" + (10).to_bytes(4, "big") + body[1:],
        dict: lambda: b"\xdf" + (1).to_bytes(4, "big") + body[1:],
        str: lambda: b"\xdb" + (260).to_bytes(4, "big") + body[3:],
        bytes: lambda: b"\xc6" + (90).to_bytes(4, "big") + body[2:],
        float: lambda: body,
    }[type(value)]()
    assert msgpack.unpackb(wide) == value
    assert end_of_frame(wide) == len(wide)


@pytest.mark.parametrize(
    ("start", "complaint"),
    [
        pytest.param(b"\xdb\xff\xff\xff\xff", "4294967295 bytes of text, and 300 are the limit", id="text"),
        pytest.param(b"\xc5\x00\x65", "101 bytes of binary, and 100 are the limit", id="binary"),
        pytest.param(b"\x9b", "11 values in an array, and 10", id="a short array"),
        pytest.param(b"\xdd\xff\xff\xff\xff", "4294967295 values in an array, and 10", id="a long array"),
        pytest.param(b"\x85", "5 pairs in a map, and 4", id="a short map"),
        pytest.param(b"\xdf\xff\xff\xff\xff", "4294967295 pairs in a map, and 4", id="a long map"),
        pytest.param(b"\x9a\x9a", "21 values in a frame, and 20", id="values in all"),
        pytest.param(
            b"\x9a\x84\xa0\x00\xa0\x00\xa0\x00\xa0\x00\x84", "27 values in a frame", id="keys are values"
        ),
        pytest.param(b"\x91\x91\x91\x90", "4 containers within each other, and 3", id="depth"),
        pytest.param(b"\x81\xdb\xff\xff\xff\xff", "4294967295 bytes of text", id="a key"),
        pytest.param(b"\x81\x01", "key of a map that is not text, at byte 1", id="a key that is a number"),
        pytest.param(b"\x81\xc4", "key of a map that is not text", id="a key of bytes"),
        pytest.param(b"\x81\xc1", "key of a map that is not text", id="a key that is no type"),
        pytest.param(b"\x92\x00\xc1", r"a byte that is no type \(0xc1\), at byte 2", id="the unused byte"),
        pytest.param(b"\xd6", r"an extension type \(0xd6\), at byte 0", id="a short extension"),
        pytest.param(b"\xc7", r"an extension type \(0xc7\)", id="a long extension"),
        pytest.param(
            b"\x92\xda\x01\x2c" + b"x" * 300 + b"\xc4\x64", "more than 400 bytes", id="frame, declared"
        ),
    ],
)
def test_a_bound_is_held_when_it_is_declared(start: bytes, complaint: str) -> None:
    """The last byte of a header is enough: what it announces is refused before it comes, and not sooner."""
    scanner = FrameScanner(SMALL)
    assert scanner.end_of_frame(start[:-1]) is None
    with pytest.raises(RemoteProtocolError, match=complaint):
        scanner.end_of_frame(start)


def test_a_frame_of_the_bound_passes_and_one_byte_more_does_not() -> None:
    """Whether it comes whole or in pieces."""
    body = b"\xda\x01\x2c" + b"x" * 300  # 303 bytes
    fits = b"\x94" + body + b"\xc4\x5c" + b"y" * 92 + b"\x01\x02"
    assert len(fits) == end_of_frame(fits) == SMALL.frame_bytes
    over = b"\x95" + fits[1:] + b"\x03"
    with pytest.raises(RemoteProtocolError, match="more than 400 bytes"):
        end_of_frame(over)
    scanner = FrameScanner(SMALL)
    assert scanner.end_of_frame(over[:400]) is None
    with pytest.raises(RemoteProtocolError, match="more than 400 bytes"):
        scanner.end_of_frame(over[:401])


def test_depth_is_not_recursion() -> None:
    """A tower of containers is refused at the bound; it can reach neither the stack of C nor Python's."""
    with pytest.raises(RemoteProtocolError, match="containers within each other"):
        end_of_frame(b"\x91" * 350)
