"""The logger process: how it comes by its channel.

The keeper has started it, and starts it again; we give it a channel, through the keeper.  Where there is no
keeper any more it is started here, as our child: with the channel as descriptor 3, our own output, and under
root only the rights that it needs.  It is no program, and belongs to none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import procd
from procd.config import capabilities
from procd.errors import SpawnError
from procd.keeper.messages import CHILD_PREFIX, fields
from procd.output.logger.service import CHANNEL
from procd.process import NULL, Process, ProcessProtocol, Settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from procd.core import Exit
    from procd.keeper.line import Record
    from procd.output.channel import Child, Starter
    from procd.process import ChildFd, Reaper
    from procd.runtime.present_memory import PresentMemory
    from procd.runtime.recalled import Recalled

_NAME = "logger"
#: What the keeper tells of it, and the record of one that an earlier keeper has started.
LOGGER_KEY = CHILD_PREFIX.decode() + _NAME
_EARLIER = "earlier logger"
_NOBODY_STARTS_IT = "ended, and there is no keeper"
_COMMAND = (sys.executable, "-P", "-m", "procd.output.logger")
_CHANNEL_FD = 3

#: It writes into directories and files of any owner, and may have pipes that are larger than others' (pipe(7)).
_KEPT = frozenset({capabilities.NAMES.index("DAC_OVERRIDE"), capabilities.SYS_RESOURCE})


class _Logger(ProcessProtocol):
    """A logger that runs."""

    __slots__ = ("_on_end",)
    stays = False

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


class KeptLogger:
    """The keeper's logger, as `output.channel` starts one; `fallback` starts one of ours.

    At most one logger writes: one that we, or our predecessor, had beside an earlier keeper has to be dead
    before another is told anything.  It is killed, which costs nothing; on a frozen disk that takes its time.
    """

    stays = True

    def __init__(self, loop: asyncio.AbstractEventLoop, memory: PresentMemory, fallback: Starter) -> None:
        self._loop = loop
        self._memory = memory
        self._fallback = fallback
        self._pid = 0
        self._pidfd = -1
        #: The keeper that starts loggers for us is gone, whoever else keeps our records.
        self._alone = False
        self._on_end: Callable[[str], None] | None = None
        #: A logger beside an earlier keeper that still lives, and the channel that waits for its end.
        self._earlier = -1
        self._waiting = -1

    def adopt(self, recalled: Recalled) -> None:
        """Learn of the logger that there is, and of one that there was."""
        record = recalled.take(LOGGER_KEY)
        if record is not None:
            self.told(record)
        earlier = recalled.take(_EARLIER)
        if earlier is not None:
            self._earlier = earlier.fds[0]
            _kill(self._earlier)
            self._loop.add_reader(self._earlier, self._earlier_ended)

    def keep(self) -> None:
        """Leave the logger to a supervisor of another keeper."""
        if self._pidfd >= 0:
            self._memory.put(_EARLIER, b"", (self._pidfd,))

    def told(self, record: Record) -> None:
        """Hear from the keeper that it has started a logger."""
        about = fields(record.value)
        another = bool(self._pid)
        self._follow(int(about["pid"]))
        if another:
            self._tell_end(about["last_end"])

    def keeper_lost(self) -> None:
        """Nobody starts a logger for us any more."""
        self._alone = True
        if self._pidfd < 0:
            self._tell_end(_NOBODY_STARTS_IT)

    def start(self, channel: int, on_end: Callable[[str], None]) -> Child:
        """Give the logger a channel, in place of one that it has.  Raises SpawnError."""
        if self._is_alone:
            # Of one that the keeper has started nobody knows whom it serves.
            self.kill()
            if self._earlier >= 0 or self._pidfd >= 0:
                raise SpawnError("logger", errno.EBUSY)
            self._on_end = None
            child = self._fallback(channel, on_end)
            self._follow(child.pid)
            return child
        self._on_end = on_end
        if self._earlier >= 0:
            self._leave_waiting()
            self._waiting = os.dup(channel)
        else:
            self._memory.give(_NAME, CHANNEL, b"", (channel,))
        return self

    @property
    def _is_alone(self) -> bool:
        return self._alone or self._memory.lost

    @property
    def pid(self) -> int:
        """Its PID; 0 if none is known."""
        return self._pid

    def kill(self) -> None:
        """End it at once."""
        if self._pidfd >= 0:
            _kill(self._pidfd)

    def _follow(self, pid: int) -> None:
        """Have a descriptor for the present logger; if it is dead already, the next is on its way."""
        self._forget()
        self._pid = pid
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)
            self._loop.add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        """It is dead: the keeper starts another, if there is one."""
        self._forget()
        if self._is_alone:
            self._tell_end(_NOBODY_STARTS_IT)

    def _tell_end(self, how: str) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(how)

    def _earlier_ended(self) -> None:
        self._loop.remove_reader(self._earlier)
        os.close(self._earlier)
        self._earlier = -1
        self._memory.drop(_EARLIER)
        if self._waiting >= 0 and not self._is_alone:
            self._memory.give(_NAME, CHANNEL, b"", (self._waiting,))
        self._leave_waiting()

    def _leave_waiting(self) -> None:
        if self._waiting >= 0:
            os.close(self._waiting)
            self._waiting = -1

    def _forget(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def close(self) -> None:
        """Watch it no longer."""
        self._forget()
        self._leave_waiting()
        if self._earlier >= 0:
            self._loop.remove_reader(self._earlier)
            os.close(self._earlier)
            self._earlier = -1
        self._on_end = None


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


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
