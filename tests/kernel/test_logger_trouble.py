"""A log that cannot be written: full and read-only disks, frozen ones, directories that vanish."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from procd.output import messages
from tests.kernel.children import needs_root
from tests.kernel.logger_daemon import FakeDaemon, spec, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK_BYTES = 256 * 1024
MARK = re.compile(rb"\[procd: (\d+) bytes of output were dropped[^\]]*\]")


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    """A daemon with its logger."""
    it = FakeDaemon()
    yield it
    it.free()


def mounted(place: Path, *arguments: str | Path) -> Iterator[Path]:
    """A file system at `place` while a test runs."""
    place.mkdir()
    done = subprocess.run(["mount", *arguments, place], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this machine does not let us mount")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    yield from mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs")


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 16 MiB on a loop device."""
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    yield from mounted(tmp_path / "ext4", "-o", "loop", image)


def lines(first: int, last: int) -> bytes:
    """Numbered lines of 16 bytes."""
    return b"".join(b"%015d\n" % number for number in range(first, last))


def write_all(daemon: FakeDaemon, write_end: int, content: bytes) -> None:
    """Write as the pipe takes it."""
    os.set_blocking(write_end, False)
    rest = memoryview(content)

    def wrote() -> bool:
        nonlocal rest
        with contextlib.suppress(BlockingIOError):
            while rest:
                rest = rest[os.write(write_end, rest) :]
        return not rest

    daemon.until(wrote)


@needs_root
@pytest.mark.parametrize("form", ["raw", "timestamp", "json"])
def test_what_a_full_disk_does_not_take_is_dropped_counted_and_marked(
    daemon: FakeDaemon, disk: Path, form: str
) -> None:
    """Written and dropped bytes are what was produced; the mark is a line of its own, with the number."""
    path, ballast = disk / "log", disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    daemon.open(1, spec(path, format=form))
    write_end = daemon.attach(1)
    before, after = lines(0, 20_000), lines(20_000, 20_100)
    write_all(daemon, write_end, before)
    daemon.hears(messages.TROUBLE, 1, "No space left on device")
    daemon.until(lambda: daemon.board.taken(1) == len(before))
    ballast.unlink()
    _, _, dropped = daemon.hears(messages.WELL, 1)
    assert dropped == daemon.board.dropped(1) > 0
    write_all(daemon, write_end, after)
    daemon.sync(1)
    output = written(path.read_bytes(), form)
    mark = MARK.search(output)
    assert mark is not None
    assert int(mark[1]) == dropped
    kept, rest = output[: mark.start()], output[mark.end() + 1 :]
    assert rest == after
    # A line that was cut by the full disk was ended.
    whole = len(before) - dropped
    assert kept == before[:whole] + (b"" if whole % 16 == 0 else b"\n")
    assert daemon.board.end(1) == path.stat().st_size
    os.close(write_end)
    daemon.close()


@needs_root
@pytest.mark.parametrize("form", ["raw", "json"])
def test_with_block_a_program_waits_for_a_full_disk_and_nothing_is_lost(
    daemon: FakeDaemon, disk: Path, form: str
) -> None:
    """Every byte, in order, once; also when the logger is killed meanwhile, and over the end of a life."""
    path, ballast = disk / "log", disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES - 4096))
    daemon.open(1, spec(path, format=form, on_error="block"))
    write_end = daemon.attach(1)
    os.set_blocking(write_end, False)
    first = lines(0, 500)
    assert os.write(write_end, first) == len(first)
    daemon.hears(messages.TROUBLE, 1)
    with contextlib.suppress(BlockingIOError):
        while True:
            first += b"x" * os.write(write_end, b"x" * 65536)
    daemon.say([messages.FINISH, 1])
    other = daemon.attach(1, tell=True)
    os.write(other, b"second life\n")
    daemon.kill()
    daemon.hears(messages.TROUBLE, 1)
    assert messages.BEGUN not in {message[0] for message in daemon.heard}
    daemon.say([messages.SYNC, 99, [1]])
    ballast.unlink()
    daemon.hears(messages.SYNCED, 99)
    output = written(path.read_bytes(), form)
    assert output.replace(b"\n", b"") == (first + b"second life").replace(b"\n", b"")
    assert daemon.board.dropped(1) == 0
    os.close(write_end)
    os.close(other)
    daemon.close()


