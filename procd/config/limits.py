"""Resource limits: the key `limits`.

Owns their names and what their numbers count.  Must not know how they are set.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from procd.config.problems import Mistake, did_you_mean, quoted
from procd.config.spec import ResourceLimit

if TYPE_CHECKING:
    from procd.config.context import Load
    from procd.config.declaration import Declaration
    from procd.config.values import LimitBounds

RESOURCES = {
    name: int(getattr(resource, f"RLIMIT_{name.upper()}"))
    for name in ("as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "rss", "stack")
}
_IN_BYTES = frozenset({"as", "core", "data", "fsize", "memlock", "rss", "stack"})
_COUNTED = {"cpu": "seconds", "nofile": "descriptors", "nproc": "processes"}


def limits_of(declaration: Declaration, load: Load) -> tuple[ResourceLimit, ...]:
    """The limits of a program, in the order of their names: that of the file makes no difference."""
    if not declaration.table.limits:
        return ()
    found = []
    for name, bounds in sorted(declaration.table.limits.items()):
        try:
            found.append(_limit(name, bounds, load))
        except Mistake as mistake:
            load.problems.add_mistake(declaration.place("limits", name), mistake)
    return load.shared(tuple(found))


def _limit(name: str, bounds: LimitBounds, load: Load) -> ResourceLimit:
    number = RESOURCES.get(name)
    if number is None:
        known = ", ".join(RESOURCES)
        raise Mistake("there is no such limit", did_you_mean(name, RESOURCES, f"the limits are {known}"))
    soft, hard, is_size = bounds
    if is_size and name not in _IN_BYTES:
        raise Mistake(f"{name} is no size: it counts {_COUNTED[name]}", "write a number without quotes")
    if hard != -1 and not 0 <= soft <= hard:
        first = "unlimited" if soft == -1 else quoted(soft)
        raise Mistake(f"the soft limit, {first}, is above the hard one, {hard}", "write [SOFT, HARD]")
    load.rights.require_limit(number, hard, most_descriptors=name == "nofile")
    return ResourceLimit(number, soft, hard)
