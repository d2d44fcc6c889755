"""The family of daemontools: a directory for each program, a script that becomes it, a process for each."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING, ClassVar

from rivals.rival import LOG_BYTES, LOG_FILES, Rival

if TYPE_CHECKING:
    from pathlib import Path


class Directories(Rival):
    """What the three have in common."""

    #: The command that reads a program's output, in the directory `log` of it.
    logger: ClassVar[str]

    @property
    def programs(self) -> Path:
        """The directory that is scanned."""
        return self.task.directory / "programs"

    def paths(self, program: str | None = None) -> list[str]:
        """The directory of one, or those of all."""
        return [f"{self.programs}/{each}" for each in ([program] if program else self.task.commands)]

    def configure(self) -> None:
        """PROGRAM/run, and PROGRAM/log/run."""
        for program, command in self.task.commands.items():
            place = self.programs / program
            place.mkdir(parents=True)
            self._script(place, "exec 2>&1", f"exec {shlex.join(command)}")
            if self.task.capture:
                (place / "log/files").mkdir(parents=True)
                (place / "log/files/config").write_text(f"s{LOG_BYTES}\nn{LOG_FILES}\n")  # svlogd's
                self._script(place / "log", f"exec {self.logger} ./files")

    @staticmethod
    def _script(place: Path, *lines: str) -> None:
        (place / "run").write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        (place / "run").chmod(0o755)


class Runit(Directories):
    """runit: runsvdir ends all on SIGHUP, and is gone before them."""

    name = "runit"
    needs = ("runsvdir", "runsv", "sv", "svlogd")
    most = 1000
    ends_on = signal.SIGHUP
    logger = "svlogd"

    def start(self) -> list[str]:
        """With a process group for each runsv."""
        return [self.binaries["runsvdir"], "-P", str(self.programs)]

    def status(self, program: str | None) -> list[str]:
        """Of the directories that are named."""
        return [self.binaries["sv"], "status", *self.paths(program)]


class S6(Directories):
    """s6: s6-svstat takes one directory, so a shell asks for all, one after the other."""

    name = "s6"
    needs = ("s6-svscan", "s6-supervise", "s6-svscanctl", "s6-svstat", "s6-log")
    ends_on = None
    logger = f"s6-log n{LOG_FILES} s{LOG_BYTES}"

    def start(self) -> list[str]:
        """It takes 1,000 directories where it is not told otherwise, and with loggers half as many programs."""
        return [self.binaries["s6-svscan"], "-c", str(2 * len(self.task.commands) + 100), str(self.programs)]

    def status(self, program: str | None) -> list[str]:
        """Of the directories that are named."""
        if program:
            return [self.binaries["s6-svstat"], *self.paths(program)]
        script = f'for each in "$1"/*; do {self.binaries["s6-svstat"]} "$each"; done'
        return ["/bin/sh", "-c", script, "sh", str(self.programs)]

    def stop(self) -> list[str]:
        """Programs and loggers, then itself."""
        return [self.binaries["s6-svscanctl"], "-t", str(self.programs)]


class Daemontools(Directories):
    """daemontools: svscan leaves all running when it ends, svc -dx ends them."""

    name = "daemontools"
    needs = ("svscan", "supervise", "svc", "svstat", "multilog")
    most = 1000
    logger = f"multilog s{LOG_BYTES} n{LOG_FILES}"

    def start(self) -> list[str]:
        """In the foreground."""
        return [self.binaries["svscan"], str(self.programs)]

    def status(self, program: str | None) -> list[str]:
        """Of the directories that are named."""
        return [self.binaries["svstat"], *self.paths(program)]

    def stop(self) -> list[str]:
        """Down and exit, the loggers too; the signal has ended svscan."""
        loggers = [f"{path}/log" for path in self.paths()] if self.task.capture else []
        return [self.binaries["svc"], "-dx", *self.paths(), *loggers]
