"""The part of the cgroup hierarchy that is ours to divide, if somebody gave us one (cgroups(7), version 2).

Owns how that is found out.  Pure reading: nothing is made here.  A cgroup is ours when systemd says so (it
marks what it delegates with an extended attribute), or when it is the root of what we can see, as in a
container; in both cases only if we may write there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_MARKS = ("trusted.delegate", "user.delegate")


class Delegation(NamedTuple):
    """A directory below which cgroups may be made, and the controllers that they can have."""

    directory: str
    controllers: frozenset[str]


def find() -> Delegation | None:
    """Look for a delegated cgroup v2; None where there is none."""
    directory = _own_directory()
    if directory is None or not os.access(f"{directory}/cgroup.procs", os.W_OK):
        return None
    controllers = Path(directory, "cgroup.controllers").read_text(encoding="ascii").split()
    return Delegation(directory, frozenset(controllers))


def _own_directory() -> str | None:
    try:
        path = next(
            line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
        )
        mount = next(
            fields[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            for fields in [line.split()]
            if fields[fields.index("-") + 1] == "cgroup2"
        )
    except (OSError, StopIteration):
        return None
    directory = f"{mount}{path}".rstrip("/")
    return directory if path == "/" or _is_marked(directory) else None


def _is_marked(directory: str) -> bool:
    for mark in _MARKS:
        try:
            if os.getxattr(directory, mark) == b"1":
                return True
        except OSError:
            continue
    return False
