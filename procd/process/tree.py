"""The processes of the system at one moment, and which of them belong together.

Owns the look at /proc, and the rules by which a process is found to be part of a program.  Must not know why
somebody asks, and signals nobody.

One look serves any number of questions: stopping a thousand programs must not mean a thousand walks through
/proc.  What is found may be gone, and its PID taken by another, when it is acted on: so Member.open gives a
descriptor for the process that was seen, or nothing.

A process belongs to a program, whose main process is or was `pid`,
  * that it is, or whose session or process group it is in (unless it carries another program's cookie, or
    descends from another's main process: then the number has been recycled);
  * whose cookie is in its environment, which setsid and a double fork do not change;
  * whose cgroup it is in, where there is one;
  * or if its parent does.

In the middle of an exec(2) a process has no environment to be read, and so no cookie: who finds nothing has to
ask whether the look was clear, and to look again if it was not.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

#: The variable whose value tells which life of which program a process belongs to.
COOKIE_VARIABLE = "PROCD_COOKIE"

_COOKIE_ENTRY = b"\0" + COOKIE_VARIABLE.encode() + b"="
_DEAD = frozenset(b"ZXx")
_CHUNK = 65536


#: A PID and a start time: a number that was used again has another.
Identity = tuple[int, int]


class Member(NamedTuple):
    """A process as it was seen; `start_time` is in clock ticks since boot."""

    pid: int
    parent: int
    group: int
    session: int
    start_time: int
    name: str
    alive: bool

    @property
    def identity(self) -> Identity:
        """What stays the same as long as the process lives; its parent and its name may change."""
        return self.pid, self.start_time

    def open(self) -> int | None:
        """A pidfd (pidfd_open(2)) for just this process, to be closed by the caller; None when it is gone."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except (ProcessLookupError, FileNotFoundError):
            return None
        # The number could have changed hands before the descriptor was opened, but not since.
        if start_time(self.pid) != self.start_time:
            os.close(pidfd)
            return None
        return pidfd


class Snapshot:
    """All processes at one moment, indexed for questions.

    `ignore` are main processes of others: they and what descends from them belong to nobody else.  `kin` belong
    to nobody either, but what descends from them may.
    """

    __slots__ = (
        "_by_group", "_by_session", "_carriers", "_children", "_clear", "_cookies", "_executing", "_parents",
        "_theirs", "processes",
    )  # fmt: skip

    def __init__(
        self, processes: Iterable[Member], ignore: Collection[int] = (), kin: Collection[int] = ()
    ) -> None:
        self.processes = {member.pid: member for member in processes}
        self._children: dict[int, list[Member]] = {}
        self._by_session: dict[int, list[Member]] = {}
        self._by_group: dict[int, list[Member]] = {}
        for member in self.processes.values():
            self._children.setdefault(member.parent, []).append(member)
            self._by_session.setdefault(member.session, []).append(member)
            self._by_group.setdefault(member.group, []).append(member)
        self._cookies: dict[int, str | None] = {}
        self._executing: set[int] = set()
        self._clear: bool | None = None
        self._carriers: dict[str, list[Member]] | None = None
        # We are nobody's member either, whatever group or cookie we may share.
        self._parents = (os.getpid(), *kin)
        self._theirs = {*self._parents, *self._closure(ignore, set())}

    @classmethod
    def take(cls, ignore: Collection[int] = (), kin: Collection[int] = ()) -> Snapshot:
        """Look at /proc: some 20 µs for each process, on an idle machine."""
        return cls(_all_processes(), ignore, kin)

    def descendants(self, pid: int) -> list[Member]:
        """What is alive of everything that descends from a process; parents before their children."""
        return self._in_order(self._closure({pid}, set()) - {pid})

    def members(
        self, pid: int, cookie: str | None = None, cgroup: str | None = None, also: Collection[Identity] = ()
    ) -> list[Member]:
        """What is alive of the program whose main process is or was `pid`; parents before their children.

        `also` are processes that are known to be of it, from an earlier look; for them, too, children count.
        """
        known = {identity[0] for identity in also if self._is_still(identity)}
        return self._in_order(self._closure(known | self._found(pid, cookie, cgroup), self._theirs))

    def _is_still(self, identity: Identity) -> bool:
        now = self.processes.get(identity[0])
        return now is not None and now.identity == identity

    def is_clear(self) -> bool:
        """Whether nobody can have been overlooked, so that a program of which nothing was found is empty.

        False while an orphan, whose parent we or our kin are, is in the middle of an exec(2), and when one has
        come since the look: forked after the list was read, by a process that has ended since.
        """
        if self._clear is None:
            self._by_cookie()
            parents = {self.processes[pid].parent for pid in self._executing}
            self._clear = not any(
                parent in self._parents or parent not in self.processes for parent in parents
            ) and all((direct_children(parent) or set()) <= self.processes.keys() for parent in self._parents)
        return self._clear

    def _found(self, pid: int, cookie: str | None, cgroup: str | None) -> set[int]:
        """Those that are members by themselves, not only by a parent."""
        main = self.processes.get(pid)
        numbered = [*self._by_session.get(pid, ()), *self._by_group.get(pid, ()), *([main] if main else ())]
        found = {
            member.pid
            for member in numbered
            if cookie is None or member.pid in self._theirs or self._cookie(member) in {None, cookie}
        }
        if cookie is not None:
            found.update(member.pid for member in self._by_cookie().get(cookie, ()))
        if cgroup is not None:
            found.update(number for number in cgroup_processes(cgroup) if number in self.processes)
        return found - self._theirs

    def _closure(self, pids: Iterable[int], without: set[int]) -> set[int]:
        """The processes and all their descendants, but for those `without` and what is below them."""
        reached: set[int] = set()
        waiting = [pid for pid in pids if pid not in without]
        while waiting:
            pid = waiting.pop()
            if pid not in reached:
                reached.add(pid)
                waiting.extend(child.pid for child in self._children.get(pid, ()) if child.pid not in without)
        return reached

    def _in_order(self, pids: set[int]) -> list[Member]:
        """The living among them, each after its parent."""
        level = [self.processes[pid] for pid in pids if pid in self.processes]
        level = [member for member in level if member.parent not in pids]
        ordered: list[Member] = []
        while level:
            ordered += level
            level = [
                child for member in level for child in self._children.get(member.pid, ()) if child.pid in pids
            ]
        return [member for member in ordered if member.alive]

    def carriers(self, cookies: Collection[str]) -> dict[str, list[int]]:
        """Who lives and carries one of these cookies."""
        known = self._by_cookie()
        return {cookie: [member.pid for member in known.get(cookie, ())] for cookie in cookies}

    def _by_cookie(self) -> dict[str, list[Member]]:
        """Who carries which cookie; read once, and only of those that may be somebody's."""
        if self._carriers is None:
            self._carriers = {}
            for member in self.processes.values():
                cookie = None if member.pid in self._theirs else self._cookie(member)
                if cookie is not None:
                    self._carriers.setdefault(cookie, []).append(member)
        return self._carriers

    def _cookie(self, member: Member) -> str | None:
        if member.pid not in self._cookies:
            # Kernel threads have no session, and the dead no environment.
            readable = member.alive and member.session != 0
            environment = _environment(member.pid) if readable else b""
            if environment is None:
                self._executing.add(member.pid)
            self._cookies[member.pid] = _cookie_in(environment or b"")
        return self._cookies[member.pid]


