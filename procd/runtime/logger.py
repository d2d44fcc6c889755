"""The logger process: how it is started.

Owns what it is given: the channel as descriptor 3, our own output, and under root only the rights that it
needs.  It is our child like any other, so its death is told by our reaper; it is no program, and belongs to
none.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import procd
from procd.config import capabilities
from procd.process import NULL, Process, ProcessProtocol, Settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from procd.core import Exit
    from procd.output.channel import Starter
    from procd.process import ChildFd, Reaper

_COMMAND = (sys.executable, "-P", "-m", "procd.output.logger")
_CHANNEL_FD = 3

#: It writes into directories and files of any owner, and may have pipes that are larger than others' (pipe(7)).
_KEPT = frozenset({capabilities.NAMES.index("DAC_OVERRIDE"), capabilities.SYS_RESOURCE})


class _Logger(ProcessProtocol):
    """A logger that runs."""

    __slots__ = ("_on_end",)

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """End it at once."""
        if not self.process.exited:
            self.process.signal_process("KILL")

    def process_exited(self, exit: Exit) -> None:  # noqa: A002 - the field's word
        """It was reaped."""
        self._on_end(str(exit))


def starter(loop: asyncio.AbstractEventLoop, reaper: Reaper, environ: Mapping[str, str]) -> Starter:
    """Make what starts a logger, with these variables."""
    variables = dict(environ)
    place = str(Path(procd.__file__).parents[1])
    if place not in {*site.getsitepackages(), site.getusersitepackages()}:
        # We were not installed but are run from a checkout, which the directory of a child would not tell.
        variables["PYTHONPATH"] = ":".join(filter(None, [variables.get("PYTHONPATH"), place]))

    def start(channel: int, on_end: Callable[[str], None]) -> _Logger:
        logger = _Logger(on_end)
        child_fds: dict[int, ChildFd] = {0: NULL, 1: _own(1), 2: _own(2), _CHANNEL_FD: channel}
        Process(
            loop, _COMMAND[0], _COMMAND, variables, None, logger,
            child_fds=child_fds, settings=_settings(), reaper=reaper,
        )  # fmt: skip
        return logger

    return start


def _own(fd: int) -> ChildFd:
    """Our own output, if it is open."""
    try:
        os.fstat(fd)
    except OSError:
        return NULL
    return fd


def _settings() -> Settings:
    ours = capabilities.own() if os.geteuid() == 0 else frozenset()
    # Without CAP_SETPCAP, as in some containers, nothing can be given up (capabilities(7)).
    kept = _KEPT & ours if capabilities.SETPCAP in ours else None
    return Settings(directory="/", no_new_privileges=True, capabilities=kept, sole_thread=True)
