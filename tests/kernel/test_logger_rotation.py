"""Rotation, compression, and files that others move: the files of a log together are what was written."""

from __future__ import annotations

import gzip
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procd.output import messages
from tests.kernel.logger_daemon import FakeDaemon, spec, whole_log, written

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    """A daemon with its logger."""
    it = FakeDaemon()
    yield it
    it.free()


def write_all(daemon: FakeDaemon, write_end: int, content: bytes, slot: int = 1) -> None:
    """Write all of it, in pieces that fit into a pipe."""
    for first in range(0, len(content), 60_000):
        os.write(write_end, content[first : first + 60_000])
        daemon.sync(slot)


def start_of(path: Path) -> int:
    """The offset of the first byte of a file, as its attribute says."""
    try:
        return int(os.getxattr(path, "user.procd.start"))
    except OSError:
        pytest.skip("no extended attributes here")


pieces = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.text(max_size=60).map(lambda text: text.encode() + b"\n"),
        st.integers(1, 40).map(lambda count: b"a line of words\n" * count),
        st.integers(1, 5000).map(lambda count: b"x" * count),
    ),
    max_size=30,
)


def test_all_files_together_are_what_was_written(daemon: FakeDaemon) -> None:
    """Whatever is written, in whatever pieces; each file ends with a line, and has room for all but that."""

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(form=st.sampled_from(["raw", "timestamp", "json"]), max_size=st.integers(2000, 20_000), parts=pieces)
    def check(form: str, max_size: int, parts: list[bytes]) -> None:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "log")
            daemon.open(1, spec(path, format=form, max_size=max_size, keep=100_000))
            write_end = daemon.attach(1)
            for part in filter(None, parts):
                os.write(write_end, part)
                daemon.sync(1)
            os.close(write_end)
            daemon.hears(messages.ENDED, 1)
            output = b"".join(parts)
            if form != "raw" and output and not output.endswith(b"\n"):
                output += b"\n"
            log = whole_log(path)
            assert (written(log, form) if log else b"") == output
            assert_placed(path, max_size)
            assert daemon.board.end(1) == len(log)
            daemon.say([messages.FORGET, 1])
            daemon.hears(messages.FORGOTTEN, 1)
            daemon.board.clear(1)

    check()
    daemon.close()


def assert_placed(path: Path, max_size: int) -> None:
    """Each file knows where it begins, ends with a line, and would have had room for all but the last."""
    offset = 0
    for file in [*sorted(path.parent.glob("log.*"), key=lambda file: -int(file.suffix[1:])), path]:
        content = file.read_bytes()
        assert start_of(file) == offset
        offset += len(content)
        assert file == path or content.endswith(b"\n")
        assert len(content[:-1].rpartition(b"\n")[0]) <= max_size


