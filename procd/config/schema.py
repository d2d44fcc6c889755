"""Which keys there are: their types, bounds, defaults and words.

Owns the one table of keys.  A key is one entry here; its description is what `procd schema` prints and what
docs/reference/configuration.md says (a test compares them).  To add a key: an entry here, a field of
`procd.config.spec`, a line in `procd.config.resolve`, and out of
`not_yet`.  Must not know files or the system:
what can only be judged on the machine, or by comparing keys, is judged by `resolve` and `checks`.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from procd.config.values import Duration, Mode, Signal

T = TypeVar("T")

MOST_INSTANCES = 10_000
NAME_PATTERN = r"[A-Za-z0-9_.-]{1,64}"


def _key(description: str, *, in_place: bool = False) -> Meta:
    """What is known of a key: its words, and whether a running program can take a new value."""
    return Meta(description=description, extra={"in_place": in_place})


def _default(value: T) -> T:
    """A default that msgspec must not try to write into the JSON Schema itself (see `json_schema`)."""
    made: T = msgspec.field(default_factory=partial(_itself, value))
    return made


def _itself(value: T) -> T:
    return value


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration.

    `not_yet` are keys that are decided and not implemented: refused like unknown ones, with a better remedy.
    """

    not_yet: ClassVar[frozenset[str]] = frozenset()


class BackoffTable(Table, frozen=True):
    """The table `backoff`."""

    initial: Annotated[
        Duration, _key("the delay before the first restart after a failed start", in_place=True)
    ] = _default(Duration(0.1))
    factor: Annotated[
        float,
        Meta(ge=1.0, le=100.0),
        _key("each further delay is this many times the one before", in_place=True),
    ] = 2.0
    max: Annotated[Duration, _key("no delay is longer", in_place=True)] = _default(Duration(30.0))
    jitter: Annotated[
        float,
        Meta(ge=0.0, le=1.0),
        _key(
            "each delay is varied by up to this share, so that programs do not restart in step", in_place=True
        ),
    ] = 0.1


class LogTable(Table, frozen=True):
    """The table `log`."""

    not_yet = frozenset({"max_size", "keep", "max_age", "compress", "format", "on_error"})

    path: Annotated[
        str | None,
        _key("where output is appended, else `${log_dir}/NAME.log`; stderr of its own goes to `NAME.err.log`"),
    ] = None


class ProgramTable(Table, frozen=True):
    """A table `[programs.NAME]`, and `[defaults]`."""

    not_yet = frozenset({
        "type", "terminal", "start_limit", "ready", "start_timeout", "health", "depends_on", "stop", "schedule",
        "max_runtime", "limits", "nice", "io_class", "io_priority", "cpu_affinity", "oom_score_adj",
        "no_new_privileges", "capabilities", "cgroup", "hooks", "sockets", "essential",
    })  # fmt: skip

    command: Annotated[
        str | tuple[str, ...] | None,
        _key("what is run: an array of words, or a string that is split as a shell splits words"),
    ] = None
    shell: Annotated[
        bool, _key("run the string `command` with `/bin/sh -c`; `${…}` in it is left to the shell")
    ] = False
    description: Annotated[str, _key("words for people", in_place=True)] = ""
    groups: Annotated[
        tuple[str, ...], _key("labels; `procctl` selects the programs of a label with `LABEL:`", in_place=True)
    ] = ()
    autostart: Annotated[bool, _key("start with procd", in_place=True)] = True
    instances: Annotated[
        int,
        Meta(ge=1, le=MOST_INSTANCES),
        _key("how many to run; more than one are called `NAME@0`, `NAME@1`, …, each with its `PROCD_INSTANCE`"),
    ] = 1
    directory: Annotated[str, _key("the working directory")] = "/"
    umask: Annotated[Mode, _key("the file mode creation mask, an octal number in quotes")] = _default(
        Mode(0o022)
    )
    environment: Annotated[
        dict[str, str], _key("variables to set; a value may use the variables that stand before it")
    ] = {}
    environment_files: Annotated[
        tuple[str, ...],
        _key(
            "files of `NAME=value` lines, read before `environment`; a path that begins with `-` may be missing"
        ),
    ] = ()
    inherit_environment: Annotated[
        bool | tuple[str, ...],
        _key("which of procd's own variables it gets: all, none, or these; never those meant for procd"),
    ] = True
    user: Annotated[str | int | None, _key("the user that the program runs as: a name or a number")] = None
    group: Annotated[str | int | None, _key("its group; without it, the user's primary group")] = None
    supplementary_groups: Annotated[
        tuple[str | int, ...] | None,
        _key("its other groups, exactly; without it, the user's groups in the group database"),
    ] = None
    stdin: Annotated[Literal["null", "pipe"], _key("`null` is /dev/null, `pipe` is for `procctl send`")] = (
        "null"
    )
    stdout: Annotated[Literal["log", "null"], _key("where standard output goes")] = "log"
    stderr: Annotated[
        Literal["log", "null", "stdout"],
        _key("where standard error goes; `stdout` is wherever standard output goes"),
    ] = "stdout"
    log: LogTable = _default(LogTable())
    restart: Annotated[
        Literal["always", "on-failure", "never"],
        _key("when to start it again after it has ended", in_place=True),
    ] = "always"
    success_exit_status: Annotated[
        tuple[int | str, ...], _key("exit codes, and names of signals, that are not failures", in_place=True)
    ] = (0,)
    min_uptime: Annotated[
        Duration, _key("ending sooner is a failed start; running so long is a successful one", in_place=True)
    ] = _default(Duration(1.0))
    backoff: BackoffTable = _default(BackoffTable())
    stop_signal: Annotated[Signal, _key("the signal that asks the program to stop", in_place=True)] = _default(
        Signal(15)
    )
    stop_timeout: Annotated[
        Duration,
        _key("how long it may take to stop; then SIGKILL goes to everything that is left", in_place=True),
    ] = _default(Duration(10.0))
    stop_scope: Annotated[
        Literal["group", "process"],
        _key(
            "who gets the stop signal: the process group of the program, or only its first process",
            in_place=True,
        ),
    ] = "group"


