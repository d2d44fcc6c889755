"""Who belongs to a program: its descendants, also those that left its group, its session and their parent.

Owns the reading of /proc for that.  One `Snapshot` serves any number of programs, because to stop a thousand
programs must not take a thousand walks through /proc.

A process belongs to a life if it is in its process group or session, if it carries the life's cookie in its
environment, or if its parent belongs to it.  Zombies do not count: there is nothing left of them to stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

COOKIE_VARIABLE = "PROCD_COOKIE"

_ZOMBIE_STATES = frozenset({b"Z", b"X"})


@dataclass(frozen=True, slots=True)
class Member:
    """A process that was found, with what proves later that it is still the same: its start time."""

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int
    name: str

    def open(self) -> int | None:
        """Open a pidfd that certainly means this process; None if it has gone, or its number is another's."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # The number cannot be given away while it is held here, so what stands there now is what was opened.
        now = read_member(self.pid)
        if now is None or now.start_ticks != self.start_ticks:
            os.close(pidfd)
            return None
        return pidfd

    def signal(self, number: int) -> bool:
        """Signal exactly this process; return whether it was there."""
        pidfd = self.open()
        if pidfd is None:
            return False
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
                return True
        finally:
            os.close(pidfd)
        return False


def read_member(pid: int) -> Member | None:
    """Read /proc/PID/stat (proc(5)); None for a process that is gone, or a zombie."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        line = os.read(fd, 1024)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    end = line.rfind(b")")
    fields = line[end + 2 :].split(None, 20)
    if fields[0] in _ZOMBIE_STATES:
        return None
    name = line[line.find(b"(") + 1 : end].decode(errors="backslashreplace")
    return Member(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), name)


class Snapshot:
    """All processes at one moment, but for those that were to be ignored."""

    __slots__ = ("_by_cookie", "_children", "_leaders", "_members")

    def __init__(self, members: dict[int, Member]) -> None:
        self._members = members
        self._children: dict[int, list[int]] = {}
        #: Who is in the process group, or the session, with this number.
        self._leaders: dict[int, list[int]] = {}
        for pid, member in members.items():
            self._children.setdefault(member.parent, []).append(pid)
            for leader in {member.group, member.session}:
                self._leaders.setdefault(leader, []).append(pid)
        self._by_cookie: dict[str, list[int]] | None = None

    @classmethod
    def take(cls, ignore: AbstractSet[int] = frozenset()) -> Snapshot:
        """Walk through /proc once; `ignore` spares the reading of processes that are known to be somebody's."""
        members = {}
        for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted, and there are thousands
            if entry.isdigit() and (pid := int(entry)) not in ignore:
                member = read_member(pid)
                if member is not None:
                    members[pid] = member
        return cls(members)

    def members(self, main_pid: int, cookie: str) -> list[Member]:
        """Everything that belongs to the life whose main process had `main_pid`; parents before children."""
        queue = [*self._leaders.get(main_pid, ()), *self._cookies().get(cookie, ())]
        found: dict[int, Member] = {}
        while queue:
            pid = queue.pop()
            if pid not in found:
                found[pid] = self._members[pid]
                queue += self._children.get(pid, ())
        return sorted(found.values(), key=lambda member: (member.start_ticks, member.pid))

    def _cookies(self) -> dict[str, list[int]]:
        """Read once who carries which cookie."""
        if self._by_cookie is None:
            self._by_cookie = {}
            for pid in self._members:
                cookie = read_cookie(pid)
                if cookie:
                    self._by_cookie.setdefault(cookie, []).append(pid)
        return self._by_cookie


def read_cookie(pid: int) -> str | None:
    """Read the life's cookie in the environment that a process was executed with; None if it has none."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    key = f"{COOKIE_VARIABLE}=".encode()
    for variable in environment.split(b"\0"):
        if variable.startswith(key):
            return variable[len(key) :].decode(errors="replace")
    return None
