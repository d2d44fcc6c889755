"""One file of a log, open for reading: the present one, an older one, or an older one that was compressed.

Owns the way from an offset of the log to bytes, one bounded step at a time.  Must not know of the other files.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib

from procd.output.logger.file import SINCE, START, read_attribute

#: Bytes of a compressed file that one step may read.  One that yields nothing from so many, four times over,
#: is heard again later.
_COMPRESSED_BYTES = 16384
_READS = 4
#: What a step may pass over in a compressed file: a third of a millisecond, as measured.
_SKIP_BYTES = 65536
#: gzip counts its uncompressed bytes in 32 bits, at its end (RFC 1952).
_SIZE_MODULUS = 1 << 32


def open_part(path: str) -> Part | None:
    """Open a file of a log; None if there is none.

    Raises OSError where there is one that cannot be read, with ENOTSUP for what is not a regular file.  `start`
    is to be set by whoever knows the other files.
    """
    try:
        # A fifo is not even opened: whoever writes to it would take us for its reader for a moment.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _not_regular(path)
        # O_NONBLOCK: it could have become one just now.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    try:
        kind = CompressedPart if path.endswith(".gz") else Part
        return kind(fd, path)
    except OSError:
        os.close(fd)
        raise


def _not_regular(path: str) -> OSError:
    return OSError(errno.ENOTSUP, "it is not a regular file", path)


class Part:
    """A file of a log, as it was written: its bytes are `start` to `end` of the log.

    `claimed` is where its own attribute says that it begins, `since` when its first byte came (Unix time),
    each None where nothing is known; `changed` is when its last byte came.
    """

    compressed = False

    def __init__(self, fd: int, path: str) -> None:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _not_regular(path)
        self.fd = fd
        self.path = path
        self.start = 0
        self.size = found.st_size
        self.changed = found.st_mtime
        self.identity = (found.st_dev, found.st_ino)
        self.claimed = read_attribute(fd, START)
        self.since = read_attribute(fd, SINCE)

    @property
    def end(self) -> int:
        """The offset after its last byte, as it was when it was opened."""
        return self.start + self.size

    def fit(self, above: int) -> None:
        """Take note that the next file begins at `above`."""

    def read(self, offset: int, at_most: int) -> bytes | None:
        """Bytes at an offset that is not before `start`; none at the end; None when it takes another step.

        Raises OSError.
        """
        return os.pread(self.fd, at_most, offset - self.start)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)


class CompressedPart(Part):
    """A file that was compressed with gzip, read from its beginning to the offset that is wanted.

    It holds some 64 KiB.  One that is damaged has an end where the damage is.
    """

    compressed = True

    def __init__(self, fd: int, path: str) -> None:
        super().__init__(fd, path)
        # What does not even have a head and a tail has no bytes for anybody.
        tail = os.pread(fd, 4, self.size - 4) if self.size >= 18 else bytes(4)
        self.size = struct.unpack("<I", tail)[0]
        self._rewind()

    def fit(self, above: int) -> None:
        """Take note that the next file begins at `above`: of more than 4 GiB, gzip knows only the remainder."""
        if self.claimed is not None and above > self.claimed + self.size:
            self.size += (above - self.claimed - self.size) // _SIZE_MODULUS * _SIZE_MODULUS

    def _rewind(self) -> None:
        os.lseek(self.fd, 0, os.SEEK_SET)
        self._inflater = zlib.decompressobj(wbits=31)
        self._compressed = b""
        self._position = 0

    def read(self, offset: int, at_most: int) -> bytes | None:
        """Bytes at an offset; passing over what stands before it takes steps of its own."""
        wanted = offset - self.start
        if wanted < self._position:
            self._rewind()
        skip = min(wanted - self._position, _SKIP_BYTES)
        piece = self._inflate(skip or min(at_most, self.size - wanted)) if wanted < self.size else b""
        self._position += len(piece or b"")
        return piece if not skip or piece == b"" else None

    def _inflate(self, at_most: int) -> bytes | None:
        """The next bytes; none where it ends, or is damaged."""
        for _ in range(_READS):
            try:
                piece = self._inflater.decompress(self._compressed, at_most)
            except zlib.error:
                return b""
            self._compressed = self._inflater.unconsumed_tail
            if piece or self._inflater.eof:
                return piece
            self._compressed += os.read(self.fd, _COMPRESSED_BYTES)
            if not self._compressed:
                return b""
        return None
