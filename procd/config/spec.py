"""What the configuration says, as frozen values: the contract between `config` and everything below it.

Owns the shape of a loaded configuration.  Everything in here is resolved: durations are seconds, sizes are
bytes, signals are numbers, paths are absolute, `${NAME}` is expanded, users are numbers.  One `ProgramSpec`
is one instance: `instances = 3` in the file makes three of them.  Must not know TOML, files or the system.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Restart(Enum):
    """When an ended program is started again (key `restart`)."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Output(Enum):
    """Where a standard stream of a program goes (keys `stdout`, `stderr`)."""

    LOG = "log"
    NULL = "null"
    STDOUT = "stdout"  # stderr only: wherever stdout goes


class Input(Enum):
    """What a program's stdin is (key `stdin`)."""

    NULL = "null"
    PIPE = "pipe"


class StopScope(Enum):
    """Who gets the first stop signal (key `stop_scope`)."""

    GROUP = "group"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between restarts: `initial_s * factor ** n`, at most `max_s`, give or take `jitter` (a share)."""

    initial_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a program runs as, resolved when the configuration was read; all three are always set together.

    `groups` is the complete supplementary list (setgroups(2)).  `name`, `home` and `shell` become USER and
    LOGNAME, HOME and SHELL.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str
    shell: str


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Where the output of one stream is kept."""

    path: str


@dataclass(frozen=True, slots=True)
class Success:
    """Ends that are not failures: exit codes, and signals by number."""

    codes: frozenset[int] = frozenset({0})
    signals: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSpec:
    """One instance of a program.

    `name` is unique ("web", or "web@1"); `program` is the name in the file ("web"); `instance` is its number
    where there are several.  `command` is what is executed (with `shell = true` already `/bin/sh -c …`).
    `environment` holds what the file adds, later entries win: environment_files, then `environment`.  `inherit`
    is True (all of procd's own variables but the private ones), False, or the names to inherit.
    `stop_signal` is the first signal; after `stop_timeout_s` SIGKILL goes to everything that is left.
    """

    name: str
    program: str
    instance: int | None = None
    description: str = ""
    groups: tuple[str, ...] = ()
    command: tuple[str, ...]
    directory: str = "/"
    umask: int = 0o022
    environment: tuple[tuple[str, str], ...] = ()
    inherit: bool | frozenset[str] = True
    credentials: Credentials | None = None
    stdin: Input = Input.NULL
    stdout: Output = Output.LOG
    stderr: Output = Output.STDOUT
    stdout_log: LogSpec | None = None
    stderr_log: LogSpec | None = None
    autostart: bool = True
    restart: Restart = Restart.ALWAYS
    success: Success = Success()
    min_uptime_s: float = 1.0
    backoff: Backoff = Backoff()
    stop_signal: int = 15
    stop_timeout_s: float = 10.0
    stop_scope: StopScope = StopScope.GROUP


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSpec:
    """The `[daemon]` and `[control]` tables."""

    runtime_dir: str
    state_dir: str
    log_dir: str
    log_level: str = "info"
    log_format: str = "text"
    shutdown_timeout_s: float | None = None
    max_concurrent_starts: int | None = None
    socket: str
    socket_mode: int = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A whole configuration.  `programs` keeps the order of the file; its keys are instance names."""

    daemon: DaemonSpec
    programs: dict[str, ProgramSpec] = field(default_factory=dict)
    files: tuple[str, ...] = ()
