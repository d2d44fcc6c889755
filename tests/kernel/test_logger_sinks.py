"""Logs that are no files: fifos, terminals, devices, and the standard output of the daemon."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import tty
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from procd.output import messages
from tests.kernel.logger_daemon import FakeDaemon, spec

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    """A daemon with its logger."""
    it = FakeDaemon()
    yield it
    it.free()


def read_all(daemon: FakeDaemon, fd: int, size: int) -> bytes:
    """Read so many bytes, as they come."""
    content = bytearray()
    os.set_blocking(fd, False)

    def is_all() -> bool:
        try:
            content.extend(os.read(fd, 65536))
        except BlockingIOError:
            return False
        return len(content) >= size

    daemon.until(is_all)
    return bytes(content)


@pytest.mark.parametrize("form", ["raw", "timestamp"])
def test_a_fifo_is_written_at_the_pace_of_its_reader(daemon: FakeDaemon, tmp_path: Path, form: str) -> None:
    """More than it holds: the program waits, other logs do not, and nothing is lost."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    daemon.open(1, spec(fifo, format=form))
    daemon.open(2, spec(tmp_path / "log"))
    write_end, other = daemon.attach(1), daemon.attach(2)
    content = b"".join(b"%099d\n" % number for number in range(400))
    for _ in range(2):
        os.write(write_end, content)
        daemon.until_or(lambda: False, 0.05)
    os.write(other, b"not held up\n")
    daemon.sync(2)
    assert (tmp_path / "log").read_bytes() == b"not held up\n"
    stamps = 28 * 400 * 2 if form == "timestamp" else 0
    read = read_all(daemon, reader, 80_000 + stamps)
    lines = read.splitlines(keepends=True)
    assert b"".join(line[28:] if stamps else line for line in lines) == content * 2
    assert daemon.board.taken(1) == 80_000
    for fd in (reader, write_end, other):
        os.close(fd)
    daemon.close()


def test_a_fifo_that_nobody_reads_is_trouble_until_somebody_does(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Also when its reader goes away; what is dropped meanwhile is marked."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    daemon.open(1, spec(fifo))
    daemon.hears(messages.TROUBLE, 1, "No such device or address")
    write_end = daemon.attach(1)
    os.write(write_end, b"lost\n")
    daemon.sync(1)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    daemon.hears(messages.WELL, 1)
    mark = b"[procd: 5 bytes of output were dropped: No such device or address]\n"
    assert read_all(daemon, reader, len(mark)) == mark
    os.close(reader)
    os.write(write_end, b"lost as well\n")
    daemon.hears(messages.TROUBLE, 1)
    os.close(write_end)
    daemon.close()


def test_a_terminal_takes_a_log_that_it_need_not_be_asked_for(daemon: FakeDaemon) -> None:
    """More than it holds at once."""
    leader, follower = pty.openpty()
    tty.setraw(follower)
    daemon.open(1, spec(os.ttyname(follower)))
    write_end = daemon.attach(1)
    content = b"".join(b"%099d\n" % number for number in range(500))
    os.write(write_end, content)
    assert read_all(daemon, leader, len(content)) == content
    for fd in (leader, follower, write_end):
        os.close(fd)
    daemon.close()


PROGRAM = """
import os, sys
from tests.kernel.logger_daemon import FakeDaemon, spec
daemon = FakeDaemon()
daemon.open(1, spec("/dev/stdout"))
daemon.open(2, spec("/dev/stdout", format="timestamp"))
ends = daemon.attach(1), daemon.attach(2)
for _ in range(20):
    for slot, end in enumerate(ends, 1):
        os.write(end, b"%099d\\n" % slot)
        daemon.sync(slot)
for end in ends:
    os.close(end)
daemon.until(lambda: not daemon.pipes)
assert os.get_blocking(1)
daemon.close()
"""


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_output_is_that_of_the_daemon(tmp_path: Path, kind: str) -> None:
    """Several logs share it line by line, and it stays as it was: O_NONBLOCK would be seen by everybody."""
    command = [sys.executable, "-c", PROGRAM]
    root = Path(__file__).parents[2]
    if kind == "pipe":
        out = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout
    else:
        with (tmp_path / "out").open("wb") as file:
            subprocess.run(command, cwd=root, stdout=file, check=True)
        out = (tmp_path / "out").read_bytes()
    lines = out.splitlines()
    assert len(lines) == 40
    assert {line[-99:] for line in lines} == {b"%099d" % 1, b"%099d" % 2}


def test_a_link_is_not_followed(daemon: FakeDaemon, tmp_path: Path) -> None:
    """A directory that others may write to must not become a way to write elsewhere."""
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    daemon.open(1, spec(tmp_path / "log"))
    daemon.hears(messages.TROUBLE, 1, "Too many levels of symbolic links")
    assert not (tmp_path / "elsewhere").exists()
    daemon.close()


def test_a_logger_without_a_daemon_hears_the_programs_out(daemon: FakeDaemon, tmp_path: Path) -> None:
    """It ends when the last of them has."""
    path = tmp_path / "log"
    daemon.open(1, spec(path))
    write_end = daemon.attach(1)
    os.write(write_end, b"before\n")
    daemon.sync(1)
    daemon.channel.close()
    os.write(write_end, b"after\n")
    assert daemon.ended() is None
    os.close(write_end)
    assert daemon.wait() == 0
    assert path.read_bytes() == b"before\nafter\n"


def test_the_last_messages_of_a_daemon_that_died_unheard_are_carried_out(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    """It has not read what we said: the kernel tells of a reset before it gives out what was sent (unix(7))."""
    path = tmp_path / "log"
    select.select([daemon.channel], [], [])  # READY, which stays unread
    os.kill(daemon.pid, signal.SIGSTOP)
    daemon.open(1, spec(path))
    write_end = daemon.attach(1)
    os.write(write_end, b"last words\n")
    os.close(write_end)
    daemon.channel.close()
    os.kill(daemon.pid, signal.SIGCONT)
    assert daemon.wait() == 0
    assert path.read_bytes() == b"last words\n"
