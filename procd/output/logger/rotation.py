"""The old files of a log: `PATH.1`, the newest, to `PATH.KEEP`, each with `.gz` behind it when compressed.

Owns their names, and the order in which they move on.  A rotation that is killed anywhere loses nothing: the
oldest moves first, so there is a gap at most, and the next rotation fills that gap before it gives up any file.
"""

from __future__ import annotations

import os
import struct

from procd.output.logger.file import START, read_attribute

COMPRESSED = ".gz"
#: What is compressed is written here first.
UNFINISHED = ".gz.tmp"


class RollError(OSError):
    """Old files cannot be moved."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.reason = str(error)


def old_path(path: str, number: int) -> str:
    """Where the old file of this number stands, uncompressed."""
    return f"{path}.{number}"


def forms(path: str, number: int) -> list[str]:
    """The forms in which an old file is there: none, plain, compressed, or both."""
    plain = old_path(path, number)
    return [name for name in (plain, plain + COMPRESSED) if os.path.lexists(name)]


def roll(path: str, keep: int) -> None:
    """Move the present file aside, and every old one as far as it has to; those beyond `keep` go.

    Raises RollError.
    """
    try:
        _roll(path, keep)
    except OSError as error:
        raise RollError(error) from None


def _roll(path: str, keep: int) -> None:
    if not keep:
        os.unlink(path)  # noqa: PTH108 - pathlib is not imported here
        return
    gap = next((number for number in range(1, keep + 1) if not forms(path, number)), 0)
    if not gap:
        # Those beyond were kept when the configuration said so.
        gap = number = keep
        while names := forms(path, number):
            for name in names:
                os.unlink(name)  # noqa: PTH108 - the same
            number += 1
    for number in range(gap - 1, 0, -1):
        for name in forms(path, number):
            suffix = COMPRESSED if name.endswith(COMPRESSED) else ""
            os.rename(name, old_path(path, number + 1) + suffix)  # noqa: PTH104 - the same
    os.rename(path, old_path(path, 1))  # noqa: PTH104 - the same


def uncompressed_size(name: str) -> int:
    """How many bytes of a log an old file holds; 0 where that cannot be found out.

    A compressed file has that number, modulo 4 GiB, in its last four bytes (RFC 1952).
    """
    try:
        if not name.endswith(COMPRESSED):
            return os.lstat(name).st_size
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        os.lseek(fd, -4, os.SEEK_END)
        return int(struct.unpack("<I", os.read(fd, 4))[0])
    except (OSError, struct.error):
        return 0
    finally:
        os.close(fd)


def end_of_old(path: str, keep: int) -> int:
    """The offset after the last byte of the newest old file: where the present one begins."""
    behind = 0
    for number in range(1, keep + 1):
        names = forms(path, number)
        if not names:
            continue
        behind += uncompressed_size(names[-1])
        start = read_attribute(names[-1], START)
        if start is not None:
            return start + behind
    return behind
