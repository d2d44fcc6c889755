"""A log on a disk that is really full: the bytes stay in the pipe and go on when there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from procd.output import Logs, logs
from procd.output.log_file import LogFile
from tests.kernel.children import in_loop, needs_root, until
from tests.unit.output.pipes import WEB, Pen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK_BYTES = 256 * 1024

pytestmark = needs_root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def take_all(log: LogFile, pipe: int) -> None:
    """Move until that is not possible."""
    while True:
        log.take_from(pipe, 1 << 20)


@in_loop
async def test_every_byte_is_kept_in_order_across_a_full_disk(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice what fits: the writer waits, room is made, and it is all there once, in order."""
    monkeypatch.setattr(logs, "RETRY_S", 0.01)
    path, ballast = disk / "log", disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    kept = Logs(asyncio.get_running_loop())
    kept.open(WEB, str(path))
    pen = Pen(kept)
    content = b"".join(b"%07d\n" % number for number in range(28_000))
    left = memoryview(content)

    def write_all() -> bool:
        nonlocal left
        while left:
            try:
                left = left[pen.write(left) :]
            except BlockingIOError:
                return False
        return True

    with capture_logs() as logged:
        await until(lambda: write_all() or logged)
        assert left, "the disk was full before everything was written"
        held = path.read_bytes()
        assert content.startswith(held)
        ballast.unlink()
        await until(lambda: write_all() and kept.reaches(WEB) == len(content))
    assert path.read_bytes() == content
    assert [line["event"] for line in logged] == ["log cannot be written", "log is written again"]
    pen.close()
    kept.close()


@pytest.mark.parametrize("splices", [True, False])
def test_what_does_not_fit_is_not_half_lost(disk: Path, splices: bool) -> None:
    """A move that fails in its middle: what went into the file and what is left make up the whole."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES - 3 * 4096 - 100))
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    content = os.urandom(60000)
    os.write(write_end, content)
    log = LogFile(str(disk / "log"))
    log._splices = splices
    with pytest.raises(OSError, match="No space left"):
        take_all(log, read_end)
    ballast.unlink()
    with pytest.raises(BlockingIOError):
        take_all(log, read_end)
    assert (disk / "log").read_bytes() == content
    assert log.close() == 0
    os.close(read_end)
    os.close(write_end)