def direct_children(parent: int | None = None) -> set[int] | None:
    """Our children, zombies too; None where the kernel does not tell (CONFIG_PROC_CHILDREN, proc(5)).

    Those of another `parent` may be some too few, if it reaps meanwhile.

    A subreaper whose children are all known has no orphan, and so nothing is left of any life whose main
    process it has reaped: the topmost of what is left would be its child.  A Snapshot costs more to ask.
    proc(5) calls the file unreliable because entries may go while it is read; only our own reaping takes them
    out, and we do not reap while we read, and orphans are added at its end.
    """
    try:
        # We have one thread; children of another would stand in a file of their own.
        us = os.getpid() if parent is None else parent
        listed = _read(f"/proc/{us}/task/{us}/children")
    except FileNotFoundError:
        return None
    return {int(word) for word in listed.split()}


#: The field of /proc/PID/stat, counted from the one after the name.
_START_TIME = 19


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is none."""
    try:
        line = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(line[line.rindex(b")") + 2 :].split(b" ", 20)[_START_TIME])


def cookie_of(pid: int) -> str | None:
    """The cookie in the environment that a process was started with; None without, or if it is not readable."""
    return _cookie_in(_environment(pid) or b"")


def _environment(pid: int) -> bytes | None:
    """What a living process was started with; empty if it is not readable, None in the middle of an exec(2).

    Its memory is a new one then, in which neither the environment nor the arguments are written yet: for some
    100 µs, and longer where the program comes from a slow disk.
    """
    try:
        environment = _read(f"/proc/{pid}/environ")
        if environment:
            return environment
        # With arguments it is through, or has no environment.
        return _read(f"/proc/{pid}/environ") if _read(f"/proc/{pid}/cmdline") else None
    except OSError:
        return b""


def _cookie_in(environment: bytes) -> str | None:
    _, found, rest = (b"\0" + environment).partition(_COOKIE_ENTRY)
    return os.fsdecode(rest.partition(b"\0")[0]) if found else None


def cgroup_processes(directory: str) -> list[int]:
    """The processes in a cgroup (v2) and in the groups below it; none when it is gone."""
    found = []
    for place, _, files in os.walk(directory):
        if "cgroup.procs" in files:
            with contextlib.suppress(OSError):
                found += [int(line) for line in _read(f"{place}/cgroup.procs").split()]
    return found


def parse_stat(line: bytes) -> Member:
    """A line of /proc/PID/stat (proc(5)).  The name may hold anything, parentheses and spaces too."""
    opening, closing = line.index(b"("), line.rindex(b")")
    fields = line[closing + 2 :].split(b" ", 20)
    # The leader of a process can have ended while its other threads live; it is then shown as dead.
    alive = fields[0][0] not in _DEAD or int(fields[17]) > 1
    return Member(
        pid=int(line[:opening]),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_time=int(fields[_START_TIME]),
        name=os.fsdecode(line[opening + 1 : closing]),
        alive=alive,
    )


def _all_processes() -> Iterator[Member]:
    for entry in os.listdir("/proc"):  # noqa: PTH208 - ten thousand Path objects would double the cost
        if entry[0] in "123456789":
            member = look(int(entry))
            if member is not None:
                yield member


def look(pid: int) -> Member | None:
    """A process as it is now; None when there is none."""
    try:
        return parse_stat(_read(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError):
        return None  # it ended since it was listed


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(fd, _CHUNK)
        if len(content) == _CHUNK:
            while more := os.read(fd, _CHUNK):
                content += more
        return content
    finally:
        os.close(fd)