@needs_root
def test_a_read_only_disk_is_trouble_until_it_is_writable(daemon: FakeDaemon, disk: Path) -> None:
    """As a disk with errors becomes."""
    path = disk / "log"
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    daemon.open(1, spec(path))
    daemon.hears(messages.TROUBLE, 1, "Read-only file system")
    write_end = daemon.attach(1)
    os.write(write_end, b"lost\n")
    daemon.sync(1)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert daemon.hears(messages.WELL, 1) == [messages.WELL, 1, 5]
    assert path.read_bytes() == b"[procd: 5 bytes of output were dropped: Read-only file system]\n"
    os.close(write_end)
    daemon.close()


def test_a_directory_that_vanished_is_made_again(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Within about a second, at the next output; what went to the deleted file is gone with it."""
    path = tmp_path / "place" / "log"
    daemon.open(1, spec(path))
    write_end = daemon.attach(1)
    os.write(write_end, b"before\n")
    daemon.sync(1)
    shutil.rmtree(path.parent)

    def is_back() -> bool:
        os.write(write_end, b"after\n")
        return path.exists() and b"after\n" in path.read_bytes()

    daemon.until(is_back)
    assert daemon.board.start(1) >= len(b"before\n")
    os.close(write_end)
    daemon.close()


def test_a_directory_that_cannot_be_made_is_trouble(daemon: FakeDaemon, tmp_path: Path) -> None:
    """And it recovers by itself."""
    place = tmp_path / "place"
    place.write_text("a file")
    daemon.open(1, spec(place / "log", on_error="block"))
    daemon.hears(messages.TROUBLE, 1)
    write_end = daemon.attach(1)
    os.write(write_end, b"kept\n")
    place.unlink()
    daemon.hears(messages.WELL, 1)
    assert (place / "log").read_bytes() == b"kept\n"
    os.close(write_end)
    daemon.close()


def test_a_second_logger_never_writes_beside_the_first(daemon: FakeDaemon, tmp_path: Path) -> None:
    """It waits, with its output in the pipe, until the lock is free."""
    path = tmp_path / "log"
    path.touch()
    with path.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        daemon.open(1, spec(path))
        daemon.hears(messages.TROUBLE, 1, "another process writes to it")
        write_end = daemon.attach(1)
        os.write(write_end, b"kept\n")
    daemon.hears(messages.WELL, 1)
    assert path.read_bytes() == b"kept\n"
    os.close(write_end)
    daemon.close()


def test_what_the_daemon_gave_up_is_marked(daemon: FakeDaemon, tmp_path: Path) -> None:
    """In the middle of a line, too."""
    path = tmp_path / "log"
    daemon.open(1, spec(path))
    write_end = daemon.attach(1)
    os.write(write_end, b"half a li")
    daemon.sync(1)
    daemon.say([messages.GAVE_UP, 1, 12345])
    daemon.sync(1)
    assert path.read_bytes() == b"half a li\n[procd: 12345 bytes of output were dropped]\n"
    assert daemon.board.dropped(1) == 12345
    os.close(write_end)
    daemon.close()


@needs_root
def test_a_frozen_disk_stops_the_logger_and_nothing_is_lost(daemon: FakeDaemon, ext4: Path) -> None:
    """It hangs in the kernel, the programs wait; after the thaw everything is there."""
    path = ext4 / "log"
    daemon.open(1, spec(path))
    write_end = daemon.attach(1)
    os.write(write_end, b"before\n")
    daemon.sync(1)
    content = lines(0, 2000)
    subprocess.run(["fsfreeze", "--freeze", ext4], check=True)
    try:
        os.write(write_end, content)
        daemon.until_or(lambda: False, 0.3)
        daemon.say([messages.SYNC, 77, [1]])
        assert not daemon.hear(0.2)
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", ext4], check=True)
    daemon.hears(messages.SYNCED, 77)
    assert path.read_bytes() == b"before\n" + content
    os.close(write_end)
    daemon.close()
