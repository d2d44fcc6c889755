"""Which keys a program has: their types, bounds, defaults and words.

Owns the one table of these keys.  A key is one entry here; its description is what `procd schema` prints and
what docs/reference/configuration.md says (a test compares them).  To add a key: an entry here, a field of
`procd.config.spec`, and a line where the program is resolved.  Must not know files or the system: what can only
be judged on the machine, or by comparing keys, is judged when it is resolved.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, field

from procd.config.table import Table, default, joined_keys, key
from procd.config.values import Duration, LimitBounds, Mode, Signal, Size, Span, Step

MOST_INSTANCES = 10_000

Command: TypeAlias = str | tuple[str, ...] | None
Status: TypeAlias = Annotated[int, Meta(ge=100, le=599)]


class BackoffTable(Table, frozen=True):
    """The table `backoff`."""

    initial: Annotated[
        Duration, key("the delay before the first restart after a failed start", in_place=True)
    ] = default(Duration(0.1))
    factor: Annotated[
        float,
        Meta(ge=1.0, le=100.0),
        key("each further delay is this many times the one before", in_place=True),
    ] = 2.0
    max: Annotated[Duration, key("no delay is longer", in_place=True)] = default(Duration(30.0))
    jitter: Annotated[
        float,
        Meta(ge=0.0, le=1.0),
        key("each delay is varied by up to this share, so that programs do not restart in step", in_place=True),
    ] = 0.1


class LogTable(Table, frozen=True):
    """The table `log`."""

    path: Annotated[
        str | None,
        key(
            "where output is appended, else `${log_dir}/NAME.log`; stderr of its own goes to `NAME.err.log`",
            in_place=True,
        ),
    ] = None
    max_size: Annotated[
        Size,
        key("the file is rotated, at the end of a line, when it has so many bytes; 0: never", in_place=True),
    ] = default(Size(50 << 20))
    keep: Annotated[
        int, Meta(ge=0, le=10_000), key("so many old files stay: `PATH.1`, the newest, and on", in_place=True)
    ] = 10
    max_age: Annotated[
        Span | None, key("the file is also rotated when its first line is so old", in_place=True)
    ] = None
    compress: Annotated[bool, key("old files are compressed with gzip: `PATH.1.gz`", in_place=True)] = False
    format: Annotated[
        Literal["raw", "timestamp", "json"],
        key(
            "as the program wrote it; with the time before each line; or one JSON object for each line",
            in_place=True,
        ),
    ] = "raw"
    on_error: Annotated[
        Literal["drop", "block"],
        key(
            "while the log cannot be written: drop what comes, count it and say so in the log; or let it wait",
            in_place=True,
        ),
    ] = "drop"


class StartLimitTable(Table, frozen=True):
    """The table `start_limit`."""

    count: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)] | None,
        key("more failed starts than this, within the time of `within`, and procd gives up", in_place=True),
    ] = None
    within: Annotated[Span | None, key("how long a failed start counts", in_place=True)] = None


class ReadyTable(Table, frozen=True):
    """The table `ready`: exactly one way of knowing."""

    is_joined = False

    notify: Annotated[bool, key("it sends `READY=1` (sd_notify)", in_place=True)] = False
    fd: Annotated[
        Annotated[int, Meta(ge=3, le=1023)] | None,
        key("it writes a newline to this descriptor, which procd opens for it", in_place=True),
    ] = None
    tcp: Annotated[str | None, key("something listens at this `ADDRESS:PORT`", in_place=True)] = None
    http: Annotated[str | None, key("a GET of this `http://` URL is answered well", in_place=True)] = None
    status: Annotated[
        Status | tuple[Status, ...] | None,
        key("the statuses that are good answers, else 200 to 399", in_place=True),
    ] = None
    command: Annotated[
        str | tuple[str, ...] | None,
        key("this command, run as the program's user, exits with 0", in_place=True),
    ] = None
    log: Annotated[str | None, key("a line of its log matches this regular expression", in_place=True)] = None
    interval: Annotated[
        Span, key("the pause between two tries of `tcp`, `http` or `command`", in_place=True)
    ] = default(Span(1.0))
    timeout: Annotated[Span, key("how long one such try may take", in_place=True)] = default(Span(5.0))


class HealthTable(Table, frozen=True):
    """The table `health`: exactly one way of knowing, again and again."""

    is_joined = False

    notify: Annotated[bool, key("it sends `WATCHDOG=1` (sd_notify); needs `watchdog`", in_place=True)] = False
    watchdog: Annotated[Span | None, key("with `notify`: the longest time between two of them")] = None
    tcp: Annotated[str | None, key("something listens at this `ADDRESS:PORT`", in_place=True)] = None
    http: Annotated[str | None, key("a GET of this `http://` URL is answered well", in_place=True)] = None
    status: Annotated[
        Status | tuple[Status, ...] | None,
        key("the statuses that are good answers, else 200 to 399", in_place=True),
    ] = None
    command: Annotated[
        str | tuple[str, ...] | None,
        key("this command, run as the program's user, exits with 0", in_place=True),
    ] = None
    interval: Annotated[Span, key("the pause between two checks", in_place=True)] = default(Span(10.0))
    timeout: Annotated[Span, key("how long one check may take", in_place=True)] = default(Span(5.0))
    failures: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        key("so many failed checks in a row make it unhealthy", in_place=True),
    ] = 3
    action: Annotated[
        Literal["restart", "none"], key("what procd does with an unhealthy program", in_place=True)
    ] = "restart"


class HooksTable(Table, frozen=True):
    """The table `hooks`."""

    before_start: Annotated[
        Command, key("run before each start; if it fails, that is a failed start", in_place=True)
    ] = None
    after_ready: Annotated[Command, key("run when it is ready", in_place=True)] = None
    before_stop: Annotated[Command, key("run before the first signal of a stop", in_place=True)] = None
    after_stop: Annotated[Command, key("run when nothing of it is left", in_place=True)] = None
    timeout: Annotated[Span, key("how long each of them may take", in_place=True)] = default(Span(30.0))


#: PID_MAX_LIMIT of 64-bit kernels (proc(5)).
MOST_PROCESSES = 1 << 22


class CgroupTable(Table, frozen=True):
    """The table `cgroup`."""

    memory_max: Annotated[Size | None, key("memory of all its processes together")] = None
    cpu_max: Annotated[
        Annotated[float, Meta(ge=0.001, le=10_000.0)] | None,
        key("CPUs of all its processes together; 1.5 is one and a half"),
    ] = None
    pids_max: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_PROCESSES)] | None, key("how many processes it may have")
    ] = None


class ProgramTable(Table, frozen=True):
    """A table `[programs.NAME]`, and `[defaults]`."""

    command: Annotated[
        str | tuple[str, ...] | None,
        key("what is run: an array of words, or a string that is split as a shell splits words"),
    ] = None
    shell: Annotated[
        bool, key("run the string `command` with `/bin/sh -c`; `${…}` in it is left to the shell")
    ] = False
    description: Annotated[str, key("words for people", in_place=True)] = ""
    groups: Annotated[
        tuple[str, ...], key("labels; `procctl` selects the programs of a label with `LABEL:`", in_place=True)
    ] = ()
    autostart: Annotated[bool, key("start with procd", in_place=True)] = True
    instances: Annotated[
        int,
        Meta(ge=1, le=MOST_INSTANCES),
        key("how many to run; more than one are called `NAME@0`, `NAME@1`, …, each with its `PROCD_INSTANCE`"),
    ] = 1
    type: Annotated[
        Literal["service", "oneshot"],
        key("`service` is meant to run on; `oneshot` is done when it exits with success"),
    ] = "service"
    directory: Annotated[str, key("the working directory")] = "/"
    umask: Annotated[Mode, key("the file mode creation mask, an octal number in quotes")] = default(Mode(0o022))
    environment: Annotated[
        dict[str, str], key("variables to set; a value may use the variables that stand before it")
    ] = field(default_factory=dict)
    environment_files: Annotated[
        tuple[str, ...],
        key(
            "files of `NAME=value` lines, read before `environment`; a path that begins with `-` may be missing"
        ),
    ] = ()
    inherit_environment: Annotated[
        bool | tuple[str, ...],
        key("which of procd's own variables it gets: all, none, or these; never those meant for procd"),
    ] = True
    user: Annotated[str | int | None, key("the user that the program runs as: a name or a number")] = None
    group: Annotated[str | int | None, key("its group; without it, the user's primary group")] = None
    supplementary_groups: Annotated[
        tuple[str | int, ...] | None,
        key("its other groups, exactly; without it, the user's groups in the group database"),
    ] = None
    stdin: Annotated[Literal["null", "pipe"], key("`null` is /dev/null, `pipe` is for `procctl send`")] = "null"
    terminal: Annotated[bool, key("a terminal in place of stdin, stdout and stderr, for `procctl attach`")] = (
        False
    )
    stdout: Annotated[
        Literal["log", "null", "journal"],
        key("where standard output goes: to its log, nowhere, or to the system's journal"),
    ] = "log"
    stderr: Annotated[
        Literal["log", "null", "journal", "stdout"],
        key("where standard error goes; `stdout` is wherever standard output goes"),
    ] = "stdout"
    log: LogTable = default(LogTable())
    restart: Annotated[
        Literal["always", "on-failure", "never"],
        key("when to start it again after it has ended", in_place=True),
    ] = "always"
    success_exit_status: Annotated[
        tuple[int | str, ...], key("exit codes, and names of signals, that are not failures", in_place=True)
    ] = (0,)
    min_uptime: Annotated[
        Duration, key("ending sooner is a failed start; running so long is a successful one", in_place=True)
    ] = default(Duration(1.0))
    backoff: BackoffTable = default(BackoffTable())
    start_limit: StartLimitTable = default(StartLimitTable())
    ready: ReadyTable = default(ReadyTable())
    start_timeout: Annotated[
        Span, key("with `ready`: not being ready by then is a failed start", in_place=True)
    ] = default(Span(60.0))
    health: HealthTable = default(HealthTable())
    depends_on: Annotated[
        tuple[str, ...] | dict[str, Literal["started", "ready", "healthy", "completed"]],
        key("programs to wait for before each start: names, or a table of name = condition", in_place=True),
    ] = ()
    stop_signal: Annotated[Signal, key("the signal that asks the program to stop", in_place=True)] = default(
        Signal(15)
    )
    stop_timeout: Annotated[
        Duration,
        key("how long it may take to stop; then SIGKILL goes to everything that is left", in_place=True),
    ] = default(Duration(10.0))
    stop_scope: Annotated[
        Literal["group", "process"],
        key(
            "who gets the stop signal: the process group of the program, or only its first process",
            in_place=True,
        ),
    ] = "group"
    stop: Annotated[
        tuple[Step, ...],
        key(
            "signals, each with the time that it has, in place of `stop_signal` and `stop_timeout`",
            in_place=True,
        ),
    ] = ()
    schedule: Annotated[
        str | None,
        key(
            "a cron expression in local time: when a oneshot is started, instead of with procd",
            in_place=True,
        ),
    ] = None
    max_runtime: Annotated[
        Span | None,
        key("running longer, a service is restarted and a oneshot stopped as failed", in_place=True),
    ] = None
    limits: Annotated[
        dict[str, LimitBounds],
        key('resource limits by name: `N`, `"unlimited"` or `[SOFT, HARD]`; bytes also as `"1GiB"`'),
    ] = field(default_factory=dict)
    nice: Annotated[
        Annotated[int, Meta(ge=-20, le=19)] | None, key("the CPU priority, from -20 (high) to 19 (low)")
    ] = None
    io_class: Annotated[
        Literal["real-time", "best-effort", "idle"] | None, key("how its disk accesses are scheduled")
    ] = None
    io_priority: Annotated[
        Annotated[int, Meta(ge=0, le=7)] | None,
        key("the priority within `io_class`, from 0 (high) to 7 (low); without it, 4"),
    ] = None
    cpu_affinity: Annotated[
        tuple[int | str, ...] | None, key('the CPUs that it may run on: numbers, and ranges such as `"0-3"`')
    ] = None
    oom_score_adj: Annotated[
        Annotated[int, Meta(ge=-1000, le=1000)] | None,
        key("how soon it is killed when memory runs out, from -1000 (never) to 1000 (first)"),
    ] = None
    no_new_privileges: Annotated[
        bool, key("whatever it executes, it gets no more rights: setuid programs run as itself")
    ] = False
    capabilities: Annotated[
        tuple[str, ...] | None, key("exactly these it keeps, even if it runs as another user; `[]` is none")
    ] = None
    cgroup: CgroupTable = default(CgroupTable())
    hooks: HooksTable = default(HooksTable())
    sockets: Annotated[
        tuple[str, ...], key("names from `[sockets]`, passed as descriptors 3, 4, … (sd_listen_fds)")
    ] = ()
    essential: Annotated[
        bool, key("when it has ended for good, procd stops everything and exits with its status", in_place=True)
    ] = False


MERGED = joined_keys(ProgramTable)
"""Keys of a program that are tables: what a program says is added to what [defaults] say, entry by entry."""
