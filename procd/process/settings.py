"""What a child is given besides its command: one frozen record.

Owns the shape and the defaults of it, and the check that the values belong together.  Must not know how they
are set: that is the spawn paths' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procd.config.spec import Credentials


@dataclass(frozen=True, slots=True)
class Limit:
    """One resource limit (getrlimit(2)): `resource` is a `resource.RLIMIT_*` number; -1 means unlimited."""

    resource: int
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Credentials, limits and surroundings of a child.  None always means: as the parent has it.

    `credentials`   user, group and the complete supplementary groups; always all three
    `directory`     where it starts; entered with the parent's rights, or, if these are refused, the child's
    `directory_as_user` entered with the child's rights only: it leads to no place that its user cannot get to
    `umask`         file creation mask
    `new_session`   setsid(2): a session and a process group of its own, whose number is its PID
    `limits`        rlimits; RLIMIT_NOFILE here is also how a raised limit of the parent is kept from the child
    `nice`          -20 to 19
    `io_class`      1 real-time, 2 best-effort, 3 idle (ioprio_set(2)); with `io_priority` 0 to 7
    `cpu_affinity`  the CPUs that it may run on
    `oom_score_adj` -1000 to 1000 (proc(5))
    `no_new_privileges` no setuid program or file capability will raise it again (prctl(2))
    `capabilities`  exactly what it keeps, by number: its bounding and ambient sets (capabilities(7))
    `cgroup`        a directory of cgroup v2 that it belongs to before its first instruction
    `pid_variable`  an environment variable that gets the child's own PID, as LISTEN_PID must (sd_listen_fds(3))
    `sole_thread`   a promise of the caller: no other thread of this interpreter makes system calls that depend
                    on its directory, umask or RLIMIT_NOFILE.  Then the parent takes on the child's for the
                    moment of a vfork, which spares a fork; see docs/reference/process.md.
    """

    credentials: Credentials | None = None
    directory: str | bytes | None = None
    directory_as_user: bool = False
    umask: int | None = None
    new_session: bool = True
    limits: tuple[Limit, ...] = ()
    nice: int | None = None
    io_class: int | None = None
    io_priority: int | None = None
    cpu_affinity: frozenset[int] | None = None
    oom_score_adj: int | None = None
    no_new_privileges: bool = False
    capabilities: frozenset[int] | None = None
    cgroup: str | None = None
    pid_variable: str | None = None
    sole_thread: bool = False


DEFAULT_SETTINGS = Settings()
