"""One instance of a program: what depends on its own variables.

Owns directory, command, environment and log of an instance, and joins all of it into a spec.  Must not know
the keys that all instances have in common.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from procd.config.checks import health_of, hooks_of, ready_of
from procd.config.environment import OWN_NAMES
from procd.config.environment_files import Entry
from procd.config.logs import stderr_path
from procd.config.problems import Mistake, quoted
from procd.config.scope import Scope
from procd.config.spec import ProgramSpec
from procd.config.words import for_shell
from procd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procd.config.accounts import Identity
    from procd.config.context import Load
    from procd.config.declaration import Declaration
    from procd.config.environment_files import Fault
    from procd.config.spec import LogSpec

_SHELL_REMEDY = "set shell = true, or write an array if the program is to get this word"


class Instance:
    """Resolves one instance.  `number` is None where there is only one."""

    def __init__(
        self,
        load: Load,
        declaration: Declaration,
        number: int | None,
        identity: Identity,
        base: dict[str, str],
    ) -> None:
        self._load = load
        self._declaration = declaration
        self._identity = identity
        self._scope = Scope(load, declaration, number, base)

    def spec(self, common: dict[str, Any]) -> ProgramSpec:
        """The spec, with what all instances share in `common`."""
        scope = self._scope
        environment = self._environment()
        scope.directory = directory = self._directory()
        stdout_log, stderr_log = self._logs()
        return ProgramSpec(
            name=scope.name,
            instance=scope.number,
            command=self._command(),
            directory=directory,
            environment=environment,
            stdout_log=stdout_log,
            stderr_log=stderr_log,
            ready=ready_of(self._declaration, scope, self._load, (stdout_log, stderr_log)),
            health=health_of(self._declaration, scope, self._load),
            hooks=hooks_of(self._declaration, scope, self._load),
            **common,
        )

    def _environment(self) -> tuple[tuple[str, str], ...]:
        table = self._declaration.table
        login = self._identity.login
        added: dict[str, str] = {}
        if login is not None and self._identity.credentials is None:
            # procd stays who it is, and the file names that user: `build` has no credentials to look at.
            added |= {"HOME": login.home, "USER": login.name, "LOGNAME": login.name, "SHELL": login.shell}
        for index, word in enumerate(table.environment_files):
            added |= self._environment_file(word, index)
        for name, text in table.environment.items():
            self._check_name(name)
            value = self._scope.expanded(text, "environment", name)
            added[name] = self._scope.variables[name] = value or ""
        return tuple(added.items())

    def _check_name(self, name: str) -> None:
        if name in OWN_NAMES:
            mistake = Mistake("is always set by procd", "remove it")
        elif not name or "=" in name or "\0" in name:
            mistake = Mistake(f"{quoted(name)} is not the name of a variable", "remove it")
        else:
            return
        self._scope.report(mistake, "environment", name)

    def _environment_file(self, word: str, index: int) -> dict[str, str]:
        is_optional = word.startswith("-")
        path = self._scope.path(word.removeprefix("-"), "environment_files", index)
        if path is None:
            return {}
        credentials = self._identity.credentials
        owner = self._load.uid if credentials is None else credentials.uid
        try:
            lines = self._load.machine.environment_file(path, owner)
        except Mistake as mistake:
            self._report_file(index, path, mistake.what, mistake.remedy)
        except FileNotFoundError:
            if not is_optional:
                self._report_file(
                    index, path, "there is no such file", f'create it, or write "-{word}" if it may be missing'
                )
        except OSError as error:
            self._report_file(
                index, path, f"cannot be read: {error.strerror}", "check the path and its permissions"
            )
        else:
            return self._taken(path, lines)
        return {}

    def _report_file(self, index: int, path: str, what: str, remedy: str) -> None:
        what = what if path in what else f"{path}: {what}"
        self._scope.report(Mistake(what, remedy), "environment_files", index)

    def _taken(self, path: str, lines: Sequence[Entry | Fault]) -> dict[str, str]:
        found = {}
        for line in lines:
            if isinstance(line, Entry):
                found[line.name] = line.value
            else:
                mistake = line.mistake
                problem = Problem(path, line.line, line.name, mistake.what, mistake.remedy)
                self._load.problems.add_problem(problem)
        self._scope.variables |= found
        self._scope.set_own_variables()
        return found

    def _directory(self) -> str:
        text = self._declaration.table.directory
        if text == "/":
            return text
        path = self._scope.path(text, "directory")
        if path is None:
            return "/"
        try:
            self._load.machine.require_directory(path)
        except Mistake as mistake:
            self._scope.report(mistake, "directory")
        return path

    def _command(self) -> tuple[str, ...]:
        table = self._declaration.table
        if table.command is None:
            if not self._declaration.is_written("command"):  # else it is of a wrong type, and reported already
                words = '"WORDS FOR THE SHELL"' if table.shell else '["PROGRAM", "ARGUMENT", …]'
                self._scope.report(Mistake("is missing", f"write command = {words}"), "command")
            return ()
        if not table.shell:
            return self._scope.argv(table.command, "command", shell_remedy=_SHELL_REMEDY)
        try:
            return for_shell(table.command)
        except Mistake as mistake:
            self._scope.report(mistake, "command")
            return ()

    def _logs(self) -> tuple[LogSpec | None, LogSpec | None]:
        table = self._declaration.table
        if table.stdout != "log" and table.stderr != "log":
            return None, None
        name = self._scope.name
        if table.log.path is None:
            path: str | None = f"{self._load.daemon.log_dir}/{name}.log"
        else:
            path = self._log_path(table.log.path)
        if path is None:
            return None, None
        claim = self._load.logs.claim
        stdout = claim(path, self._declaration, name, "stdout") if table.stdout == "log" else None
        stderr = claim(stderr_path(path), self._declaration, name, "stderr") if table.stderr == "log" else None
        return stdout, stderr

    def _log_path(self, text: str) -> str | None:
        path = self._scope.path(text, "log", "path")
        if path is None:
            return None
        machine = self._load.machine
        try:
            machine.require_not_directory(path)
            if not path.startswith(self._load.daemon.log_dir + "/"):
                machine.require_directory(os.path.dirname(path))  # noqa: PTH120 - paths are strings in this room
        except Mistake as mistake:
            self._scope.report(mistake, "log", "path")
        return path
