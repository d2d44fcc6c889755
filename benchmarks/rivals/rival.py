"""What peers.py must know of a supervisor."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Where output is captured, everybody rotates at so many bytes and keeps so many old files.
LOG_BYTES, LOG_FILES = 10_000_000, 3


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of a supervisor: to run these commands, by the names of the programs."""

    directory: Path
    commands: Mapping[str, list[str]]
    #: Output goes into log files that it rotates, else to /dev/null.
    capture: bool
    #: It restarts as soon as it can be told to, also where that costs something while nothing happens.
    fast: bool


class Rival:
    """A supervisor with one task.  It is in the foreground, and ends on the signal `ends_on` or by `stop`."""

    name: ClassVar[str]
    #: The commands it is made of; where one is missing it is skipped.
    needs: ClassVar[tuple[str, ...]]
    #: They are in the virtual environment that holds what comes from PyPI.
    from_pypi: ClassVar[bool] = False
    captures: ClassVar[bool] = True
    restarts: ClassVar[bool] = True
    #: What the others are held against, and no supervisor.
    is_limit: ClassVar[bool] = False
    #: More programs than so many it does not take.
    most: ClassVar[int | None] = None
    ends_on: ClassVar[signal.Signals | None] = signal.SIGTERM

    def __init__(self, task: Task, binaries: Mapping[str, str]) -> None:
        self.task = task
        self.binaries = binaries

    def configure(self) -> None:
        """Write what it needs into the directory of the task."""
        raise NotImplementedError

    def start(self) -> list[str]:
        """The command that is the supervisor."""
        raise NotImplementedError

    def status(self, program: str | None) -> list[str] | None:
        """The command that tells the state of one program, or of all; None if there is none."""
        del program
        return None

    def stop(self) -> list[str] | None:
        """The command that ends everything, where a signal does not."""
        return None

    def write(self, name: str, *lines: str) -> None:
        """Write a file of the task."""
        (self.task.directory / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
