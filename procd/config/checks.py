"""The tables `ready`, `health` and `hooks`: how a program is asked, and what is run around its life.

Owns what their keys mean together.  They are resolved for each instance, since each has a port of its own.
Must not ask anything: that is the room `procd.checks`.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, TypeAlias

from procd.config.addresses import require_address, require_url
from procd.config.logs import SHARED_PLACES
from procd.config.problems import Mistake, quoted
from procd.config.program_schema import HealthTable, HooksTable, ReadyTable
from procd.config.sockets import FIRST_FD
from procd.config.spec import Check, CheckKind, Health, Hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.config.context import Load
    from procd.config.declaration import Declaration
    from procd.config.scope import Scope
    from procd.config.spec import LogSpec

_SHELL_REMEDY = 'write ["/bin/sh", "-c", "WORDS FOR THE SHELL"]'
_NO_READY = ReadyTable()
_NO_HEALTH = HealthTable()
_NO_HOOKS = HooksTable()
_KINDS = tuple(kind.value for kind in CheckKind)
_ASKED = frozenset({CheckKind.TCP, CheckKind.HTTP, CheckKind.COMMAND})
_HOOKS = ("before_start", "after_ready", "before_stop", "after_stop")

Logs: TypeAlias = "tuple[LogSpec | None, LogSpec | None]"


def ready_of(declaration: Declaration, scope: Scope, load: Load, logs: Logs) -> Check | None:
    """The table `ready` of an instance whose output goes to `logs`; None without one."""
    table = declaration.table.ready
    if table == _NO_READY:
        return None
    check = _Table(declaration, scope, "ready", table).check()
    if check is None:
        return None
    if check.kind is CheckKind.FD:
        with load.problems.at(declaration.place("ready", "fd")):
            _require_free(check.fd, len(declaration.table.sockets))
    if check.kind is CheckKind.LOG:
        with load.problems.at(declaration.place("ready", "log")):
            _require_pattern(check.pattern)
            _require_log(logs)
    return load.shared(check)


def health_of(declaration: Declaration, scope: Scope, load: Load) -> Health | None:
    """The table `health` of an instance; None without one."""
    table = declaration.table.health
    if table == _NO_HEALTH:
        return None
    check = _Table(declaration, scope, "health", table).check()
    if check is None:
        return None
    with load.problems.at(declaration.place("health", "watchdog")):
        _require_watchdog(check, table)
    watchdog_s = 0.0 if table.watchdog is None else float(table.watchdog)
    restart = table.action == "restart"
    return load.shared(Health(check=check, failures=table.failures, restart=restart, watchdog_s=watchdog_s))


def hooks_of(declaration: Declaration, scope: Scope, load: Load) -> Hooks | None:
    """The table `hooks` of an instance; None without one."""
    table = declaration.table.hooks
    if table == _NO_HOOKS:
        return None
    commands: dict[str, tuple[str, ...]] = {}
    for name in _HOOKS:
        written = getattr(table, name)
        if written is not None and written != ():
            commands[name] = scope.argv(written, "hooks", name, shell_remedy=_SHELL_REMEDY)
    return load.shared(Hooks(**commands, timeout_s=float(table.timeout))) if commands else None


class _Table:
    """One of the two tables that say how to ask."""

    def __init__(
        self, declaration: Declaration, scope: Scope, name: str, table: ReadyTable | HealthTable
    ) -> None:
        self._scope = scope
        self._name = name
        self._table = table
        written = declaration.written(name)
        self._written = written if isinstance(written, dict) else {}

    def check(self) -> Check | None:
        """What the table says, or None when that is a problem."""
        kinds = [kind for kind in _KINDS if getattr(self._table, kind, None) not in {None, False}]
        if len(kinds) != 1:
            self._report_kinds(kinds)
            return None
        kind = CheckKind(kinds[0])
        self._report_idle_keys(kind)
        table = self._table
        return Check(
            kind=kind,
            fd=getattr(table, "fd", None) or -1,
            address=self._text("tcp", require_address),
            url=self._text("http", require_url),
            statuses=_statuses(table.status),
            command=self._command(),
            pattern=getattr(table, "log", None) or "",
            interval_s=float(table.interval),
            timeout_s=float(table.timeout),
        )

    def _report_kinds(self, kinds: list[str]) -> None:
        ways = [kind for kind in _KINDS if kind in type(self._table).__struct_fields__]
        if kinds:
            mistake = Mistake(f"asks in {len(kinds)} ways: {', '.join(kinds)}", "keep one of them")
        elif any(way in self._written and self._written[way] is not False for way in ways):
            return  # it is of a wrong type, which is reported already
        else:
            mistake = Mistake("does not say how to ask", f"add one of {', '.join(ways)}")
        self._scope.report(mistake, self._name)

    def _report_idle_keys(self, kind: CheckKind) -> None:
        """A key that would do nothing was written for something that does not happen."""
        reasons = {}
        if kind is not CheckKind.HTTP:
            reasons["status"] = ("is the answer to http", "remove it")
        if kind not in _ASKED:
            words = f"does nothing with {kind.value}, which the program tells by itself"
            limit = "start_timeout" if self._name == "ready" else "watchdog"
            reasons["interval"] = reasons["timeout"] = (words, f"remove it: the limit is {limit}")
            reasons["failures"] = ("with notify, one silence of the watchdog is enough", "remove it")
        for key, (what, remedy) in reasons.items():
            if key in self._written:
                self._scope.report(Mistake(what, remedy), self._name, key)

    def _text(self, key: str, require: Callable[[str], None]) -> str:
        """An address, expanded and checked; empty where there is none, or that is a problem."""
        text: str | None = getattr(self._table, key)
        if text is None:
            return ""
        expanded = self._scope.expanded(text, self._name, key)
        if expanded is None:
            return ""
        try:
            require(expanded)
        except Mistake as mistake:
            self._scope.report(mistake, self._name, key)
        return expanded

    def _command(self) -> tuple[str, ...]:
        written = self._table.command
        if written is None:
            return ()
        return self._scope.argv(written, self._name, "command", shell_remedy=_SHELL_REMEDY)


def _statuses(written: int | tuple[int, ...] | None) -> frozenset[int]:
    if written is None:
        return frozenset()
    return frozenset({written} if isinstance(written, int) else written)


def _require_free(fd: int, sockets: int) -> None:
    if fd < FIRST_FD + sockets:
        taken = f"descriptors {FIRST_FD} to {FIRST_FD + sockets - 1} are its sockets"
        raise Mistake(f"{fd} is taken: {taken}", f"write {FIRST_FD + sockets} or more")


def _require_pattern(pattern: str) -> None:
    try:
        with warnings.catch_warnings():
            # What Python only warns of (a set in a set) means something else in its next version.
            warnings.simplefilter("error")
            re.compile(pattern.encode())
    except (re.error, Warning, OverflowError, RecursionError) as error:
        raise Mistake(
            f"{quoted(pattern)} is not a regular expression: {error}", "see the re module of Python"
        ) from None


def _require_log(logs: Logs) -> None:
    kept = [log for log in logs if log is not None]
    if not kept:
        raise Mistake("the program has no log to look at", 'write stdout = "log"')
    if all(log.path.startswith(SHARED_PLACES) for log in kept):
        raise Mistake(f"nothing can be read from {kept[0].path}", "name a file for the log")


def _require_watchdog(check: Check, table: HealthTable) -> None:
    if check.kind is CheckKind.NOTIFY and table.watchdog is None:
        raise Mistake("is missing: health by notify is a watchdog", 'write watchdog = "30s"')
    if check.kind is not CheckKind.NOTIFY and table.watchdog is not None:
        raise Mistake("goes with notify = true", f"remove it, or {check.kind.value}")
