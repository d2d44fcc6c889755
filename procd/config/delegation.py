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
#: Where procd itself is below what is its own, once it hands controllers down (runtime/cgroups.py).
OWN = "procd.self"


class Delegation(NamedTuple):
    """A directory below which cgroups may be made, and the controllers that they can have."""

    directory: str
    controllers: frozenset[str]
    #: systemd made it for procd: whoever is in it belongs to procd.
    alone: bool = False


def find() -> Delegation | None:
    """Look for a delegated cgroup v2; None where there is none."""
    path = _own_path()
    if path is None:
        return None
    for mount in _mounts():
        directory = f"{mount}{path}".rstrip("/")
        # Something else may be mounted over it, or it may show another part of the hierarchy.
        if os.access(f"{directory}/cgroup.procs", os.W_OK):
            alone = _is_marked(directory)
            if not alone and path != "/":
                return None
            controllers = Path(directory, "cgroup.controllers").read_text(encoding="ascii").split()
            return Delegation(directory, frozenset(controllers), alone)
    return None


def _own_path() -> str | None:
    """Where we were put, below the root of what we see."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    return path if path is None else path.removesuffix(f"/{OWN}") or "/"


def _mounts() -> list[str]:
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    mounts = [line.split() for line in lines]
    return [fields[4] for fields in mounts if fields[fields.index("-") + 1] == "cgroup2"]


def _is_marked(directory: str) -> bool:
    for mark in _MARKS:
        try:
            if os.getxattr(directory, mark) == b"1":
                return True
        except OSError:
            continue
    return False
