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
from procd.errors import SpawnError
from procd.process.tree import Snapshot

if TYPE_CHECKING:
    from procd.config.delegation import Delegation
    from procd.config.spec import CgroupLimits

#: Where procd itself is, and above the programs; the names of programs end in another way.
OWN, PROGRAMS, SUFFIX = "procd.self", "procd.programs", ".program"
#: The time over which a share of CPUs is measured (cpu.max): the kernel's default.
CPU_PERIOD_US = 100_000


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

    def leave(self, name: str) -> None:
        """Remove the cgroup of a program that is empty; one that is not stays."""
        if self._ours is not None:
            with contextlib.suppress(OSError):
                Path(f"{self._ours.directory}/{PROGRAMS}/{name}{SUFFIX}").rmdir()

    def path(self, name: str, limits: CgroupLimits | None) -> str | None:
        """Say where the processes of a program are; None for one without a cgroup of its own."""
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
            self._move_ours(base)
            wanted = " ".join(f"+{name}" for name in sorted(self._ours.controllers & {"cpu", "memory", "pids"}))
            if wanted:
                for place in (base, f"{base}/{PROGRAMS}"):
                    _write(f"{place}/cgroup.subtree_control", wanted)
            self._is_prepared = True
        return f"{base}/{PROGRAMS}"

    @staticmethod
    def _move_ours(base: str) -> None:
        """Leave nothing of ours where controllers are handed down: not us, and not what we have started."""
        there = set(Path(f"{base}/cgroup.procs").read_text().split())
        _write(f"{base}/{OWN}/cgroup.procs", str(os.getpid()))
        for member in Snapshot.take().descendants(os.getpid()):
            if str(member.pid) in there:
                try:
                    _write(f"{base}/{OWN}/cgroup.procs", str(member.pid))
                except ProcessLookupError:
                    continue


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
