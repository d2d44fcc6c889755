"""Output that goes to the system's journal: what the journal is told, and what when there is none."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from procd.config.spec import Backoff, Output
from procd.core import State
from procd.output import journald
from tests.kernel.children import in_loop, until
from tests.world import WAITS, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = b"web\n\n6\n1\n0\n0\n0\n"


class Journald:
    """A journal that takes streams, as systemd-journald does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._listener.setblocking(False)

    def take(self) -> socket.socket | None:
        """Take the next stream, if there is one."""
        try:
            stream, _ = self._listener.accept()
        except BlockingIOError:
            return None
        stream.setblocking(False)
        return stream

    def close(self) -> None:
        """End it."""
        self._listener.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journald]:
    """A journal for a test."""
    result = Journald(tmp_path / "stdout")
    yield result
    result.close()


async def said_to(stream: socket.socket, size: int) -> bytes:
    """Wait for so many bytes of a stream."""
    said = b""

    def came() -> bool:
        nonlocal said
        try:
            said += stream.recv(size)
        except BlockingIOError:
            return False
        return len(said) >= size

    await until(came)
    return said


async def stream_of(journal: Journald) -> socket.socket:
    """Wait for the next stream."""
    found: list[socket.socket] = []
    await until(lambda: found or found.extend(filter(None, [journal.take()])))
    return found[0]


@in_loop
async def test_a_program_writes_straight_to_the_journal(tmp_path: Path, journal: Journald) -> None:
    """Under its own name; stdout and stderr each have a stream, and neither has a log."""
    async with World(tmp_path) as world:
        world.runtime.around.journal_socket = journal.path
        script = f"echo out; echo err >&2; {WAITS}"
        world.add(world.spec(command=script, stdout=Output.JOURNAL, stderr=Output.JOURNAL, stdout_log=None))
        out, err = await stream_of(journal), await stream_of(journal)
        assert await said_to(out, len(HEADER) + 4) == HEADER + b"out\n"
        assert await said_to(err, len(HEADER) + 4) == HEADER + b"err\n"
        assert not world.log_of("web").exists()
        world.remove("web")
        await until(lambda: "web" not in world.runtime.machine.programs)
        # Nobody else holds them: the journal learns of the end.
        assert out.recv(1) == b""
        assert err.recv(1) == b""
        out.close()
        err.close()


@in_loop
async def test_stderr_follows_stdout_into_the_journal(tmp_path: Path, journal: Journald) -> None:
    """In one stream, so that the order stays."""
    async with World(tmp_path) as world:
        world.runtime.around.journal_socket = journal.path
        script = f"echo out; echo err >&2; echo out; {WAITS}"
        world.add(world.spec(command=script, stdout=Output.JOURNAL, stdout_log=None))
        stream = await stream_of(journal)
        assert await said_to(stream, len(HEADER) + 12) == HEADER + b"out\nerr\nout\n"
        assert journal.take() is None
        stream.close()


@in_loop
async def test_a_journal_that_is_not_there_is_a_failed_start(tmp_path: Path) -> None:
    """Which says so, and leaves nothing open."""
    async with World(tmp_path) as world:
        world.runtime.around.journal_socket = str(tmp_path / "nothing")
        slow = Backoff(initial_s=1000, max_s=1000)
        world.add(world.spec(stdout=Output.JOURNAL, stdout_log=None, backoff=slow))
        assert world.program().state is State.BACKOFF
        cause = f"journal '{tmp_path}/nothing' failed: No such file or directory (ENOENT)"
        assert cause in str(world.program().cause)


def test_a_journal_that_takes_nobody_is_not_waited_for(journal: Journald) -> None:
    """Its queue is full: that is an error now, not a hang of all supervision."""
    # listen(2): one more than was asked for.
    streams = [journald.connect(journal.path, "web") for _ in range(2)]
    with pytest.raises(OSError, match="busy"):
        journald.connect(journal.path, "web")
    for fd in streams:
        assert os.get_blocking(fd)
        os.close(fd)