class DaemonTable(Table, frozen=True):
    """The table `[daemon]`."""

    runtime_dir: Annotated[str | None, _key("what lives as long as procd runs: the socket and the lock")] = None
    state_dir: Annotated[str | None, _key("what procd keeps over its own restarts")] = None
    log_dir: Annotated[str | None, _key("where the output of programs is kept")] = None
    include: Annotated[
        tuple[str, ...],
        _key("more files with programs, as patterns (`conf.d/*.toml`), read in order of their names"),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _key("how much procd says about itself, on standard error"),
    ] = "info"
    log_format: Annotated[Literal["text", "json"], _key("how procd says it: lines for people, or JSON")] = (
        "text"
    )
    shutdown_timeout: Annotated[
        Duration | None,
        _key("how long stopping everything may take together; without it, each program has its `stop_timeout`"),
    ] = None
    max_concurrent_starts: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        _key("how many programs may be starting at once; without it, all of them"),
    ] = None


class ControlTable(Table, frozen=True):
    """The table `[control]`."""

    not_yet = frozenset({"group", "allow"})

    socket: Annotated[str | None, _key("the path of the socket for `procctl`; at most 107 bytes")] = None
    mode: Annotated[Mode, _key("the permissions of the socket, an octal number in quotes")] = _default(
        Mode(0o600)
    )


class IncludedFile(Table, frozen=True):
    """An included file: programs and nothing else."""

    programs: Annotated[dict[str, ProgramTable], Meta(description="the programs, by name")] = {}


class ConfigurationFile(Table, frozen=True):
    """The configuration file."""

    not_yet = frozenset({"sockets"})

    daemon: DaemonTable = _default(DaemonTable())
    control: ControlTable = _default(ControlTable())
    defaults: ProgramTable = _default(ProgramTable())
    programs: Annotated[dict[str, ProgramTable], Meta(description="the programs, by name")] = {}


def metadata(annotation: Any) -> dict[str, Any]:  # noqa: ANN401 - a type expression
    """What `_key` noted about a field, from the annotation of it; empty for a table."""
    noted: dict[str, Any] = {}
    for meta in getattr(annotation, "__metadata__", ()):
        if meta.description:
            noted["description"] = meta.description
        noted.update(meta.extra or {})
    return noted


def _is_merged(annotation: Any) -> bool:  # noqa: ANN401 - a type expression
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return True
    return bool(getattr(annotation, "__origin__", None) == dict[str, str])


MERGED = tuple(field.name for field in msgspec.structs.fields(ProgramTable) if _is_merged(field.type))
"""Keys of a program that are tables: what a program says is added to what [defaults] say, entry by entry."""
