"""What the configuration says, as frozen values: the contract between `config` and everything below it.

Owns the shape of a loaded configuration.  Everything in here is resolved: durations are seconds, sizes are
bytes, signals are numbers, paths are absolute, `${NAME}` is expanded, users are numbers.  One `ProgramSpec`
is one instance: `instances = 3` in the file makes three of them.  Must not know TOML, files or the system.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct, field

from procd.config.access import Rule  # noqa: TC001 - msgspec looks at it (`snapshot`)


class Restart(Enum):
    """When an ended program is started again (key `restart`)."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Output(Enum):
    """Where a standard stream of a program goes (keys `stdout`, `stderr`)."""

    LOG = "log"
    NULL = "null"
    JOURNAL = "journal"
    STDOUT = "stdout"  # stderr only: wherever stdout goes


class Input(Enum):
    """What a program's stdin is (key `stdin`)."""

    NULL = "null"
    PIPE = "pipe"


class StopScope(Enum):
    """Who gets the first stop signal (key `stop_scope`)."""

    GROUP = "group"
    PROCESS = "process"


class Backoff(Struct, frozen=True):
    """Delays between restarts: `initial_s * factor ** n`, at most `max_s`, give or take `jitter` (a share)."""

    initial_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.1


class Credentials(Struct, frozen=True):
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


class LogFormat(Enum):
    """How a line of output stands in its log (key `log.format`)."""

    RAW = "raw"
    TIMESTAMP = "timestamp"
    JSON = "json"


class OnError(Enum):
    """What happens to output while its log cannot be written (key `log.on_error`)."""

    DROP = "drop"
    BLOCK = "block"


class LogSpec(Struct, frozen=True, gc=False):
    """Where the output of one stream is kept, and how.

    The file is rotated when it has `max_size` bytes (None: never for its size) or its oldest byte is
    `max_age_s` old (None: never for its age); `keep` old ones stay.
    """

    path: str
    max_size: int | None = 50 << 20
    keep: int = 10
    max_age_s: float | None = None
    compress: bool = False
    format: LogFormat = LogFormat.RAW
    on_error: OnError = OnError.DROP


class Kind(Enum):
    """What a program is (key `type`)."""

    SERVICE = "service"
    ONESHOT = "oneshot"


class Condition(Enum):
    """What a dependency has to be before its dependent is started (key `depends_on`).

    STARTED: it was spawned.  READY: a service is ready, a oneshot has succeeded.  HEALTHY: it is ready and its
    health check passes.  COMPLETED: it has ended with success.
    """

    STARTED = "started"
    READY = "ready"
    HEALTHY = "healthy"
    COMPLETED = "completed"


class Dependency(Struct, frozen=True):
    """One entry of `depends_on`: the name of a program in the file; all its instances have to meet it."""

    program: str
    condition: Condition


class CheckKind(Enum):
    """How a check asks (keys of the tables `ready` and `health`)."""

    NOTIFY = "notify"
    FD = "fd"
    TCP = "tcp"
    HTTP = "http"
    COMMAND = "command"
    LOG = "log"


class Check(Struct, frozen=True, kw_only=True):
    """One way to ask a program how it is; which fields count depends on `kind`.

    `fd`: the child's descriptor on which a newline means ready.  `address`: `host:port` (TCP).  `url` and
    `statuses` (HTTP; no status given: 200 to 399).  `command`: argv, run as the program's user, exit 0 means
    yes.  `pattern`: a regular expression on lines of the log.  `interval_s` between two tries, `timeout_s` of
    one try.
    """

    kind: CheckKind
    fd: int = -1
    address: str = ""
    url: str = ""
    statuses: frozenset[int] = frozenset()
    command: tuple[str, ...] = ()
    pattern: str = ""
    interval_s: float = 1.0
    timeout_s: float = 5.0


class Health(Struct, frozen=True, kw_only=True):
    """The table `health`: `failures` checks in a row that fail make it unhealthy.

    With NOTIFY there is no asking: the program has to send WATCHDOG=1 at least every `watchdog_s`.
    """

    check: Check
    failures: int = 3
    restart: bool = True
    watchdog_s: float = 0.0


