"""The environment of a program: what it inherits, what procd sets, what the file adds.

Owns the order of these layers, later ones win: inherited; PATH where there is none; HOME, USER, LOGNAME and
SHELL of a program with `user`; TERM of one with `terminal`; environment files; `environment`; PROCD_PROGRAM and
PROCD_INSTANCE.  Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.spec import Credentials, ProgramSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TERMINAL_TYPE = "xterm-256color"
"""What a program with a terminal is told that it has: what nearly every one understands that may attach."""

_OF_A_TERMINAL = ("TERM", "COLORTERM", "COLUMNS", "LINES")
"""What tells of the terminal that procd itself was started from."""

OWN_NAMES = frozenset({"PROCD_PROGRAM", "PROCD_INSTANCE"})
"""Set for every program; the file cannot say otherwise."""

_PRIVATE_PREFIXES = ("LISTEN_", "WATCHDOG_", "NOTIFY_SOCKET")


def is_private(name: str) -> bool:
    """Whether a variable was meant for procd itself: a program that believed it would speak in procd's name."""
    return name.startswith(_PRIVATE_PREFIXES)


def build(spec: ProgramSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of one program; `environ` is procd's own.

    Called for each spawn, so it does as little as it can.
    """
    variables = inherited(spec.inherit, environ)
    if spec.credentials is not None:
        add_user(variables, spec.credentials)
    if spec.terminal:
        add_terminal(variables, spec.inherit)
    variables.update(spec.environment)
    variables["PROCD_PROGRAM"] = spec.program
    variables["PROCD_INSTANCE"] = str(spec.instance or 0)
    return variables


def inherited(inherit: bool | frozenset[str], environ: Mapping[str, str]) -> dict[str, str]:  # noqa: FBT001
    """What comes from procd's own environment, and a PATH in any case."""
    if inherit is True:
        variables = {name: value for name, value in environ.items() if not name.startswith(_PRIVATE_PREFIXES)}
    elif inherit is False:
        variables = {}
    else:
        variables = {name: environ[name] for name in inherit if name in environ and not is_private(name)}
    variables.setdefault("PATH", DEFAULT_PATH)
    return variables


def add_user(variables: dict[str, str], credentials: Credentials) -> None:
    """What login(1) sets for a user; nothing where the file names only a group."""
    if credentials.name:
        variables["HOME"] = credentials.home
        variables["USER"] = variables["LOGNAME"] = credentials.name
        variables["SHELL"] = credentials.shell


def add_terminal(variables: dict[str, str], inherit: bool | frozenset[str]) -> None:  # noqa: FBT001
    """Tell of the terminal that it has; what the file inherits by name stays as it was inherited."""
    named = inherit if isinstance(inherit, frozenset) else frozenset[str]()
    for name in _OF_A_TERMINAL:
        if name not in named:
            variables.pop(name, None)
    variables.setdefault("TERM", TERMINAL_TYPE)
