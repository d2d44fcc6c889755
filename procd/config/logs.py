"""Which file takes which output: the paths of logs, each for one stream.

Owns the default names and the search for two streams on one file, where each would cut into the other's lines
and rotate it away.  Must not know how logs are written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from procd.config.problems import Mistake
from procd.config.spec import LogFormat, LogSpec, OnError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from procd.config.declaration import Declaration
    from procd.config.problems import Problems

SHARED_PLACES = ("/dev/", "/proc/")
"""Devices and descriptors, as /dev/stdout in a container: many may write them, and nothing rotates them."""

EVENT_LOG = "events.log"
"""Where procd keeps what happened, in its `state_dir`."""


def stderr_path(path: str) -> str:
    """Where stderr of its own goes when the log is `path`: `web.log` has `web.err.log` beside it."""
    if path.startswith(SHARED_PLACES):
        return path
    stem = path.removesuffix(".log")
    return f"{stem}.err.log" if stem != path else f"{path}.err"


class LogPaths:
    """Every log of a configuration."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._owners: dict[str, tuple[Declaration, str, str]] = {}
        self._real_directories: dict[str, str] = {}
        self._reported: set[tuple[str, str]] = set()

    def claim(self, path: str, declaration: Declaration, instance: str, stream: str) -> LogSpec:
        """The log of one stream; a problem is recorded when another stream has that file already."""
        if not path.startswith(SHARED_PLACES):
            owner = self._owners.setdefault(self._real(path), (declaration, instance, stream))
            if owner[1:] != (instance, stream):
                self._report(path, declaration, owner)
        table = declaration.table.log
        return LogSpec(
            path,
            max_size=table.max_size or None,
            keep=table.keep,
            max_age_s=table.max_age,
            compress=table.compress,
            format=LogFormat(table.format),
            on_error=OnError(table.on_error),
        )

    def check_reserved(self, reserved: Iterable[tuple[str, str]]) -> None:
        """Record a problem for each log that is one of these (path, what it is) as well."""
        for path, what in reserved:
            owner = self._owners.get(self._real(path))
            if owner is not None:
                place = owner[0].place("log", "path")
                self._problems.add(place, f"{path} is {what}", "name another file for the log")

    def _real(self, path: str) -> str:
        directory, _, name = path.rpartition("/")
        real = self._real_directories.get(directory)
        if real is None:
            real = self._real_directories[directory] = os.path.realpath(directory or "/")
        return f"{real}/{name}"

    def _report(self, path: str, declaration: Declaration, owner: tuple[Declaration, str, str]) -> None:
        first, instance, stream = owner
        if (declaration.name, first.name) in self._reported:
            return
        self._reported.add((declaration.name, first.name))
        place = declaration.place("log", "path")
        if first is declaration:
            what = f"several instances would write to {path}"
            remedy = "put ${PROCD_INSTANCE} into the path"
        else:
            there = first.place("log", "path")
            line = there.document.line_of(there.path)
            what = f"{path} is already the log of {stream} of {instance} ({there.document.name}:{line})"
            remedy = "name another file, or put ${PROCD_PROGRAM} into the path"
        self._problems.add(place, what, remedy)


def resolved_path(text: str, directory: str) -> str:
    """An absolute, normalised path; a relative one starts at `directory`.  Raises Mistake."""
    if not text:
        raise Mistake("is empty", "name a path")
    if text.startswith("~"):
        raise Mistake("~ is not expanded", "write ${HOME}")
    if text.startswith("/") and "//" not in text and "/." not in text and not text.endswith("/"):
        return text
    return os.path.normpath(os.path.join(directory, text))  # noqa: PTH118 - pathlib keeps "..", which must go