class StartLimit(Struct, frozen=True):
    """More than `count` failed starts `within_s` seconds are too many (key `start_limit`)."""

    count: int
    within_s: float


class StopStep(Struct, frozen=True):
    """A signal, and how long it may take (key `stop`; `stop_signal` and `stop_timeout` are one step)."""

    signal: int
    timeout_s: float


class Hooks(Struct, frozen=True, kw_only=True):
    """Commands around a life, each an argv or empty; they run as the program's user (key `hooks`)."""

    before_start: tuple[str, ...] = ()
    after_ready: tuple[str, ...] = ()
    before_stop: tuple[str, ...] = ()
    after_stop: tuple[str, ...] = ()
    timeout_s: float = 30.0


class ResourceLimit(Struct, frozen=True):
    """One entry of `limits`: `resource` is a `resource.RLIMIT_*` number, -1 means unlimited (getrlimit(2))."""

    resource: int
    soft: int
    hard: int


class CgroupLimits(Struct, frozen=True, kw_only=True):
    """The table `cgroup`, as cgroup v2 writes it: bytes, CPUs (1.5 is one and a half), processes."""

    memory_max: int | None = None
    cpu_max: float | None = None
    pids_max: int | None = None


class Scheduling(Struct, frozen=True, kw_only=True):
    """How the kernel treats a program: nice, I/O, CPUs, OOM killer; None: as procd itself is treated."""

    nice: int | None = None
    io_class: int | None = None
    io_priority: int | None = None
    cpu_affinity: frozenset[int] | None = None
    oom_score_adj: int | None = None


class SocketSpec(Struct, frozen=True, kw_only=True):
    """One entry of `[sockets]`: `host` and `port`, or `path`; opened once by procd, passed by LISTEN_FDS."""

    name: str
    host: str = ""
    port: int = 0
    path: str = ""
    backlog: int = 1024
    mode: int = 0o600
    uid: int | None = None
    gid: int | None = None
    reuse_port: bool = False


class Success(Struct, frozen=True):
    """Ends that are not failures: exit codes, and signals by number."""

    codes: frozenset[int] = frozenset({0})
    signals: frozenset[int] = frozenset()


class ProgramSpec(Struct, frozen=True, kw_only=True, gc=False):
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
    #: Entered with the rights of its user only: who named it may be no more than that.
    directory_as_user: bool = False
    umask: int = 0o022
    environment: tuple[tuple[str, str], ...] = ()
    inherit: bool | frozenset[str] = True
    credentials: Credentials | None = None
    stdin: Input = Input.NULL
    #: A terminal is in place of the three pipes; then `stdin` is PIPE, and stderr goes where stdout goes.
    terminal: bool = False
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
    kind: Kind = Kind.SERVICE
    #: The steps of `stop`; empty: the one step of `stop_signal` and `stop_timeout_s`.
    stop_steps: tuple[StopStep, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    ready: Check | None = None
    start_timeout_s: float = 60.0
    health: Health | None = None
    start_limit: StartLimit | None = None
    schedule: str | None = None
    max_runtime_s: float | None = None
    hooks: Hooks | None = None
    sockets: tuple[str, ...] = ()
    essential: bool = False
    limits: tuple[ResourceLimit, ...] = ()
    scheduling: Scheduling | None = None
    no_new_privileges: bool = False
    #: By number (capabilities(7)); None: not touched.
    capabilities: frozenset[int] | None = None
    cgroup: CgroupLimits | None = None


class DaemonSpec(Struct, frozen=True, kw_only=True):
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
    #: None: that of procd.
    socket_group: int | None = None
    allow: tuple[Rule, ...] = ()


class Configuration(Struct, frozen=True, kw_only=True):
    """A whole configuration.  `programs` keeps the order of the file; its keys are instance names."""

    daemon: DaemonSpec
    programs: dict[str, ProgramSpec] = field(default_factory=dict)
    sockets: dict[str, SocketSpec] = field(default_factory=dict)
    files: tuple[str, ...] = ()
