"""From a declared program to the specs of its instances.

Owns what the keys of a program mean.  Reports what is wrong and goes on, so that one load finds every mistake;
what stands in for a wrong value never leaves this room, because such a load ends in an exception.  Equal
values are shared between programs: ten thousand of them must not hold ten thousand copies.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from procd.config.accounts import Accounts, Identity
from procd.config.environment import add_user, inherited, is_private
from procd.config.instance import Instance
from procd.config.problems import Mistake, quoted
from procd.config.schema import NAME_PATTERN
from procd.config.spec import Backoff, Input, Output, ProgramSpec, Restart, StopScope, Success
from procd.errors import InvalidQuantity
from procd.quantities import format_duration, parse_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.config.declaration import Declaration
    from procd.config.instance import Load
    from procd.config.schema import BackoffTable

_LABEL = re.compile(NAME_PATTERN, re.ASCII)


class Resolver:
    """Resolves the programs of one load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._problems = load.problems
        self._accounts = Accounts(load.uid)
        self._bases: dict[tuple[bool | frozenset[str], int], dict[str, str]] = {}

    def resolve(self, declaration: Declaration) -> Iterator[ProgramSpec]:
        """The specs of all instances of a program."""
        table = declaration.table
        identity = self._identity(declaration)
        inherit = self._inherit(declaration)
        common = self._common(declaration, identity, inherit=inherit)
        base = self._base_variables(identity, inherit=inherit)
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
            "stdin": _INPUTS[table.stdin],
            "stdout": _OUTPUTS[table.stdout],
            "stderr": _OUTPUTS[table.stderr],
            "autostart": table.autostart,
            "restart": _RESTARTS[table.restart],
            "success": self._success(declaration),
            "min_uptime_s": float(table.min_uptime),
            "backoff": self._backoff(declaration),
            "stop_signal": int(table.stop_signal),
            "stop_timeout_s": float(table.stop_timeout),
            "stop_scope": _SCOPES[table.stop_scope],
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
        return _shared_names(names)

    def _base_variables(self, identity: Identity, *, inherit: bool | frozenset[str]) -> dict[str, str]:
        """The variables below environment files and `environment`, made once for all alike."""
        login = identity.login
        key = (inherit, -1 if login is None else login.uid)
        base = self._bases.get(key)
        if base is None:
            daemon = self._load.daemon
            base = inherited(inherit, self._load.environ)
            base["runtime_dir"] = daemon.runtime_dir
            base["state_dir"] = daemon.state_dir
            base["log_dir"] = daemon.log_dir
            if login is not None:
                add_user(base, login)
            self._bases[key] = base
        return base

    def _success(self, declaration: Declaration) -> Success:
        words = declaration.table.success_exit_status
        if words == (0,):
            return _USUAL_SUCCESS
        codes, signals = set(), set()
        for index, word in enumerate(words):
            try:
                if isinstance(word, int):
                    codes.add(_exit_code(word))
                else:
                    signals.add(_signal_by_name(word))
            except Mistake as mistake:
                self._problems.add_mistake(declaration.place("success_exit_status", index), mistake)
        return _shared_success(frozenset(codes), frozenset(signals))

    def _backoff(self, declaration: Declaration) -> Backoff:
        table = declaration.table.backoff
        if not isfinite(table.factor) or not isfinite(table.jitter):
            # The bounds of the schema let nan pass, because it is neither too small nor too large.
            key = "jitter" if isfinite(table.factor) else "factor"
            self._problems.add(declaration.place("backoff", key), "nan is not a number", "write a number")
        if table.initial > table.max:
            place = declaration.place("backoff", "max")
            limit, initial = format_duration(table.max), format_duration(table.initial)
            what = f"{limit} is shorter than backoff.initial, {initial}"
            self._problems.add(place, what, "make max at least as long as initial")
        return _shared_backoff(table)


_INPUTS = {kind.value: kind for kind in Input}
_OUTPUTS = {kind.value: kind for kind in Output}
_RESTARTS = {kind.value: kind for kind in Restart}
_SCOPES = {kind.value: kind for kind in StopScope}
_USUAL_SUCCESS = Success()


@lru_cache(maxsize=256)
def _shared_backoff(table: BackoffTable) -> Backoff:
    return Backoff(float(table.initial), float(table.factor), float(table.max), float(table.jitter))


@lru_cache(maxsize=256)
def _shared_success(codes: frozenset[int], signals: frozenset[int]) -> Success:
    return Success(codes, signals)


@lru_cache(maxsize=256)
def _shared_names(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


def _exit_code(number: int) -> int:
    if not 0 <= number <= 255:
        raise Mistake(f"{quoted(number)} is not an exit code", "exit codes are 0 to 255")
    return number


def _signal_by_name(word: str) -> int:
    if word.isdigit():
        raise Mistake(
            f"{quoted(word)} is not the name of a signal", f"for the exit code write {word}, without quotes"
        )
    try:
        return parse_signal(word)
    except InvalidQuantity:
        raise Mistake(f"{quoted(word)} is not a signal", 'write its name, as "TERM" or "SIGTERM"') from None
