"""How much a peer may send: every bound of the wire, and why it is what it is.

Owns the numbers.  Both directions are bounded, but not alike: a daemon holds the half-received requests of
many clients, whom it may not trust; a client holds one reply, of a daemon that it chose.
"""

from __future__ import annotations

from procd.value import Value

KIB = 1024

MAX_CHUNK_BYTES = 64 * KIB
"""Bytes of a program's stdin or output in one message.

The capacity of a pipe (pipe(7)): a larger piece would be written in parts anyway, and a smaller one costs
more messages for each byte.
"""

MAX_REQUEST_ID = 2**32 - 1
"""Message ids are 32-bit unsigned integers (the MessagePack-RPC specification)."""

MAX_METHOD_LENGTH = 64
"""Characters of a method's name: several times the longest that is defined, and short enough to be quoted."""


class Limits(Value):
    """What one frame of one direction may hold.

    `values` counts everything in a frame, the keys of maps too: an empty map is one byte on the wire and 64 in
    memory, so the bytes alone do not bound what a frame costs.  `depth` is the number of containers around a
    value; the array that is the message counts.
    """

    __slots__ = ("array_length", "binary_bytes", "depth", "frame_bytes", "map_length", "text_bytes", "values")

    def __init__(
        self,
        frame_bytes: int,
        values: int,
        depth: int,
        array_length: int,
        map_length: int,
        text_bytes: int,
        binary_bytes: int,
    ) -> None:
        self.frame_bytes = frame_bytes
        self.values = values
        self.depth = depth
        self.array_length = array_length
        self.map_length = map_length
        self.text_bytes = text_bytes
        self.binary_bytes = binary_bytes


REQUEST_LIMITS = Limits(
    # Room for a full chunk, or for a transient program with the longest argument that Linux passes (128 KiB,
    # execve(2)), and its environment.  A thousand half frames are then 256 MiB at worst.
    frame_bytes=256 * KIB,
    # A thousand patterns, or as many variables: what a person or a script would put in one request, ten times.
    values=16 * KIB,
    # [request [params {spec {hooks [argv]}}]] is six deep; JSON-like nesting beyond twice that is an attack.
    depth=12,
    array_length=8 * KIB,
    map_length=4 * KIB,
    # One argument or variable of a program: MAX_ARG_STRLEN of Linux, execve(2).
    text_bytes=128 * KIB,
    binary_bytes=MAX_CHUNK_BYTES,
)
"""From a client to the daemon."""

REPLY_LIMITS = Limits(
    # The records of 30,000 programs: three times the number that procd is tested with.
    frame_bytes=16 * KIB * KIB,
    # The same 30,000 records of some 60 values each.  The costliest value is an empty map: 128 MiB at worst.
    values=2 * KIB * KIB,
    depth=16,
    array_length=64 * KIB,
    map_length=64 * KIB,
    # A reason may quote what a program or a file system said, never a file.
    text_bytes=256 * KIB,
    binary_bytes=MAX_CHUNK_BYTES,
)
"""From the daemon to a client."""
