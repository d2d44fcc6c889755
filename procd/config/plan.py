"""What it takes to get from one configuration to another.

Owns the comparison of programs, key by key, and which keys a running program can take over in place.  Pure:
it plans, the runtime acts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING

from procd.config.reference import keys_of
from procd.config.schema import ControlTable, DaemonTable, ProgramTable
from procd.config.spec import DaemonSpec, ProgramSpec

if TYPE_CHECKING:
    from procd.config.spec import Configuration, Credentials


class Kind(Enum):
    """What a change does."""

    ADD = "add"
    REMOVE = "remove"
    RESTART = "restart"
    UPDATE = "update"  # in place: the process goes on
    DAEMON = "daemon"  # a table of procd's own: it takes effect when procd itself is restarted


@dataclass(frozen=True, slots=True)
class Change:
    """One change: of an instance by its name, or (DAEMON) of a table, whose name is `[daemon]` or `[control]`.

    `keys` are the keys of the configuration that differ, in the order of the documentation; none for an
    instance that comes or goes.
    """

    name: str
    kind: Kind
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes: of procd itself, then what goes (old order), then the rest (new order)."""

    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def of_kind(self, kind: Kind) -> tuple[Change, ...]:
        """The changes of one kind, in order."""
        return tuple(change for change in self.changes if change.kind is kind)


def compare(old: Configuration, new: Configuration) -> Plan:
    """The plan that makes `new` out of `old`."""
    changes = _daemon_changes(old.daemon, new.daemon)
    changes += [Change(name, Kind.REMOVE) for name in old.programs if name not in new.programs]
    for name, spec in new.programs.items():
        before = old.programs.get(name)
        if before is None:
            changes.append(Change(name, Kind.ADD))
        elif before is not spec and before != spec:
            keys = _differing_keys(before, spec)
            changes.append(Change(name, Kind.UPDATE if _IN_PLACE.issuperset(keys) else Kind.RESTART, keys))
    return Plan(tuple(changes))


_IN_PLACE = frozenset(key.name.partition(".")[0] for key in keys_of(ProgramTable) if key.in_place)

_RENAMED = {
    "kind": "type",
    "stop_steps": "stop",
    "inherit": "inherit_environment",
    "success": "success_exit_status",
    "stdout_log": "log",
    "stderr_log": "log",
    "socket_mode": "mode",
}
"""Fields of the specs whose keys are called otherwise; the rest differ by their unit at most."""

_NOT_KEYS = frozenset({"name", "program", "instance"})
_CONTROL_KEYS = frozenset(ControlTable.__struct_fields__)
_ORDER = {
    key: position
    for table in (ProgramTable, DaemonTable, ControlTable)
    for position, key in enumerate(table.__struct_fields__)
}


def key_of_field(field: str) -> str:
    """The key of the configuration that a field of a spec comes from: `stop_timeout` for `stop_timeout_s`."""
    return _RENAMED.get(field, field.removesuffix("_s"))


def _differing_keys(old: ProgramSpec, new: ProgramSpec) -> tuple[str, ...]:
    keys: set[str] = set()
    for field in fields(ProgramSpec):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after or field.name in _NOT_KEYS:
            continue
        keys |= _credential_keys(before, after) if field.name == "credentials" else {key_of_field(field.name)}
    return _in_order(keys)


def _in_order(keys: set[str]) -> tuple[str, ...]:
    return tuple(sorted(keys, key=lambda key: (_ORDER.get(key, len(_ORDER)), key)))


def _credential_keys(old: Credentials | None, new: Credentials | None) -> set[str]:
    if old is None or new is None:
        return {"user"}
    keys = set()
    if (old.uid, old.name, old.home, old.shell) != (new.uid, new.name, new.home, new.shell):
        keys.add("user")
    if old.gid != new.gid:
        keys.add("group")
    if old.groups != new.groups:
        keys.add("supplementary_groups")
    return keys


def _daemon_changes(old: DaemonSpec, new: DaemonSpec) -> list[Change]:
    names = [field.name for field in fields(DaemonSpec) if getattr(old, field.name) != getattr(new, field.name)]
    keys = _in_order({key_of_field(name) for name in names})
    control = tuple(key for key in keys if key in _CONTROL_KEYS)
    daemon = tuple(key for key in keys if key not in _CONTROL_KEYS)
    return [
        Change(name, Kind.DAEMON, differing)
        for name, differing in (("[daemon]", daemon), ("[control]", control))
        if differing
    ]
