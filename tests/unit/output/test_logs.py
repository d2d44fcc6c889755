"""All logs: order across lives, draining, detaching, forgetting, and who is told."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from procd.output import Logs, StreamKey, Watcher, logs
from tests.kernel.children import in_loop, until
from tests.unit.output.pipes import WEB, Pen, is_open, until_holds

if TYPE_CHECKING:
    from pathlib import Path


def opened(path: Path) -> Logs:
    """Logs on the running loop, with that of WEB open."""
    result = Logs(asyncio.get_running_loop())
    result.open(WEB, str(path))
    return result


class Full:
    """A file that takes nothing until there is room, by way of the system call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = False
        splice = os.splice

        def limited(pipe: int, file: int, count: int) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return splice(pipe, file, count)

        monkeypatch.setattr(os, "splice", limited)
        monkeypatch.setattr(logs, "RETRY_S", 0.01)


@in_loop
async def test_what_is_written_reaches_the_file_and_the_end_closes_the_pipe(tmp_path: Path) -> None:
    """Without anybody asking."""
    path = tmp_path / "log"
    kept = opened(path)
    pen = Pen(kept)
    assert kept.reaches(WEB) == 0
    pen.write(b"hello\n")
    await until_holds(path, b"hello\n")
    assert kept.reaches(WEB) == 6
    pen.close()
    await until(lambda: not is_open(pen.read_end))
    kept.close()


@in_loop
async def test_what_an_old_life_left_comes_before_what_a_new_one_writes(tmp_path: Path) -> None:
    """`drain` moves it now, without a turn of the loop."""
    path = tmp_path / "log"
    kept = opened(path)
    old = Pen(kept)
    old.write(b"x" * 60000)
    old.close()
    kept.drain_program("web")
    assert path.read_bytes() == b"x" * 60000
    new = Pen(kept)
    new.write(b"new")
    await until_holds(path, b"x" * 60000 + b"new")
    new.close()
    kept.close()


@in_loop
async def test_lives_stay_in_order_when_the_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old life's bytes go first, also when the new one began while nothing could be written."""
    path = tmp_path / "log"
    disk = Full(monkeypatch)
    kept = opened(path)
    old = Pen(kept)
    old.write(b"old ")
    with capture_logs() as logged:
        await until(lambda: logged)
        old.close()
        kept.drain_program("web")
        new = Pen(kept)
        new.write(b"new")
        for _ in range(3):
            await asyncio.sleep(0)
        disk.room = True
        await until_holds(path, b"old new")
    assert [line["event"] for line in logged] == ["log cannot be written", "log is written again"]
    assert logged[0]["reason"] == "No space left on device"
    assert not is_open(old.read_end)
    new.close()
    kept.close()


@in_loop
async def test_a_program_waits_in_its_pipe_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is dropped and nothing is held in memory."""
    disk = Full(monkeypatch)
    kept = opened(tmp_path / "log")
    pen = Pen(kept)
    written = pen.write(b"x" * 65536)
    with capture_logs() as logged:
        await until(lambda: logged)
        with pytest.raises(BlockingIOError):
            pen.write(b"x" * 65536)
        disk.room = True
        await until(lambda: kept.reaches(WEB) == written)
    pen.close()
    kept.close()


@in_loop
async def test_one_flood_does_not_starve_another_log(tmp_path: Path) -> None:
    """Each stream gets its turn."""
    kept = opened(tmp_path / "web.log")
    quiet = StreamKey("quiet", "stdout")
    kept.open(quiet, str(tmp_path / "quiet.log"))
    flood, whisper = Pen(kept), Pen(kept, quiet)
    whisper.write(b"psst")
    while kept.reaches(quiet) < 4:
        flood.write(b"x" * 4096)
        await asyncio.sleep(0)
    assert kept.reaches(WEB) < 64 * 4096
    flood.close()
    whisper.close()
    kept.close()


@in_loop
async def test_detaching_keeps_what_was_written_and_refuses_what_comes(tmp_path: Path) -> None:
    """The program gets EPIPE from then on; a second time there is nothing to detach."""
    path = tmp_path / "log"
    kept = opened(path)
    pen = Pen(kept)
    pen.write(b"before")
    assert kept.detach(WEB)
    assert path.read_bytes() == b"before"
    with pytest.raises(BrokenPipeError):
        pen.write(b"after")
    assert not kept.detach(WEB)
    assert not kept.detach(StreamKey("other", "stdout"))
    pen.close()
    kept.close()


@in_loop
async def test_a_loss_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that has to be closed while the disk is full: the log says how many bytes are gone."""
    Full(monkeypatch)
    kept = opened(tmp_path / "log")
    pen = Pen(kept)
    pen.write(b"x" * 123)
    with capture_logs() as logged:
        kept.close()
    assert [line["bytes"] for line in logged if line["event"] == "output lost"] == [123]
    pen.close()


@in_loop
async def test_watchers_are_told_of_growth_and_of_the_end(tmp_path: Path) -> None:
    """Also for a program that was never started; and no more after they said so."""
    kept = Logs(asyncio.get_running_loop())
    grown, over, gone = [], [], []
    kept.watch(WEB, Watcher(lambda: grown.append(kept.reaches(WEB)), over.append))
    unwatch = kept.watch(WEB, Watcher(lambda: gone.append(1), gone.append))
    kept.open(WEB, str(tmp_path / "log"))
    unwatch()
    unwatch()
    pen = Pen(kept)
    pen.write(b"1234")
    await until(lambda: grown == [4])
    kept.forget("web")
    assert over == ["the program was removed"]
    assert gone == []
    assert kept.reaches(WEB) == 0
    pen.close()


@in_loop
async def test_what_was_left_of_a_removed_program_is_kept(tmp_path: Path) -> None:
    """Forgetting moves what is in its pipes, then closes them; it can come back."""
    path = tmp_path / "log"
    kept = opened(path)
    pen = Pen(kept)
    pen.write(b"last words")
    kept.forget("web")
    assert path.read_bytes() == b"last words"
    assert not is_open(pen.read_end)
    kept.forget("web")
    kept.open(WEB, str(path))
    assert kept.reaches(WEB) == 10
    pen.close()
    kept.close()


@in_loop
async def test_a_log_can_move_while_it_is_written(tmp_path: Path) -> None:
    """What was in the pipe goes to the old file, what follows to the new; followers are told."""
    old, new = tmp_path / "old", tmp_path / "new"
    kept = opened(old)
    over: list[str] = []
    kept.watch(WEB, Watcher(lambda: None, over.append))
    pen = Pen(kept)
    pen.write(b"one")
    kept.open(WEB, str(old))
    assert over == []
    kept.open(WEB, str(new))
    pen.write(b"two")
    await until_holds(new, b"two")
    assert old.read_bytes() == b"one"
    assert over == [f"the log goes on in {new}"]
    pen.close()
    kept.close()


@in_loop
async def test_a_log_that_cannot_be_opened_leaves_the_one_that_is_open(tmp_path: Path) -> None:
    """A mistake in a new configuration loses nothing."""
    path = tmp_path / "log"
    kept = opened(path)
    pen = Pen(kept)
    with pytest.raises(OSError, match="Not a directory"):
        kept.open(WEB, f"{path}/log")
    pen.write(b"still here")
    await until_holds(path, b"still here")
    pen.close()
    kept.close()
