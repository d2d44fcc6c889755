"""What a supervisor begins with: the configuration, and what an earlier supervisor has left.

The configuration is read for the first time, or is what was in force.  Owns the directories and the lock, and
the records `meta`, `lock` and `specs`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec import structs

from procd import __version__, config, faults, lock
from procd.config import snapshot
from procd.config.spec import Configuration
from procd.errors import ConfigurationError, RuntimeDirectoryHeld, UnreadableRecord
from procd.keeper.messages import BEQUEST_KEY
from procd.runtime.recalled import Recalled

if TYPE_CHECKING:
    import asyncio

    from procd.config.spec import DaemonSpec
    from procd.keeper.client import KeptExit, Memory
    from procd.keeper.line import Record
    from procd.output.remembered import Remembers

log = structlog.get_logger()

#: The version of all records together; a supervisor reads its own and the one before, once there is one.
VERSION = 1

_META, _LOCK, _SPECS = "meta", "lock", "specs"
#: Its presence means that the configuration is to be read again, because somebody wanted another supervisor.
READ_AGAIN = "read again"


class Meta(msgspec.Struct, frozen=True):
    """What is to be known before any other record is read."""

    version: int
    procd: str


@dataclass(frozen=True, slots=True)
class Beginning:
    """`in_force` is what the records of programs refer to; `configuration` is what is to be in force."""

    configuration: Configuration
    in_force: Configuration
    recalled: Recalled
    #: The descriptor that holds the runtime directory.
    held: int

    @property
    def is_first(self) -> bool:
        """Nobody was there before."""
        return self.configuration is self.in_force


async def recall(loop: asyncio.AbstractEventLoop, memory: Memory) -> Recalled:
    """Everything that an earlier supervisor has left.  Raises OSError."""
    exits: list[KeptExit] = []
    memory.on_exit = exits.append
    records = await memory.recall()
    if any(record.key == BEQUEST_KEY.decode() for record in records) and not await _resume(
        loop, memory, records
    ):
        for record in records:
            record.close()
        exits.clear()
        records = await memory.recall()
    recalled = Recalled(records, exits)
    faults.at("adopt.recalled")
    return recalled


async def _resume(loop: asyncio.AbstractEventLoop, memory: Memory, records: list[Record]) -> bool:
    from procd.keeper import inheritance  # noqa: PLC0415 - hardly ever

    return await inheritance.resume(loop, memory, records)


async def take_over(loop: asyncio.AbstractEventLoop, memory: Memory, held: RuntimeDirectoryHeld) -> None:
    """Have our keeper know all that a supervisor holds that has lost its own.

    Raises `held` again where there is none, and OSError where that failed: another try may have more luck.
    """
    from procd.keeper import inheritance  # noqa: PLC0415 - hardly ever
    from procd.keeper.bequest import SOCKET_NAME  # noqa: PLC0415 - the same

    connection = inheritance.claim(f"{held.path}/{SOCKET_NAME}")
    if connection is None:
        raise held
    if not await inheritance.inherit(loop, connection, memory):
        raise OSError(errno.EAGAIN, "what another procd holds could not be taken over", held.path)


def has_predecessor(recalled: Recalled) -> bool:
    """Whether there was another, whose programs may run."""
    return _SPECS in recalled


def begin(memory: Memory, recalled: Recalled, path: str | None) -> Beginning:
    """Go on with what there is, or read the configuration and hold the runtime directory.

    Raises ConfigurationError, RuntimeDirectoryHeld, OSError with a path, and UnreadableRecord.
    """
    if not has_predecessor(recalled):
        configuration = read(path)
        prepare(configuration.daemon)
        held = _hold(memory, recalled, configuration)
        faults.at("begin.locked")
        recorded(memory, configuration)
        faults.at("begin.recorded")
        return Beginning(configuration, configuration, recalled, held)
    check(recalled)
    in_force = in_force_of(recalled)
    configuration = structs.replace(in_force)
    if READ_AGAIN in recalled:
        configuration = _read_again(in_force)
    return Beginning(configuration, in_force, recalled, _hold(memory, recalled, in_force))


def in_force_of(recalled: Recalled) -> Configuration:
    """The configuration that is recorded.  Raises ValueError."""
    return snapshot.load(recalled.value(_SPECS) or b"", Configuration)


def read(path: str | None) -> Configuration:
    """Read the configuration.  Raises ConfigurationError."""
    return config.load(path, os.environ, uid=os.geteuid())


def check(recalled: Recalled) -> None:
    """See whether the records are of a version that we read.  Raises UnreadableRecord."""
    value = recalled.value(_META)
    try:
        meta = None if value is None else msgspec.msgpack.decode(value, type=Meta)
    except msgspec.DecodeError as error:
        raise UnreadableRecord(None, str(error)) from error
    if meta is None or meta.version != VERSION:
        found = "none" if meta is None else f"version {meta.version}, of procd {meta.procd}"
        raise UnreadableRecord(
            None, f"what was left is of {found}, and procd {__version__} reads version {VERSION}"
        )


def _read_again(in_force: Configuration) -> Configuration:
    try:
        new = read(in_force.files[0])
    except ConfigurationError as error:
        tell_refused(error, "configuration refused, the old one stays in force")
        return structs.replace(in_force)
    # Where we are is held, and known to programs and clients.
    old = in_force.daemon
    same = {name: getattr(old, name) for name in ("runtime_dir", "state_dir", "socket")}
    return structs.replace(new, daemon=structs.replace(new.daemon, **same))


def tell_refused(error: ConfigurationError, what: str) -> None:
    """Say why a configuration does not come into force."""
    for problem in error.problems:
        log.error(what, problem=str(problem))


def prepare(daemon: DaemonSpec) -> None:
    """Make the directories that procd keeps its own things in.

    Raises OSError with the path for one that programs need and that cannot be made.
    """
    # Without it only events are lost with us; that is told when they cannot be written.
    with contextlib.suppress(OSError):
        os.makedirs(daemon.state_dir, mode=0o700, exist_ok=True)  # noqa: PTH103 - as mkdir(2), with the mode
    os.makedirs(daemon.log_dir, mode=0o750, exist_ok=True)  # noqa: PTH103 - as above


def _hold(memory: Memory, recalled: Recalled, configuration: Configuration) -> int:
    """Hold the runtime directory; returns the descriptor that does.

    Raises RuntimeDirectoryHeld, and OSError.
    """
    record = recalled.take(_LOCK)
    if record is not None:
        if lock.is_of(record.fds[0], configuration.daemon.runtime_dir):
            lock.sign(record.fds[0], os.getppid())
            return record.fds[0]
        # The directory was removed meanwhile; or another is named, since whoever took it was killed at once.
        record.close()
    held = lock.hold(configuration.daemon.runtime_dir, os.getppid())
    keep_lock(memory, held)
    return held


def keep_lock(memory: Remembers, held: int) -> None:
    """Have the keeper hold the runtime directory, too: for as long as it lives."""
    memory.put(_LOCK, b"", (held,))


def recorded(memory: Remembers, configuration: Configuration) -> None:
    """Record the configuration that is in force."""
    memory.put(_META, msgspec.msgpack.encode(Meta(VERSION, __version__)))
    memory.put(_SPECS, snapshot.dump(configuration))
