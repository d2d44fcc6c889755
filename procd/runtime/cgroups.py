"""A cgroup for each program that has limits of its own (cgroups(7), version 2).

Owns the directories below the delegated one: procd itself moves into a leaf, because a cgroup that hands
controllers down must not hold processes; each program gets one for all its lives.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from procd.config import delegation
from procd.config.delegation import OWN
from procd.errors import SpawnError
from procd.process.tree import Snapshot

if TYPE_CHECKING:
    from procd.config.delegation import Delegation
    from procd.config.spec import CgroupLimits

#: Above the programs; their names end in another way.
PROGRAMS, SUFFIX = "procd.programs", ".program"
#: The time over which a share of CPUs is measured (cpu.max): the kernel's default.
CPU_PERIOD_US = 100_000
_CONTROLLERS = frozenset({"cpu", "memory", "pids"})


class Cgroups:
    """The cgroups of programs; nothing is made before the first program needs one."""

    def __init__(self, ours: Delegation | None = None) -> None:
        self._ours = ours
        self._is_prepared = False

    def enter(self, name: str, limits: CgroupLimits) -> str:
        """Make the cgroup of a program, with its limits; its directory.

        Raises SpawnError("cgroup") where that is not possible.
        """
        try:
            base = self._prepare()
            directory = f"{base}/{name}{SUFFIX}"
            with contextlib.suppress(FileExistsError):
                Path(directory).mkdir()
            for file, value in settings(limits).items():
                _write(f"{directory}/{file}", value)
        except OSError as error:
            raise SpawnError("cgroup", error.errno or 0, error.filename or name) from error
        return directory

    def withdraw(self) -> None:
        """Hand no controllers down, so that procd can be started again in what is its own.

        systemd before 254 puts the first process of a unit where that is not allowed then (cgroups(7)).
        Whoever comes enters again (`enter`), and limits hold from then on.
        """
        self._ours = self._ours or delegation.find()
        if self._ours is None or not Path(self._ours.directory, PROGRAMS).exists():
            return
        self._is_prepared = False
        names = " ".join(f"-{name}" for name in sorted(self._ours.controllers & _CONTROLLERS))
        for place in (f"{self._ours.directory}/{PROGRAMS}", self._ours.directory) if names else ():
            with contextlib.suppress(OSError):
                _write(f"{place}/cgroup.subtree_control", names)

    def leave(self, name: str) -> None:
        """Remove the cgroup of a program that is empty; one that is not stays."""
        if self._ours is not None:
            with contextlib.suppress(OSError):
                Path(f"{self._ours.directory}/{PROGRAMS}/{name}{SUFFIX}").rmdir()

    def path(self, name: str, limits: CgroupLimits | None) -> str | None:
        """Say where the processes of a program are; None for one without a cgroup of its own."""
        self._ours = self._ours or (None if limits is None else delegation.find())
        if limits is None or self._ours is None:
            return None
        return f"{self._ours.directory}/{PROGRAMS}/{name}{SUFFIX}"

    def _prepare(self) -> str:
        self._ours = self._ours or delegation.find()
        if self._ours is None:
            raise FileNotFoundError(2, "no cgroup v2 is delegated", "cgroup")
        base = self._ours.directory
        if not self._is_prepared:
            for part in (OWN, PROGRAMS):
                with contextlib.suppress(FileExistsError):
                    Path(base, part).mkdir()
            self._move_ours(base, alone=self._ours.alone)
            wanted = " ".join(f"+{name}" for name in sorted(self._ours.controllers & _CONTROLLERS))
            if wanted:
                for place in (base, f"{base}/{PROGRAMS}"):
                    _write(f"{place}/cgroup.subtree_control", wanted)
            self._is_prepared = True
        return f"{base}/{PROGRAMS}"

    @staticmethod
    def _move_ours(base: str, *, alone: bool) -> None:
        """Leave nothing of ours where controllers are handed down: not us, the keeper, or what was started."""
        there = {int(line) for line in Path(f"{base}/cgroup.procs").read_text().split()}
        if not alone:
            family = {member.pid for member in Snapshot.take().descendants(os.getppid())}
            there &= family | {os.getpid(), os.getppid()}
        for pid in {os.getpid(), *there}:
            with contextlib.suppress(ProcessLookupError):
                _write(f"{base}/{OWN}/cgroup.procs", str(pid))


def settings(limits: CgroupLimits) -> dict[str, str]:
    """Give the files of a cgroup, and what is written to them, for some limits."""
    files = {}
    if limits.memory_max is not None:
        files["memory.max"] = str(limits.memory_max)
    if limits.cpu_max is not None:
        files["cpu.max"] = f"{round(limits.cpu_max * CPU_PERIOD_US)} {CPU_PERIOD_US}"
    if limits.pids_max is not None:
        files["pids.max"] = str(limits.pids_max)
    return files


def _write(path: str, content: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
