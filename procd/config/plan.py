"""What it takes to get from one configuration to another.

Owns the comparison of programs, key by key, and which keys a running program can take over in place.  Pure:
it plans, the runtime acts.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct

from procd.config.program_schema import ProgramTable
from procd.config.reference import keys_of
from procd.config.schema import ControlTable, DaemonTable
from procd.config.spec import DaemonSpec, ProgramSpec, Scheduling

if TYPE_CHECKING:
    from procd.config.spec import Configuration, Credentials
    from procd.config.table import Table


class Kind(Enum):
    """What a change does."""

    ADD = "add"
    REMOVE = "remove"
    RESTART = "restart"
    UPDATE = "update"  # in place: the process goes on; of a table of procd's own: in force at once
    DAEMON = "daemon"  # a table of procd's own: it takes effect when procd itself is restarted


class Change(Struct, frozen=True):
    """One change: of an instance by its name, or of a table, whose name is `[daemon]` or `[control]`.

    `keys` are the keys of the configuration that differ, in the order of the documentation; none for an
    instance that comes or goes.
    """

    name: str
    kind: Kind
    keys: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
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
            continue
        keys = () if before is spec or before == spec else _differing_keys(before, spec)
        has_other_sockets = _has_other_sockets(spec, old, new)
        if keys or has_other_sockets:
            taken = _taken_in_place(ProgramTable).issuperset(keys) and not _is_told_of(before, spec)
            in_place = taken and not has_other_sockets
            keys = _in_order({*keys, "sockets"}) if has_other_sockets else keys
            changes.append(Change(name, Kind.UPDATE if in_place else Kind.RESTART, keys))
    return Plan(tuple(changes))


def _has_other_sockets(spec: ProgramSpec, old: Configuration, new: Configuration) -> bool:
    """Whether a program has a socket that is opened anew: it holds the old one until it is restarted."""
    return any(old.sockets.get(name) != new.sockets.get(name) for name in spec.sockets)


def _is_told_of(old: ProgramSpec, new: ProgramSpec) -> bool:
    """Whether the difference in `health` is one of the watchdog: the program is told of it at its start."""
    return (old.health.watchdog_s if old.health else 0.0) != (new.health.watchdog_s if new.health else 0.0)


@cache
def _taken_in_place(table: type[Table]) -> frozenset[str]:
    """Which keys can be changed while they are in use; it takes some ms, and so waits until somebody asks."""
    return frozenset(key.name.partition(".")[0] for key in keys_of(table) if key.in_place)


_RENAMED = {
    "kind": "type",
    "stop_steps": "stop",
    "inherit": "inherit_environment",
    "success": "success_exit_status",
    "stdout_log": "log",
    "stderr_log": "log",
    "socket_mode": "mode",
    "socket_group": "group",
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
    for field in ProgramSpec.__struct_fields__:
        before, after = getattr(old, field), getattr(new, field)
        if before == after or field in _NOT_KEYS:
            continue
        if field == "credentials":
            keys |= _credential_keys(before, after)
        elif field == "scheduling":
            keys |= _scheduling_keys(before or Scheduling(), after or Scheduling())
        else:
            keys.add(key_of_field(field))
    if "stop" in keys:
        # The signal of the first step stands in both fields, and was written in one.
        keys.discard("stop_signal")
    return _in_order(keys)


def _scheduling_keys(old: Scheduling, new: Scheduling) -> set[str]:
    return {field for field in Scheduling.__struct_fields__ if getattr(old, field) != getattr(new, field)}


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
    names = [field for field in DaemonSpec.__struct_fields__ if getattr(old, field) != getattr(new, field)]
    keys = _in_order({key_of_field(name) for name in names})
    control = tuple(key for key in keys if key in _CONTROL_KEYS)
    daemon = tuple(key for key in keys if key not in _CONTROL_KEYS)
    changes = []
    for name, differing in (("[daemon]", daemon), ("[control]", control)):
        at_once = tuple(key for key in differing if key in _taken_in_place(ControlTable))
        later = tuple(key for key in differing if key not in _taken_in_place(ControlTable))
        changes += [Change(name, Kind.UPDATE, at_once)] if at_once else []
        changes += [Change(name, Kind.DAEMON, later)] if later else []
    return changes
