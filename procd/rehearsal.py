"""Whether the program that is installed now could go on where one that runs would leave off.

Owns both sides: what the one that runs asks, in a process of the other, and what that looks at.  Between them
are descriptor 3, a MessagePack map of records (key → value), and the configuration's path; this must stay so
from one version to the next.  The answer is the version on standard output, or why not on standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import click
import msgpack

from procd import __version__, start
from procd.beginning import check, in_force_of, read
from procd.config import snapshot
from procd.config.spec import ProgramSpec
from procd.core import Machine
from procd.errors import ConfigurationError, Failed, SpawnError, UnreadableRecord
from procd.keeper.line import Record
from procd.output import remembered
from procd.process import NULL, Process, ProcessProtocol
from procd.runtime.keeping import HookRecord, LifeRecord, unpacked
from procd.runtime.recalled import Recalled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.core import Exit

#: The verb of the process that looks.
VERB = "rehearse"
_RECORDS_FD = 3
#: Seconds that it may take.
_MAY_TAKE_S = 60.0
_FAILED = 1


def look(path: str) -> int:
    """Look whether this program reads the configuration and the records of descriptor 3; the exit status."""
    content = msgpack.unpackb(os.pread(_RECORDS_FD, os.fstat(_RECORDS_FD).st_size, 0))
    recalled = Recalled([Record(key, value, ()) for key, value in content.items()])
    try:
        read(path)
        check(recalled)
        _read_records(recalled)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        return _FAILED
    except (UnreadableRecord, ValueError) as error:
        click.echo(str(error), err=True)
        return _FAILED
    click.echo(__version__)
    return 0


def _read_records(recalled: Recalled) -> None:
    """Read them as an adoption does.  Raises UnreadableRecord, and ValueError."""
    specs = dict(in_force_of(recalled).programs)
    for name, record in recalled.of("spec").items():
        specs[name] = snapshot.load(record.value, list[ProgramSpec])[0]
    programs = {name: _core(record) for name, record in recalled.of("program").items()}
    whole = recalled.take("machine")
    if whole is not None:
        Machine(lambda: 0.5).adopt(
            _core(whole), programs.values(), {name: specs[name] for name in programs}, 0.0
        )
    for record in recalled.of("life").values():
        unpacked(record.value, LifeRecord)
    for record in recalled.of("hook").values():
        unpacked(record.value, HookRecord)
    for name, record in recalled.of(remembered.PREFIX).items():
        remembered.look(name, record.value)


def _core(record: Record) -> dict[str, object]:
    content: dict[str, object] = msgpack.unpackb(record.value, unicode_errors="surrogateescape")
    return content


class _Rehearsal(ProcessProtocol):
    """The process that looks."""

    __slots__ = ("_said", "ended")

    def __init__(self, ended: asyncio.Future[tuple[Exit, str, str]]) -> None:
        self.ended = ended
        self._said = {1: b"", 2: b""}

    def child_data_received(self, child_fd: int, data: bytes) -> None:
        """Keep what it says."""
        self._said[child_fd] += data

    def process_ended(self, exit: Exit) -> None:  # noqa: A002 - the field's word
        """It has said all."""
        if not self.ended.done():
            out, err = (said.decode(errors="replace").strip() for said in self._said.values())
            self.ended.set_result((exit, out, err))


async def ask(path: str, records: Mapping[str, bytes], environ: Mapping[str, str]) -> str:
    """The version of the program that is installed now, which reads the configuration and these records.

    Raises Failed, with why it does not.
    """
    loop = asyncio.get_running_loop()
    rehearsal = _Rehearsal(loop.create_future())
    file = os.memfd_create("procd-records", os.MFD_CLOEXEC)
    try:
        os.write(file, msgpack.packb(dict(records)))
        argv = [*start.command(VERB), f"--config={path}"]
        Process(loop, argv[0], argv, environ, "/", rehearsal, child_fds={0: NULL, 1: "r", 2: "r", 3: file})
    except (OSError, SpawnError) as error:
        raise Failed("the procd that is installed cannot be tried", str(error)) from error
    finally:
        os.close(file)
    try:
        async with asyncio.timeout(_MAY_TAKE_S):
            how, version, why = await rehearsal.ended
    except TimeoutError:
        with contextlib.suppress(Exception):
            rehearsal.process.signal_process("KILL", group=True)
        raise Failed("the procd that is installed does not answer", "nothing has changed") from None
    if how.code != 0:
        raise Failed("the procd that is installed cannot take over; nothing has changed", why or str(how))
    return version
