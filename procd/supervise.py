"""The supervisor process from its first line to its exit status.

Owns what is said of a start that fails, and how the keeper learns that the end is the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from typing import TYPE_CHECKING

import structlog

from procd import faults, logging
from procd.beginning import begin, has_predecessor, recall, take_over
from procd.errors import ConfigurationError, RuntimeDirectoryHeld, UnreadableRecord
from procd.keeper.client import Memory
from procd.supervisor import Supervisor, raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procd.beginning import Beginning
    from procd.process import Limit
    from procd.runtime.recalled import Recalled

log = structlog.get_logger()

#: sysexits.h: the configuration is wrong; try again later, somebody else is at it; an operating system error; a
#: mistake of ours; what we were given is not what we read.
EX_CONFIG, EX_TEMPFAIL, EX_OSERR, EX_SOFTWARE, EX_DATAERR = 78, 75, 71, 70, 65


def main(words: Sequence[str]) -> int:
    """Supervise; returns the exit status.  Tells people and the keeper why it cannot.

    `words` are those of `start.become_keeper`: `--directory=…`, what a relative path is relative to, and
    `--config=…`, the configuration, if it was named.
    """
    # What is read now stays: to look through it again and again while it grows takes a tenth of the start.
    gc.disable()
    named = dict(word.removeprefix("--").partition("=")[::2] for word in words)
    with contextlib.suppress(OSError):
        os.chdir(named.get("directory", "/"))
    path = named.get("config")
    # Until the configuration says otherwise.
    logging.configure("info", "text")
    limits = raise_descriptor_limit()
    return asyncio.run(_supervise(path, limits))


async def _supervise(path: str | None, limits: tuple[Limit, ...]) -> int:
    memory = Memory.of(asyncio.get_running_loop(), os.environ)
    if memory is None:
        _say("there is no keeper: `procd run` is the command")
        return EX_OSERR
    attempt = _Attempt(memory)
    try:
        status = await attempt.run(path, limits)
    except ConfigurationError as error:
        for problem in error.problems:
            _say_line(str(problem))
        status = EX_CONFIG
    except RuntimeDirectoryHeld as error:
        _say(str(error), "stop that one first, or give this one another runtime_dir")
        status = EX_TEMPFAIL
    except UnreadableRecord as error:
        _say(str(error), "install the procd that has left it")
        status = EX_DATAERR
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        status = EX_OSERR
    except Exception:
        log.exception("procd made a mistake, please report it")
        status = EX_SOFTWARE
    if not attempt.leaves_programs:
        memory.finish(status)
        await memory.settle()
        faults.at("finish.said")
    memory.close()
    return status


class _Attempt:
    """One supervisor, as far as it comes."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._recalled: Recalled | None = None
        self._supervisor: Supervisor | None = None

    async def run(self, path: str | None, limits: tuple[Limit, ...]) -> int:
        """Supervise to the end; the exit status.  Raises what keeps it from that."""
        beginning = await self._begin(asyncio.get_running_loop(), path)
        daemon = beginning.configuration.daemon
        logging.configure(daemon.log_level, daemon.log_format)
        self._supervisor = Supervisor(beginning, self._memory, limits, os.environ)
        # Not held by a directory that somebody may want to unmount.
        os.chdir("/")
        gc.freeze()
        gc.enable()
        await self._supervisor.run()
        return self._supervisor.exit_status

    async def _begin(self, loop: asyncio.AbstractEventLoop, path: str | None) -> Beginning:
        self._recalled = await recall(loop, self._memory)
        try:
            return begin(self._memory, self._recalled, path)
        except RuntimeDirectoryHeld as error:
            # Perhaps by a procd that has lost its keeper, and waits for us.
            await take_over(loop, self._memory, error)
        self._recalled = await recall(loop, self._memory)
        return begin(self._memory, self._recalled, path)

    @property
    def leaves_programs(self) -> bool:
        """Whether programs may run for which another supervisor is to be started."""
        if self._supervisor is not None:
            return self._supervisor.leaves_programs
        return self._recalled is None or has_predecessor(self._recalled)


def _say(*lines: str) -> None:
    for line in lines:
        _say_line(f"procd: {line}")


def _say_line(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))
