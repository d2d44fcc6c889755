"""From a declared program to the specs of its instances.

Owns what all instances of a program have in common.  Reports what is wrong and goes on, so that one load finds
every mistake; what stands in for a wrong value never leaves this room, because such a load ends in an
exception.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from procd.config.accounts import Accounts, Identity
from procd.config.cgroups import cgroup_of
from procd.config.dependencies import dependencies_of
from procd.config.environment import add_terminal, add_user, inherited, is_private
from procd.config.instance import Instance
from procd.config.limits import limits_of
from procd.config.policy import policy_of
from procd.config.problems import quoted
from procd.config.scheduling import capabilities_of, scheduling_of
from procd.config.sockets import sockets_of
from procd.config.spec import Output, ProgramSpec
from procd.config.table import NAME_PATTERN
from procd.config.terminal import input_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.config.context import Load
    from procd.config.declaration import Declaration

_LABEL = re.compile(NAME_PATTERN, re.ASCII)


class Resolver:
    """Resolves the programs of one load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._problems = load.problems
        self._accounts = Accounts(load.uid)
        self._bases: dict[tuple[bool | frozenset[str], int, bool], dict[str, str]] = {}

    def resolve(self, declaration: Declaration) -> Iterator[ProgramSpec]:
        """The specs of all instances of a program."""
        table = declaration.table
        identity = self._identity(declaration)
        inherit = self._inherit(declaration)
        common = self._common(declaration, identity, inherit=inherit)
        base = self._base_variables(identity, inherit=inherit, terminal=table.terminal)
        numbers = range(table.instances) if table.instances > 1 else (None,)
        for number in numbers:
            yield Instance(self._load, declaration, number, identity, base).spec(common)

    def _common(
        self, declaration: Declaration, identity: Identity, *, inherit: bool | frozenset[str]
    ) -> dict[str, Any]:
        """The fields that all instances share."""
        table = declaration.table
        for index, label in enumerate(table.groups):
            if not _LABEL.fullmatch(label):
                place = declaration.place("groups", index)
                self._problems.add(
                    place, f"{quoted(label)} is not a label", "use up to 64 of A-Z a-z 0-9 _ . -"
                )
        return {
            "program": declaration.name,
            "description": table.description,
            "groups": table.groups,
            "umask": int(table.umask),
            "inherit": inherit,
            "credentials": identity.credentials,
            "stdin": input_of(declaration, self._problems),
            "terminal": table.terminal,
            "stdout": _OUTPUTS[table.stdout],
            "stderr": _OUTPUTS[table.stderr],
            "autostart": table.autostart,
            "depends_on": dependencies_of(declaration),
            "sockets": sockets_of(declaration, self._load),
            "essential": table.essential,
            "limits": limits_of(declaration, self._load),
            "scheduling": scheduling_of(declaration, self._load),
            "no_new_privileges": table.no_new_privileges,
            "capabilities": capabilities_of(declaration, self._load),
            "cgroup": cgroup_of(declaration, self._load),
            **policy_of(declaration, self._load),
        }

    def _identity(self, declaration: Declaration) -> Identity:
        table = declaration.table
        identity = self._accounts.identity((table.user, table.group, table.supplementary_groups))
        for path, mistake in identity.mistakes:
            self._problems.add_mistake(declaration.place(*path), mistake)
        return identity

    def _inherit(self, declaration: Declaration) -> bool | frozenset[str]:
        names = declaration.table.inherit_environment
        if isinstance(names, bool):
            return names
        for index, name in enumerate(names):
            place = declaration.place("inherit_environment", index)
            if is_private(name):
                self._problems.add(place, f"{name} is meant for procd and is never inherited", "remove it")
            elif not name or "=" in name or "\0" in name:
                self._problems.add(place, f"{quoted(name)} is not the name of a variable", "remove it")
        return self._load.shared(frozenset(names))

    def _base_variables(
        self, identity: Identity, *, inherit: bool | frozenset[str], terminal: bool
    ) -> dict[str, str]:
        """The variables below environment files and `environment`, made once for all alike."""
        login = identity.login
        key = (inherit, -1 if login is None else login.uid, terminal)
        base = self._bases.get(key)
        if base is None:
            daemon = self._load.daemon
            base = inherited(inherit, self._load.environ)
            base["runtime_dir"] = daemon.runtime_dir
            base["state_dir"] = daemon.state_dir
            base["log_dir"] = daemon.log_dir
            if login is not None:
                add_user(base, login)
            if terminal:
                add_terminal(base, inherit)
            self._bases[key] = base
        return base


_OUTPUTS = {kind.value: kind for kind in Output}
