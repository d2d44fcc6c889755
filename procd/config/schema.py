"""Which tables there are, and which keys those of procd itself and of sockets have.

Owns the shape of a configuration file.  The keys of a program are in `program_schema`, and so is how to add
one.  Must not know files or the system.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, field

from procd.config.program_schema import ProgramTable
from procd.config.table import Table, default, key
from procd.config.values import Duration, Mode  # noqa: TC001 - msgspec looks the annotations up


class DaemonTable(Table, frozen=True):
    """The table `[daemon]`."""

    runtime_dir: Annotated[str | None, key("what lives as long as procd runs: the socket and the lock")] = None
    state_dir: Annotated[str | None, key("what procd keeps over its own restarts")] = None
    log_dir: Annotated[str | None, key("where the output of programs is kept")] = None
    include: Annotated[
        tuple[str, ...],
        key("more files with programs, as patterns (`conf.d/*.toml`), read in order of their names"),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        key("how much procd says about itself, on standard error"),
    ] = "info"
    log_format: Annotated[Literal["text", "json"], key("how procd says it: lines for people, or JSON")] = "text"
    shutdown_timeout: Annotated[
        Duration | None,
        key("how long stopping everything may take together; without it, each program has its `stop_timeout`"),
    ] = None
    max_concurrent_starts: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        key("how many programs may be starting at once; without it, all of them"),
    ] = None


Action: TypeAlias = Literal[
    "read", "operate", "all",
    "status", "logs", "events", "start", "stop", "restart", "signal", "rotate", "write", "attach",
    "run", "run-as", "reload", "upgrade", "shutdown",
]  # fmt: skip
"""A right, or a set of them (`access.SETS`)."""


class AllowTable(Table, frozen=True):
    """A table `[[control.allow]]`."""

    users: Annotated[
        tuple[str | int, ...],
        key('whom it allows something: names or numbers of users, `"*"` for everybody', in_place=True),
    ] = ()
    groups: Annotated[
        tuple[str | int, ...],
        key("and members of these groups, names or numbers", in_place=True),
    ] = ()
    programs: Annotated[
        tuple[str, ...],
        key(
            "on which programs: patterns as `procctl` takes them (`web`, `web@1`, `web*`, `app:`)",
            in_place=True,
        ),
    ] = ("*",)
    actions: Annotated[
        tuple[Action, ...],
        key("what: rights and sets of them, see below", in_place=True),
    ] = ()


class ControlTable(Table, frozen=True):
    """The table `[control]`."""

    socket: Annotated[str | None, key("the path of the socket for `procctl`; at most 107 bytes")] = None
    mode: Annotated[
        Mode | None,
        key("the permissions of the socket, an octal number in quotes, else `0600`, or `0660` with a `group`"),
    ] = None
    group: Annotated[str | int | None, key("the group of the socket, a name or a number")] = None
    allow: tuple[AllowTable, ...] = ()


class SocketTable(Table, frozen=True):
    """A table `[sockets.NAME]`."""

    listen: Annotated[
        str | None,
        key("where: `ADDRESS:PORT`, `:PORT` for all IPv4 addresses, `[::]:PORT`, or a path with a slash"),
    ] = None
    backlog: Annotated[int, Meta(ge=1, le=1_000_000), key("how many connections may wait to be accepted")] = (
        1024
    )
    mode: Annotated[Mode | None, key("the permissions of the path, an octal number in quotes, else `0600`")] = (
        None
    )
    user: Annotated[str | int | None, key("the owner of the path, a name or a number")] = None
    group: Annotated[str | int | None, key("the group of the path, a name or a number")] = None
    reuse_port: Annotated[bool, key("another process may listen at the same port too (SO_REUSEPORT)")] = False


Programs: TypeAlias = Annotated[dict[str, ProgramTable], Meta(description="the programs, by name")]
Sockets: TypeAlias = Annotated[dict[str, SocketTable], Meta(description="the sockets, by name")]


class IncludedFile(Table, frozen=True):
    """An included file: programs and their sockets."""

    sockets: Sockets = field(default_factory=dict)

    programs: Programs = field(default_factory=dict)


class ConfigurationFile(Table, frozen=True):
    """The configuration file."""

    daemon: DaemonTable = default(DaemonTable())
    control: ControlTable = default(ControlTable())
    defaults: ProgramTable = default(ProgramTable())
    sockets: Sockets = field(default_factory=dict)
    programs: Programs = field(default_factory=dict)
