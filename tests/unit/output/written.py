"""A log as the logger leaves it on disk, and all that was ever written to it."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

from procd.output.history import Extent, Gap, History, Reader
from procd.output.logger.file import SINCE, START

if TYPE_CHECKING:
    from pathlib import Path


class Written:
    """The files of one log.  `everything` is each byte by its offset; `starts` is where each file begins."""

    def __init__(self, path: Path, *, keep: int = 3, attributes: bool = True) -> None:
        self.path = path
        self.keep = keep
        self.attributes = attributes
        self.everything = bytearray()
        self.start = 0
        self.opened = False
        path.touch()
        self._mark(path)

    def _mark(self, path: Path, since: int | None = None) -> None:
        if self.attributes:
            os.setxattr(path, START, b"%d" % self.start)
        if since is not None:
            os.setxattr(path, SINCE, b"%d" % since)

    def known(self) -> Extent | None:
        """What the logger knows, if there is one."""
        return Extent(self.start, len(self.everything)) if self.opened else None

    @property
    def history(self) -> History:
        """What is read."""
        return History(str(self.path), self.keep, self.known)

    def older(self, number: int) -> Path | None:
        """The file with this number, if there is one."""
        for name in (f"{self.path}.{number}", f"{self.path}.{number}.gz"):
            if os.path.lexists(name):
                return self.path.with_name(os.path.basename(name))  # noqa: PTH119
        return None

    def write(self, content: bytes) -> None:
        """Append."""
        with self.path.open("ab") as file:
            file.write(content)
        self.everything += content

    def rotate(self) -> None:
        """Begin another file."""
        last = self.older(self.keep)
        if last is not None:
            last.unlink()
        for number in range(self.keep - 1, 0, -1):
            file = self.older(number)
            if file is not None:
                file.rename(str(file).replace(f"{self.path}.{number}", f"{self.path}.{number + 1}"))
        self.path.rename(f"{self.path}.1")
        if self.keep == 0:
            os.unlink(f"{self.path}.1")  # noqa: PTH108
        self.start = len(self.everything)
        self.path.touch()
        self._mark(self.path)

    def compress(self, number: int) -> None:
        """Compress an older file."""
        file = self.older(number)
        if file is None or file.suffix == ".gz":
            return
        compressed = file.with_name(f"{file.name}.gz")
        compressed.write_bytes(gzip.compress(file.read_bytes(), 1))
        for name in os.listxattr(file):
            os.setxattr(compressed, name, os.getxattr(file, name))
        found = file.stat()
        os.utime(compressed, ns=(found.st_atime_ns, found.st_mtime_ns))
        file.unlink()

    def delete(self, number: int) -> None:
        """Delete an older file by hand."""
        file = self.older(number)
        if file is not None:
            file.unlink()

    def cut(self, size: int) -> None:
        """Truncate the present file by hand; the logger notices when it writes again."""
        size = min(size, len(self.everything) - self.start)
        os.truncate(self.path, size)
        kept = self.path.read_bytes()
        self.start = len(self.everything)
        self.everything += kept
        self._mark(self.path)


def read_all(reader: Reader, limit: int | None = None, at_most: int = 65536) -> list[tuple[int, bytes | Gap]]:
    """Step to the end; what came, each with its offset."""
    came: list[tuple[int, bytes | Gap]] = []
    while True:
        offset = reader.offset
        step = reader.step(at_most, limit)
        if step is None:
            continue
        if step == b"":
            return came
        came.append((offset, step))


def text_of(came: list[tuple[int, bytes | Gap]]) -> bytes:
    """The bytes of what came, which has to be without a gap."""
    assert all(isinstance(step, bytes) for _, step in came), came
    return b"".join(step for _, step in came if isinstance(step, bytes))
