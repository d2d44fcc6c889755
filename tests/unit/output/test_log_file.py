"""A log file: opened safely, appended to by splice or by hand, and nothing lost in between."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from procd.output.log_file import LogFile
from tests.kernel.children import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe with a non-blocking read end."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


@pytest.fixture(params=["splice", "copy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of moving bytes: the second where the file system refuses the first."""
    if request.param == "copy":

        def refuse(*_: object) -> int:
            raise OSError(errno.EINVAL, "no splice here")

        monkeypatch.setattr(os, "splice", refuse)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_bytes_go_to_the_end_as_they_are(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """What was there stays, NUL and broken UTF-8 pass unharmed, `size` is what the file holds."""
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    log = LogFile(str(path))
    assert log.size == 7
    os.write(pipe[1], b"\x00\xff\xc3 no newline")
    assert log.take_from(pipe[0], 1 << 20) == 14
    assert log.size == 21
    with pytest.raises(BlockingIOError):
        log.take_from(pipe[0], 1 << 20)
    assert path.read_bytes() == b"before\n\x00\xff\xc3 no newline"
    assert log.close() == 0


@pytest.mark.usefixtures("way")
def test_no_more_is_moved_than_was_asked_for(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """So a flood can be given its turn and no more."""
    log = LogFile(str(tmp_path / "log"))
    os.write(pipe[1], b"x" * 100)
    assert log.take_from(pipe[0], 30) == 30
    assert log.take_from(pipe[0], 100) == 70
    log.close()


@pytest.mark.usefixtures("way")
def test_the_end_of_a_pipe_is_zero(tmp_path: Path) -> None:
    """After the last byte, and only then."""
    read_end, write_end = os.pipe()
    log = LogFile(str(tmp_path / "log"))
    os.write(write_end, b"last")
    os.close(write_end)
    assert log.take_from(read_end, 1000) == 4
    assert log.take_from(read_end, 1000) == 0
    os.close(read_end)
    log.close()


@pytest.mark.usefixtures("way")
def test_a_file_that_was_cut_is_continued_at_its_new_end(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """Truncating a log by hand leaves no hole of NULs before what comes next."""
    path = tmp_path / "log"
    log = LogFile(str(path))
    os.write(pipe[1], b"long ago\n")
    log.take_from(pipe[0], 1000)
    os.truncate(path, 0)
    os.write(pipe[1], b"now\n")
    log.take_from(pipe[0], 1000)
    assert path.read_bytes() == b"now\n"
    assert log.size == 4
    log.close()


def test_splice_is_not_tried_again_where_it_was_refused(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refusal is enough for the life of a file."""
    refusals = []

    def refuse(*arguments: object) -> int:
        refusals.append(arguments)
        raise OSError(errno.EINVAL, "no splice here")

    monkeypatch.setattr(os, "splice", refuse)
    log = LogFile(str(tmp_path / "log"))
    for _ in range(3):
        os.write(pipe[1], b"x")
        assert log.take_from(pipe[0], 1000) == 1
    assert len(refusals) == 1
    log.close()


@pytest.mark.usefixtures("way")
def test_a_file_that_takes_no_more_loses_nothing(
    tmp_path: Path, pipe: tuple[int, int], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the pipe stays there; what was read by hand is kept and goes first."""
    path = tmp_path / "log"
    log = LogFile(str(path))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        os.write(pipe[1], b"first")
        patch.setattr(os, "splice" if way == "splice" else "write", full)
        with pytest.raises(OSError, match="No space"):
            log.take_from(pipe[0], 1000)
    os.write(pipe[1], b" second")
    while path.stat().st_size < 12:
        log.take_from(pipe[0], 1000)
    assert path.read_bytes() == b"first second"
    assert log.close() == 0


def test_what_was_read_and_never_written_is_counted_at_the_close(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where splice is refused and the disk stays full, the loss is known to the byte."""
    log = LogFile(str(tmp_path / "log"))
    os.write(pipe[1], b"12345")

    def fail(*_: object) -> int:
        raise OSError(errno.EINVAL, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(os, "splice", fail)
        patch.setattr(os, "write", fail)
        with pytest.raises(OSError, match="refused"):
            log.take_from(pipe[0], 1000)
    assert log.close() == 5


def test_the_directory_is_made_and_strangers_may_not_read(tmp_path: Path) -> None:
    """A log may hold anything that a program says."""
    path = tmp_path / "some" / "where" / "log"
    before = os.umask(0)
    LogFile(str(path)).close()
    os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Who may write the directory must not choose where procd writes."""
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        LogFile(str(tmp_path / "log"))
    assert not (tmp_path / "victim").exists()


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A fifo without a reader, one with a reader, a directory: nothing waits, nothing stays open."""
    before = open_descriptors()
    fifo, directory = tmp_path / "fifo", tmp_path / "directory"
    os.mkfifo(fifo)
    directory.mkdir()
    with pytest.raises(OSError, match="No such device"):
        LogFile(str(fifo))
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="regular file"):
        LogFile(str(fifo))
    os.close(reader)
    with pytest.raises(IsADirectoryError):
        LogFile(str(directory))
    assert open_descriptors() == before
