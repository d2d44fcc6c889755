"""A logger that is killed with SIGKILL, again and again, loses no byte and doubles none."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from procd.output import messages
from tests.kernel.children import PROGRAMS
from tests.kernel.logger_daemon import BOUND_S, FakeDaemon, spec, whole_log, written
from tests.programs.output_random import content

if TYPE_CHECKING:
    from pathlib import Path


def write_random(write_end: int, seed: int, size: int) -> subprocess.Popen[bytes]:
    """Start a program that writes `content(seed, size)`."""
    command = [sys.executable, PROGRAMS / "output_random.py", str(seed), str(size)]
    child = subprocess.Popen(command, stdout=write_end)
    os.close(write_end)
    return child


KILLS = 25
WITHOUT_SPLICE = str(PROGRAMS / "logger_without_splice.py")


@pytest.mark.parametrize(
    ("form", "program"),
    [("raw", ()), ("raw", (WITHOUT_SPLICE,)), ("timestamp", ()), ("json", ())],
    ids=["raw", "raw, without splice", "timestamp", "json"],
)
@pytest.mark.parametrize("max_size", [None, 300_000], ids=["one file", "rotated"])
def test_every_byte_is_in_the_log_once_however_often_the_logger_is_killed(
    tmp_path: Path, form: str, program: tuple[str, ...], max_size: int | None
) -> None:
    """Three programs write 5 MB each; the logger is killed some ms after it began, until they are done."""
    size, seeds = 5_000_000, (1, 2, 3)
    daemon = FakeDaemon(*program)
    paths = {seed: tmp_path / f"{seed}.log" for seed in seeds}
    children = []
    for seed in seeds:
        daemon.open(seed, spec(paths[seed], format=form, max_size=max_size, keep=1000))
        children.append(write_random(daemon.attach(seed), seed, size))
    moments = random.Random(0)  # noqa: S311 - any moments
    kills = 0
    while daemon.pipes:
        daemon.hears(messages.READY)
        daemon.until_or(lambda: not daemon.pipes, moments.uniform(0, 0.004) if kills < KILLS else BOUND_S)
        if daemon.pipes:
            daemon.kill()
            kills += 1
    assert kills >= 3
    assert daemon.troubles == []
    assert [child.wait() for child in children] == [0, 0, 0]
    for seed in seeds:
        expected = content(seed, size)
        if form != "raw" and not expected.endswith(b"\n"):
            expected += b"\n"
        log = whole_log(paths[seed])
        assert written(log, form) == expected
        assert daemon.board.end(seed) == len(log)
        assert daemon.board.start(seed) == len(log) - paths[seed].stat().st_size
        assert daemon.board.dropped(seed) == 0
    daemon.close()


@pytest.mark.parametrize("form", ["raw", "json"])
def test_a_program_begins_in_the_log_where_it_did_whoever_tells(tmp_path: Path, form: str) -> None:
    """The answer may die with the logger, or with who asked, and something is written before the next."""
    path = tmp_path / "log"
    daemon = FakeDaemon()
    daemon.open(1, spec(path, format=form))
    for _ in range(3):
        write_end = daemon.attach(1, tell=True)
        begun = daemon.hears(messages.BEGUN, 1)
        assert begun[3] == path.stat().st_size
        os.write(write_end, b"ready\n")
        daemon.sync(1)
        daemon.kill()
        assert daemon.hears(messages.BEGUN, 1) == begun
        os.close(write_end)
        daemon.hears(messages.ENDED, 1, begun[2])
    daemon.close()
