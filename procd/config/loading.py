"""Loading: from the path of a file to a Configuration, or to every problem there is.

Owns the order of the steps and which files belong together.  Must not know single keys.
"""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING, Any

from procd.config import places
from procd.config.context import Load
from procd.config.convert import unknown_key, without_mistakes
from procd.config.daemon import DaemonTables
from procd.config.declaration import Declaration, Defaults, declare
from procd.config.dependencies import Dependencies, dependencies_of
from procd.config.document import Document, Place, read_document
from procd.config.expansion import expand
from procd.config.logs import EVENT_LOG, LogPaths, resolved_path
from procd.config.machine import Machine
from procd.config.problems import Mistake, Problems, quoted
from procd.config.program_schema import ProgramTable
from procd.config.resolve import Resolver
from procd.config.rights import Rights
from procd.config.schema import ConfigurationFile, IncludedFile
from procd.config.sockets import SocketTables
from procd.config.spec import Configuration, ProgramSpec
from procd.config.table import NAME_PATTERN
from procd.config.trust import require_trusted
from procd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from procd.config.spec import SocketSpec
    from procd.config.table import Table

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_MAGIC = re.compile(r"[*?\[]")


def load(path: str | None, environ: Mapping[str, str], *, uid: int, check_files: bool = True) -> Configuration:
    """Read, check and resolve a configuration.

    `path` is what the user named, or None for $PROCD_CONFIG and then the default; `environ` and `uid` are
    procd's own.  With `check_files` commands and directories must exist, as `check` and `run` want it.

    Raises ConfigurationError with every problem at once.
    """
    return _Loading(environ, uid=uid, check_files=check_files).load(path)


class _Loading:
    def __init__(self, environ: Mapping[str, str], *, uid: int, check_files: bool) -> None:
        self._environ = environ
        self._uid = uid
        self._check_files = check_files
        self._problems = Problems()

    def load(self, path: str | None) -> Configuration:
        main = self._main_document(path)
        if main is None:
            self._problems.raise_if_any()
            raise AssertionError("unreachable: a document that is not there is a problem")
        place = Place(main)
        self._check_keys(place, ConfigurationFile)
        tables = DaemonTables(place, self._environ, self._uid, self._problems)
        daemon = tables.spec(check_files=self._check_files)
        included = self._included(place, tables.include)
        machine = Machine(uid=self._uid, check_files=self._check_files)
        rights = Rights(uid=self._uid, check_files=self._check_files)
        logs = LogPaths(self._problems)
        found = Load(daemon, self._environ, self._uid, machine, rights, logs, self._problems)
        sockets = self._sockets([main, *included], found)
        programs = self._programs(main, included, Resolver(found))
        files = tuple(document.path for document in (main, *included))
        reserved = [
            (daemon.socket, "the control socket"),
            (f"{daemon.state_dir}/{EVENT_LOG}", "the log of events"),
        ]
        reserved += [(socket.path, f"the socket {name}") for name, socket in sockets.items() if socket.path]
        reserved += [(file, "a configuration file") for file in files]
        reserved += [(file, "an environment file") for file in machine.environment_files]
        logs.check_reserved(reserved)
        self._problems.raise_if_any()
        return Configuration(daemon=daemon, programs=programs, sockets=sockets, files=files)

    def _main_document(self, path: str | None) -> Document | None:
        try:
            name = places.configuration_file(path, self._environ, uid=self._uid)
        except Mistake as mistake:
            self._problems.add_problem(Problem("procd.toml", 0, "", f"its path {mistake.what}", mistake.remedy))
            return None
        remedy = "create it, or name another with -c FILE or $PROCD_CONFIG"
        return read_document(name, uid=self._uid, problems=self._problems, if_missing=remedy)

    def _included(self, place: Place, patterns: tuple[str, ...]) -> list[Document]:
        documents: dict[str, Document] = {}
        for index, pattern in enumerate(patterns):
            here = place / "daemon" / "include" / index
            try:
                names = self._matching(pattern, place.document)
            except Mistake as mistake:
                self._problems.add_mistake(here, mistake)
                continue
            for name in names:
                if name in documents or name == place.document.path:
                    continue
                remedy = f"create it, or take it out of daemon.include in {place.document.name}"
                document = read_document(name, uid=self._uid, problems=self._problems, if_missing=remedy)
                if document is not None:
                    self._check_keys(Place(document), IncludedFile)
                    documents[name] = document
        return list(documents.values())

    def _matching(self, written: str, document: Document) -> list[str]:
        """The files of a pattern, in order of their names; a plain path stands for itself, there or not."""
        pattern = resolved_path(expand(written, self._environ), document.directory)
        if not _MAGIC.search(pattern):
            return [pattern]
        names = sorted(glob.glob(pattern))  # noqa: PTH207 - paths are strings in this room
        if self._uid == 0:
            for directory in sorted({os.path.dirname(name) for name in names}):  # noqa: PTH120
                require_trusted(directory, frozenset({0}), exclusive=True)
        return names

    def _check_keys(self, place: Place, kind: type[Table]) -> None:
        for key in place.document.table:
            if key not in kind.__struct_fields__:
                self._problems.add(place / key, *unknown_key(key, kind))

    def _programs(self, main: Document, included: list[Document], resolver: Resolver) -> dict[str, ProgramSpec]:
        place = Place(main) / "defaults"
        raw = main.table.get("defaults", {})
        defaults = Defaults(place, raw, without_mistakes(raw, ProgramTable, place, self._problems))
        programs: dict[str, ProgramSpec] = {}
        seen: dict[str, Place] = {}
        dependencies = Dependencies(seen, self._problems)
        for declaration in self._declarations([main, *included], defaults, seen):
            dependencies.add(declaration, dependencies_of(declaration))
            for spec in resolver.resolve(declaration):
                programs[spec.name] = spec
        dependencies.check()
        return programs

    def _sockets(self, documents: list[Document], load: Load) -> dict[str, SocketSpec]:
        tables = SocketTables(load)
        for name, own, raw in self._tables(documents, "sockets", {}):
            tables.add(name, own, raw)
        return tables.specs

    def _declarations(
        self, documents: list[Document], defaults: Defaults, seen: dict[str, Place]
    ) -> Iterator[Declaration]:
        for name, own, raw in self._tables(documents, "programs", seen):
            declaration = declare(name, own, raw, defaults, self._problems)
            if declaration is not None:
                yield declaration

    def _tables(
        self, documents: list[Document], kind: str, seen: dict[str, Place]
    ) -> Iterator[tuple[str, Place, object]]:
        """The tables [KIND.NAME] of all files; `seen` gets the names of all of them."""
        for document in documents:
            place = Place(document) / kind
            tables: Any = document.table.get(kind, {})
            if not isinstance(tables, dict):
                self._problems.add(place, f"{quoted(tables)} is not a table", f"write [{kind}.NAME]")
                continue
            for name, raw in tables.items():
                own = place / name
                if self._is_new(name, own, kind.removesuffix("s"), seen):
                    yield name, own, raw

    def _is_new(self, name: str, own: Place, what: str, seen: dict[str, Place]) -> bool:
        first = seen.setdefault(name, own)
        if first is not own:
            there = f"{first.document.name}:{first.document.line_of(first.path)}"
            self._problems.add(
                own, f"there is a {what} {name} already ({there})", "give one of them another name"
            )
            return False
        if not _NAME.fullmatch(name) or name in {".", ".."}:
            what = f"{quoted(name)} is not the name of a {what}"
            self._problems.add(own, what, "use 1 to 64 of A-Z a-z 0-9 _ . - (and not . or .. alone)")
            return False
        return True
