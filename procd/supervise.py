"""The supervisor process from its first line to its exit status.

Owns what is said of a start that fails, and how the keeper learns that the end is the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from typing import TYPE_CHECKING

from procd import faults, logging
from procd.beginning import begin, has_predecessor, recall, take_over
from procd.errors import ConfigurationError, RuntimeDirectoryHeld, UnreadableRecord
from procd.keeper.client import Memory
from procd.supervisor import Supervisor, raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procd.process import Limit
    from procd.runtime.recalled import Recalled

#: sysexits.h: the configuration is wrong; try again later, somebody else is at it; an operating system error;
#: what we were given is not what we read.
EX_CONFIG, EX_TEMPFAIL, EX_OSERR, EX_DATAERR = 78, 75, 71, 65


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
    try:
        recalled = await recall(asyncio.get_running_loop(), memory)
    except OSError as error:
        _say(f"what was left cannot be recalled: {error.strerror}")
        return EX_OSERR
    is_over = not has_predecessor(recalled)
    try:
        status = await _begin_and_run(memory, recalled, path, limits)
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
    else:
        is_over = True
    if is_over:
        # Otherwise there may be programs that run, and it is tried again.
        memory.finish(status)
        await memory.settle()
        faults.at("finish.said")
    memory.close()
    return status


async def _begin_and_run(
    memory: Memory, recalled: Recalled, path: str | None, limits: tuple[Limit, ...]
) -> int:
    try:
        beginning = begin(memory, recalled, path)
    except RuntimeDirectoryHeld as error:
        # Perhaps by a procd that has lost its keeper, and waits for us.
        await take_over(asyncio.get_running_loop(), memory, error)
        recalled = await recall(asyncio.get_running_loop(), memory)
        beginning = begin(memory, recalled, path)
    daemon = beginning.configuration.daemon
    logging.configure(daemon.log_level, daemon.log_format)
    supervisor = Supervisor(beginning, memory, limits, os.environ)
    # Not held by a directory that somebody may want to unmount.
    os.chdir("/")
    gc.freeze()
    gc.enable()
    await supervisor.run()
    return supervisor.exit_status


def _say(*lines: str) -> None:
    for line in lines:
        _say_line(f"procd: {line}")


def _say_line(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))
