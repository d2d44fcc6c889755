"""Other users: for tests that run as root and connect as somebody else."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def open_to_all(directory: Path) -> None:
    """Let everybody on the way to a directory of a test, and into it."""
    for place in (directory, *directory.parents):
        mode = place.stat().st_mode
        if place.stat().st_uid == os.geteuid() and mode & 0o005 != 0o005:
            place.chmod(mode | 0o055)


@contextlib.contextmanager
def acting_as(uid: int | None, gid: int = 65534, groups: Iterable[int] = ()) -> Iterator[None]:
    """Be another user for the block, in all that the kernel notes at connect(2): effective ids and groups.

    Nothing is done for None, or by whoever is not root.
    """
    if uid is None or os.geteuid() != 0:
        yield
        return
    own_groups, own_gid = os.getgroups(), os.getegid()
    os.setgroups(list(groups))
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_gid)
        os.setgroups(own_groups)
