"""The table `cgroup` of a program.

Owns which controller each key needs, and the refusal where procd has not got it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.config import delegation
from procd.config.spec import CgroupLimits

if TYPE_CHECKING:
    from procd.config.context import Load
    from procd.config.declaration import Declaration

#: The controller that each key needs.
CONTROLLERS = {"memory_max": "memory", "cpu_max": "cpu", "pids_max": "pids"}


def cgroup_of(declaration: Declaration, load: Load) -> CgroupLimits | None:
    """The limits of a program's cgroup; None for a program that asks for none."""
    table = declaration.table.cgroup
    asked = {key: value for key in CONTROLLERS if (value := getattr(table, key)) is not None}
    if not asked:
        return None
    if load.rights.is_asked:
        _check(declaration, load, asked)
    return load.shared(CgroupLimits(**asked))


def _check(declaration: Declaration, load: Load, asked: dict[str, float]) -> None:
    ours = delegation.find()
    for key in asked:
        if ours is None:
            what = "no cgroup v2 is delegated to procd"
            remedy = "run procd from a systemd unit with Delegate=yes, or remove it"
        elif CONTROLLERS[key] not in ours.controllers:
            what = f"{ours.directory} has not the controller {CONTROLLERS[key]}"
            remedy = "enable it in the cgroup above, or remove it"
        else:
            continue
        load.problems.add(declaration.place("cgroup", key), what, remedy)
