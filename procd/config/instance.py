"""One instance of a program: what depends on its own variables.

Owns the expansion of command, directory, environment and log path.  Must not know the keys that all instances
have in common.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from procd.config.environment import OWN_NAMES
from procd.config.environment_files import Entry
from procd.config.expansion import expand
from procd.config.logs import resolved_path, stderr_path
from procd.config.problems import Mistake, quoted
from procd.config.spec import ProgramSpec
from procd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from procd.config.accounts import Identity
    from procd.config.declaration import Declaration
    from procd.config.environment_files import Fault
    from procd.config.logs import LogPaths
    from procd.config.machine import Machine
    from procd.config.problems import Problems
    from procd.config.spec import DaemonSpec, LogSpec

_SHELL_WORDS = frozenset({"|", "||", "&&", "&", ";", "<", ">", ">>", "2>", "2>&1", "&>"})


@dataclass(frozen=True, slots=True)
class Load:
    """What one load is resolved against, and where its findings go."""

    daemon: DaemonSpec
    environ: Mapping[str, str]
    uid: int
    machine: Machine
    logs: LogPaths
    problems: Problems


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
        self._problems = load.problems
        self._declaration = declaration
        self._number = number
        self._identity = identity
        self._variables = base.copy()
        self._name = declaration.name if number is None else f"{declaration.name}@{number}"
        self._set_own_variables()

    def spec(self, common: dict[str, Any]) -> ProgramSpec:
        """The spec, with what all instances share in `common`."""
        environment = self._environment()
        directory = self._directory()
        command = self._command(directory)
        stdout_log, stderr_log = self._logs()
        return ProgramSpec(
            name=self._name,
            instance=self._number,
            command=command,
            directory=directory,
            environment=environment,
            stdout_log=stdout_log,
            stderr_log=stderr_log,
            **common,
        )

    def _set_own_variables(self) -> None:
        self._variables["PROCD_PROGRAM"] = self._declaration.name
        self._variables["PROCD_INSTANCE"] = str(self._number or 0)

    def _expanded(self, text: str, *path: str | int) -> str | None:
        """The text with its references replaced, or None when that is a problem."""
        if "$" not in text and "\0" not in text:
            return text
        try:
            return expand(text, self._variables)
        except Mistake as mistake:
            self._problems.add_mistake(self._declaration.place(*path), mistake)
            return None

    def _path(self, text: str, *path: str | int) -> str | None:
        """The expanded text as an absolute path, or None when that is a problem."""
        expanded = self._expanded(text, *path)
        if expanded is None:
            return None
        try:
            base = "" if expanded.startswith("/") else self._declaration.directory(*path)
            return resolved_path(expanded, base)
        except Mistake as mistake:
            self._problems.add_mistake(self._declaration.place(*path), mistake)
            return None

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
            value = self._expanded(text, "environment", name)
            added[name] = self._variables[name] = value or ""
        return tuple(added.items())

    def _check_name(self, name: str) -> None:
        if name in OWN_NAMES:
            mistake = Mistake("is always set by procd", "remove it")
        elif not name or "=" in name or "\0" in name:
            mistake = Mistake(f"{quoted(name)} is not the name of a variable", "remove it")
        else:
            return
        self._problems.add_mistake(self._declaration.place("environment", name), mistake)

    def _environment_file(self, word: str, index: int) -> dict[str, str]:
        is_optional = word.startswith("-")
        path = self._path(word.removeprefix("-"), "environment_files", index)
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
        place = self._declaration.place("environment_files", index)
        self._problems.add(place, what if path in what else f"{path}: {what}", remedy)

    def _taken(self, path: str, lines: Sequence[Entry | Fault]) -> dict[str, str]:
        found = {}
        for line in lines:
            if isinstance(line, Entry):
                found[line.name] = line.value
            else:
                mistake = line.mistake
                self._problems.add_problem(Problem(path, line.line, line.name, mistake.what, mistake.remedy))
        self._variables |= found
        self._set_own_variables()
        return found

    def _directory(self) -> str:
        text = self._declaration.table.directory
        if text == "/":
            return text
        path = self._path(text, "directory")
        if path is None:
            return "/"
        try:
            self._load.machine.require_directory(path)
        except Mistake as mistake:
            self._problems.add_mistake(self._declaration.place("directory"), mistake)
        return path

    def _command(self, directory: str) -> tuple[str, ...]:
        table = self._declaration.table
        if table.command is None and self._declaration.is_written("command"):
            return ()  # it is of a wrong type, which is reported already
        try:
            if table.shell:
                return _shell_command(table.command)
            words = _words(table.command)
        except Mistake as mistake:
            self._problems.add_mistake(self._declaration.place("command"), mistake)
            return ()
        expanded = [self._expanded(word, *self._place_of_word(index)) for index, word in enumerate(words)]
        if None in expanded:
            return ()
        first = self._executable(expanded[0] or "", directory)
        return (first, *(word for word in expanded[1:] if word is not None))

    def _place_of_word(self, index: int) -> tuple[str | int, ...]:
        return ("command",) if isinstance(self._declaration.table.command, str) else ("command", index)

    def _executable(self, word: str, directory: str) -> str:
        """The program to execute; a path is made absolute, a name is searched for again at each start."""
        place = self._place_of_word(0)
        if not word:
            self._problems.add(
                self._declaration.place(*place), "the name of the program is empty", "name a program"
            )
            return word
        path = word
        if "/" in word and not word.startswith("/"):
            path = resolved_path(word, self._declaration.directory(*place))
        try:
            self._load.machine.require_executable(path, self._variables["PATH"])
        except Mistake as mistake:
            remedy = self._remedy_for_relative(word, directory) or mistake.remedy
            self._problems.add(self._declaration.place(*place), mistake.what, remedy)
        return path

    def _remedy_for_relative(self, word: str, directory: str) -> str:
        """A relative path starts at the configuration file; many would expect the working directory."""
        if word.startswith("/") or "/" not in word:
            return ""
        there = resolved_path(word, directory)
        return f"did you mean {there!r}?" if os.access(there, os.X_OK) else ""

    def _logs(self) -> tuple[LogSpec | None, LogSpec | None]:
        table = self._declaration.table
        if table.stdout != "log" and table.stderr != "log":
            return None, None
        if table.log.path is None:
            path: str | None = f"{self._load.daemon.log_dir}/{self._name}.log"
        else:
            path = self._log_path(table.log.path)
        if path is None:
            return None, None
        claim = self._load.logs.claim
        stdout = claim(path, self._declaration, self._name, "stdout") if table.stdout == "log" else None
        stderr = (
            claim(stderr_path(path), self._declaration, self._name, "stderr") if table.stderr == "log" else None
        )
        return stdout, stderr

    def _log_path(self, text: str) -> str | None:
        path = self._path(text, "log", "path")
        if path is None:
            return None
        machine = self._load.machine
        try:
            machine.require_not_directory(path)
            if not path.startswith(self._load.daemon.log_dir + "/"):
                machine.require_directory(os.path.dirname(path))  # noqa: PTH120 - paths are strings in this room
        except Mistake as mistake:
            self._problems.add_mistake(self._declaration.place("log", "path"), mistake)
        return path


_COMMAND_REMEDY = 'write command = ["PROGRAM", "ARGUMENT", …]'


def _shell_command(command: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if command is None:
        raise Mistake("is missing", 'write command = "WORDS FOR THE SHELL"')
    if not isinstance(command, str):
        raise Mistake("is an array, but shell = true runs a string", "write it as one string, or remove shell")
    if not command.strip():
        raise Mistake("is empty", "name a program")
    if "\0" in command:
        raise Mistake("a NUL character cannot be passed to a program", "remove \\u0000")
    return ("/bin/sh", "-c", command)


def _words(command: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if command is None:
        raise Mistake("is missing", _COMMAND_REMEDY)
    words = _split(command) if isinstance(command, str) else command
    if not words:
        raise Mistake("is empty", _COMMAND_REMEDY)
    return words


def _split(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        what = str(error)
        raise Mistake(
            f"cannot be split into words: {what[:1].lower()}{what[1:]}", "close the quote, or write an array"
        ) from None
    for word in words:
        if word in _SHELL_WORDS:
            remedy = "set shell = true, or write an array if the program is to get this word"
            raise Mistake(f"{word} means something to a shell, and no shell runs this command", remedy)
    return words
