"""Other users: for tests that run as root and connect as somebody else."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


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


@contextlib.contextmanager
def connecting_as(path: Path, uid: int | None, gid: int = 65534, groups: Iterable[int] = ()) -> Iterator[str]:
    """Be another user, and have a way to a socket below a directory that this user could not get through.

    Directories of tests are closed to others; the socket's own is not.
    """
    place = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with acting_as(uid, gid, groups):
            yield f"/proc/self/fd/{place}/{path.name}"
    finally:
        os.close(place)
