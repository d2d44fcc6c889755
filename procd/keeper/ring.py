"""Messages that wake nobody: a ring of bytes in memory that both sides hold, beside the channel.

A datagram wakes the keeper, and to wake somebody takes a tenth of what a restart takes.  What is only to be
recorded, and neither holds nor closes a descriptor, is written here instead.  The keeper reads it before the
next datagram, whenever that comes, or when the writer is dead; so the order is that in which things were said,
and what was written is as good as sent.

Owns the form, which is a file in memory (memfd_create(2)): how many bytes were ever written, how many ever
read, and the last of them in a circle.  What is written counts when the first number says so: all of it, or
nothing.
"""

from __future__ import annotations

import os
import struct
import sys

#: Of the circle.  A program's start takes some 800 bytes, so half of it is a hundred starts.
SIZE = 256 * 1024
_COUNT = struct.Struct("=Q")
_WRITTEN_AT, _READ_AT, _DATA_AT = 0, 8, 16


class RingWriter:
    """Our side; `fd` is for the other.  Raises OSError where there is no room for it."""

    __slots__ = ("_read", "fd", "written")

    def __init__(self) -> None:
        #: How many bytes were ever written, and were read when we last looked.
        self.written = self._read = 0
        self.fd = os.memfd_create("procd-ring", os.MFD_CLOEXEC)
        try:
            # Now, and not when something is to be written.
            os.posix_fallocate(self.fd, 0, _DATA_AT + SIZE)
        except OSError:
            os.close(self.fd)
            raise

    def write(self, data: bytes) -> bool:
        """Append messages; whether there was room for all of them."""
        if self.written + len(data) - self._read > SIZE:
            (self._read,) = _COUNT.unpack(os.pread(self.fd, _COUNT.size, _READ_AT))
            if self.written + len(data) - self._read > SIZE:
                return False
        at = self.written % SIZE
        os.pwrite(self.fd, data[: SIZE - at], _DATA_AT + at)
        if len(data) > SIZE - at:
            os.pwrite(self.fd, data[SIZE - at :], _DATA_AT)
        self.written += len(data)
        os.pwrite(self.fd, _COUNT.pack(self.written), _WRITTEN_AT)
        return True

    def close(self) -> None:
        """Write nothing more."""
        os.close(self.fd)


class RingReader:
    """The other side, which takes the descriptor over."""

    __slots__ = ("_fd", "_read")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read = 0

    def take(self, end: int | None = None) -> bytes:
        """What was not read yet, up to `end`, as the writer counts.  Raises ValueError for what cannot be."""
        try:
            if end is None:
                end = int.from_bytes(os.pread(self._fd, _COUNT.size, _WRITTEN_AT), sys.byteorder)
            count, at = end - self._read, self._read % SIZE
            if not 0 <= count <= SIZE:
                raise ValueError(f"a ring of {SIZE} bytes cannot have {count}")
            data = os.pread(self._fd, min(count, SIZE - at), _DATA_AT + at)
            data += os.pread(self._fd, count - len(data), _DATA_AT)
            os.pwrite(self._fd, _COUNT.pack(end), _READ_AT)
        except OSError as error:
            raise ValueError(f"this is no ring: {error.strerror}") from error
        self._read = end
        return data

    def close(self) -> None:
        """Read nothing more."""
        os.close(self._fd)