def test_a_line_without_end_is_cut_counted_and_marked(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Where its file has to be rotated; the rest goes on in the next file."""
    path = tmp_path / "log"
    daemon.open(1, spec(path, max_size=100_000, keep=1000))
    write_end = daemon.attach(1)
    write_all(daemon, write_end, b"x" * 3_000_000 + b"\nshort\n")
    cuts = daemon.board.cut(1)
    assert cuts == 2
    log = whole_log(path)
    mark = b"\n[procd: a line of more than 1048576 bytes was cut here]\n"
    assert log.count(mark) == cuts
    assert log.replace(mark, b"") == b"x" * 3_000_000 + b"\nshort\n"
    os.close(write_end)
    daemon.close()


def test_keep_is_the_number_of_old_files(daemon: FakeDaemon, tmp_path: Path) -> None:
    """The newest output is what is kept."""
    path = tmp_path / "log"
    daemon.open(1, spec(path, max_size=10_000, keep=3))
    write_end = daemon.attach(1)
    content = b"".join(b"%09d\n" % number for number in range(20_000))
    write_all(daemon, write_end, content)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1", "log.2", "log.3"]
    log = whole_log(path)
    assert content.endswith(log)
    assert len(log) > 30_000
    assert daemon.board.end(1) == len(content)
    assert start_of(tmp_path / "log.3") == len(content) - len(log)
    os.close(write_end)
    daemon.close()


def test_a_log_is_rotated_on_request(daemon: FakeDaemon, tmp_path: Path) -> None:
    """At the end of a line if one has come; an empty one is left as it is, and what is no file says so."""
    path = tmp_path / "log"
    daemon.open(1, spec(path))
    daemon.open(2, spec("/dev/null"))
    assert daemon.rotate(1, 2, 3) == [[1, ""], [2, "not a file"], [3, "not open"]]
    assert not (tmp_path / "log.1").exists()
    write_end = daemon.attach(1)
    os.write(write_end, b"one\ntw")
    daemon.sync(1)
    os.write(write_end, b"o\nthree\n")
    assert daemon.rotate(1) == [[1, ""]]
    assert (tmp_path / "log.1").read_bytes() in {b"one\ntwo\n", b"one\ntwo\nthree\n"}
    assert whole_log(path) == b"one\ntwo\nthree\n"
    os.close(write_end)
    daemon.close()


@pytest.mark.parametrize("ended", [True, False])
def test_an_old_file_is_rotated_by_its_age(daemon: FakeDaemon, tmp_path: Path, ended: bool) -> None:
    """Counted from its first byte, also by the next logger; a line that has begun is ended first."""
    path = tmp_path / "log"
    daemon.open(1, spec(path, max_age_s=2.0))
    write_end = daemon.attach(1)
    begin = time.time()
    os.write(write_end, b"old\n" if ended else b"old")
    daemon.sync(1)
    daemon.kill()
    if not ended:
        daemon.until(lambda: time.time() > begin + 3)
        assert not (tmp_path / "log.1").exists()
        os.write(write_end, b" line\nnew\n")
        daemon.sync(1)
        assert (tmp_path / "log.1").read_bytes() == b"old line\n"
        assert path.read_bytes() == b"new\n"
    else:
        daemon.hears(messages.ROLLED, 1)
        assert time.time() > begin + 0.9
        assert (tmp_path / "log.1").read_bytes() == b"old\n"
    os.close(write_end)
    daemon.close()


def test_old_files_are_compressed_and_all_is_there(daemon: FakeDaemon, tmp_path: Path) -> None:
    """With their offsets and their modes, whichever order rotation and compression come in."""
    path = tmp_path / "log"
    daemon.open(1, spec(path, max_size=50_000, keep=1000, compress=True))
    write_end = daemon.attach(1)
    content = b"".join(b"%09d\n" % number for number in range(100_000))
    write_all(daemon, write_end, content)
    daemon.until(lambda: not [file for file in tmp_path.glob("log.*") if file.suffix != ".gz"])
    assert whole_log(path) == content
    oldest = tmp_path / f"log.{len(list(tmp_path.glob('log.*')))}.gz"
    assert start_of(oldest) == 0
    assert content.startswith(gzip.decompress(oldest.read_bytes()))
    assert oldest.stat().st_mode & 0o777 == 0o640
    os.close(write_end)
    daemon.close()


def test_a_compression_that_is_killed_is_done_again(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Nothing is lost, and nothing unfinished is left."""
    path = tmp_path / "log"
    daemon.open(1, spec(path, max_size=8_000_000, keep=1000, compress=True))
    write_end = daemon.attach(1)
    line = b"".join(b"%09d\n" % (number * 7919 % 1_000_000_007) for number in range(6000))
    os.set_blocking(write_end, True)
    content = line * 150
    write_all(daemon, write_end, content)
    unfinished = tmp_path / "log.gz.tmp"
    killed = 0
    while killed < 3 and (tmp_path / "log.1").exists():
        if unfinished.exists():
            daemon.kill()
            daemon.hears(messages.READY)
            killed += 1
        daemon.hear(0.001)
    assert killed
    daemon.until(lambda: (tmp_path / "log.1.gz").exists() and not (tmp_path / "log.1").exists())
    daemon.until(lambda: not unfinished.exists())
    assert whole_log(path) == content
    os.close(write_end)
    daemon.close()
    # The children of killed loggers have come to us, and died with them.
    daemon.reap_orphans()


def test_a_file_that_was_moved_finds_a_new_one_in_its_place(daemon: FakeDaemon, tmp_path: Path) -> None:
    """As logrotate does it; within about a second, and no byte is lost."""
    path, moved = tmp_path / "log", tmp_path / "moved"
    daemon.open(1, spec(path))
    write_end = daemon.attach(1)
    os.write(write_end, b"first\n")
    daemon.sync(1)
    path.rename(moved)
    count = 0

    def is_back() -> bool:
        nonlocal count
        os.write(write_end, b"%09d\n" % count)
        count += 1
        return path.exists() and path.stat().st_size > 0

    daemon.until(is_back)
    daemon.sync(1)
    expected = b"first\n" + b"".join(b"%09d\n" % number for number in range(count))
    assert moved.read_bytes() + path.read_bytes() == expected
    assert daemon.board.start(1) == start_of(path) == moved.stat().st_size
    assert daemon.board.end(1) == len(expected)
    os.close(write_end)
    daemon.close()


def test_a_file_that_was_truncated_goes_on_at_the_offset_reached(daemon: FakeDaemon, tmp_path: Path) -> None:
    """As `copytruncate` does it: no hole in the file, and offsets never go back."""
    path = tmp_path / "log"
    daemon.open(1, spec(path))
    write_end = daemon.attach(1)
    os.write(write_end, b"0123456789\n")
    daemon.sync(1)
    os.truncate(path, 0)
    os.write(write_end, b"next\n")
    daemon.sync(1)
    assert path.read_bytes() == b"next\n"
    assert (daemon.board.start(1), daemon.board.end(1)) == (11, 16)
    assert start_of(path) == 11
    os.close(write_end)
    daemon.close()


def test_a_directory_in_the_way_of_rotation_is_said_and_the_log_goes_on(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    """Nothing is lost because old files cannot be moved."""
    path = tmp_path / "log"
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "x").touch()
    daemon.open(1, spec(path, max_size=1000, keep=1))
    write_end = daemon.attach(1)
    content = b"123456789\n" * 1000
    write_all(daemon, write_end, content)
    assert any("cannot be rotated" in reason for reason in daemon.troubles)
    assert path.read_bytes() == content
    os.close(write_end)
    daemon.close()
