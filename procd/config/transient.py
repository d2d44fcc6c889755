"""A program that is in no file: resolved as one of the file is, with the same words for every mistake.

Owns which keys such a program may have.  What it says comes from somebody who need not be trusted with the
machine, so there is no key by which procd would open a path of theirs (`log`, `environment_files`), give more
than a user has (`limits`, `nice`, `capabilities`, `cgroup`), or hand out what belongs to others (`sockets`,
`essential`, procd's own environment).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from procd.config.context import Load
from procd.config.convert import unknown_key
from procd.config.declaration import Defaults, declare
from procd.config.document import Document, Place
from procd.config.logs import LogPaths
from procd.config.machine import Machine
from procd.config.problems import Problems, did_you_mean, quoted
from procd.config.program_schema import ProgramTable
from procd.config.resolve import Resolver
from procd.config.rights import Rights
from procd.config.table import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from procd.config.spec import DaemonSpec, ProgramSpec

_NAME = re.compile(NAME_PATTERN, re.ASCII)

KEYS = (
    "command", "shell", "description", "groups", "type", "directory", "umask", "environment", "user", "group",
    "supplementary_groups", "stdin", "terminal", "stdout", "stderr", "restart", "success_exit_status",
    "min_uptime", "backoff", "start_limit", "stop_signal", "stop_timeout", "stop_scope", "stop", "max_runtime",
    "no_new_privileges",
)  # fmt: skip

#: Unlike one of the file it runs once, and inherits nothing of procd's own environment.
_UNLESS_SAID = {"type": "oneshot", "restart": "never"}
_ALWAYS = {"inherit_environment": False}


def resolve(
    name: str,
    written: Mapping[str, Any],
    daemon: DaemonSpec,
    taken: Iterable[tuple[str, str]],
    *,
    uid: int,
    check_files: bool,
) -> ProgramSpec:
    """The spec of a program with these keys.

    `taken` are files that cannot be its log, and what they are.  Without `check_files` nothing is looked up on
    the machine, so that nobody learns by asking what there is; what is missing then fails at the start.

    Raises ConfigurationError with every problem at once.
    """
    problems = Problems()
    place = Place(Document("run", "/", "", {}))
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        what = f"{quoted(name)} is not the name of a program"
        problems.add(place / "name", what, "use 1 to 64 of A-Z a-z 0-9 _ . - (and not . or .. alone)")
        problems.raise_if_any()
    kept = dict(written)
    for key in written:
        if key not in KEYS:
            del kept[key]
            problems.add(place / key, *_refusal(key))
    raw = {**_UNLESS_SAID, **kept, **_ALWAYS}
    declaration = declare(name, place, raw, Defaults(place, {}, {}), problems)
    if declaration is None:
        raise AssertionError("unreachable: it was a table")
    load = Load(
        daemon,
        {},
        uid,
        Machine(uid=uid, check_files=check_files),
        Rights(uid=uid, check_files=check_files),
        LogPaths(problems),
        problems,
    )
    (spec,) = Resolver(load).resolve(declaration)
    load.logs.check_reserved(taken)
    problems.raise_if_any()
    return spec


def _refusal(key: str) -> tuple[str, str]:
    if key in ProgramTable.__struct_fields__:
        return "is not for a program that is in no file", "remove it, or put the program into the configuration"
    what, _ = unknown_key(key, ProgramTable)
    return what, did_you_mean(key, KEYS, f"the keys here are {', '.join(KEYS)}")
