"""What the words of one instance mean: its variables, and what they make of texts, paths and commands.

Owns the expansion of every value that may hold `${NAME}`, and the look-up of what is to be executed.  Must not
know keys: whoever asks says where a value stands.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from procd.config.expansion import expand
from procd.config.logs import resolved_path
from procd.config.problems import Mistake
from procd.config.words import split

if TYPE_CHECKING:
    from procd.config.context import Load
    from procd.config.declaration import Declaration


class Scope:
    """The variables of one instance.  `number` is None where there is only one."""

    __slots__ = ("_declaration", "_machine", "_problems", "directory", "name", "number", "variables")

    def __init__(self, load: Load, declaration: Declaration, number: int | None, base: dict[str, str]) -> None:
        self._machine = load.machine
        self._problems = load.problems
        self._declaration = declaration
        self.number = number
        self.name = declaration.name if number is None else f"{declaration.name}@{number}"
        self.variables = base.copy()
        #: The working directory, as soon as it is known.
        self.directory = "/"
        self.set_own_variables()

    def set_own_variables(self) -> None:
        """Set what the file cannot say otherwise."""
        self.variables["PROCD_PROGRAM"] = self._declaration.name
        self.variables["PROCD_INSTANCE"] = str(self.number or 0)

    def report(self, mistake: Mistake, *path: str | int) -> None:
        """Record a mistake about the value of a key."""
        self._problems.add_mistake(self._declaration.place(*path), mistake)

    def expanded(self, text: str, *path: str | int) -> str | None:
        """The text with its references replaced, or None when that is a problem."""
        if "$" not in text and "\0" not in text:
            return text
        try:
            return expand(text, self.variables)
        except Mistake as mistake:
            self.report(mistake, *path)
            return None

    def path(self, text: str, *path: str | int) -> str | None:
        """The expanded text as an absolute path, or None when that is a problem."""
        expanded = self.expanded(text, *path)
        if expanded is None:
            return None
        try:
            base = "" if expanded.startswith("/") else self._declaration.directory(*path)
            return resolved_path(expanded, base)
        except Mistake as mistake:
            self.report(mistake, *path)
            return None

    def argv(self, written: str | tuple[str, ...], *path: str | int, shell_remedy: str) -> tuple[str, ...]:
        """The command of a key as it is executed; empty when that is a problem.

        A string is split first and expanded then: a value with spaces stays one word.
        """
        is_split = isinstance(written, str)
        try:
            words = split(written, shell_remedy) if isinstance(written, str) else written
        except Mistake as mistake:
            self.report(mistake, *path)
            return ()
        if not words:
            self.report(Mistake("is empty", f'write {path[-1]} = ["PROGRAM", "ARGUMENT", …]'), *path)
            return ()
        expanded = [
            self.expanded(word, *path) if is_split else self.expanded(word, *path, index)
            for index, word in enumerate(words)
        ]
        if None in expanded:
            return ()
        first = self._executable(expanded[0] or "", *(path if is_split else (*path, 0)))
        return (first, *(word for word in expanded[1:] if word is not None))

    def _executable(self, word: str, *path: str | int) -> str:
        """The program to execute; a path is made absolute, a name is searched for again at each start."""
        if not word:
            self.report(Mistake("the name of the program is empty", "name a program"), *path)
            return word
        file = word
        if "/" in word and not word.startswith("/"):
            file = resolved_path(word, self._declaration.directory(*path))
        try:
            self._machine.require_executable(file, self.variables["PATH"])
        except Mistake as mistake:
            remedy = self._remedy_for_relative(word) or mistake.remedy
            self.report(Mistake(mistake.what, remedy), *path)
        return file

    def _remedy_for_relative(self, word: str) -> str:
        """A relative path starts at the configuration file; many would expect the working directory."""
        if word.startswith("/") or "/" not in word:
            return ""
        there = resolved_path(word, self.directory)
        return f"did you mean {there!r}?" if os.access(there, os.X_OK) else ""
