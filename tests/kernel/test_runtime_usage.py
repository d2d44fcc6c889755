"""What processes have used: as the kernel tells it, quickly for many, and with no descriptor left."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from procd.runtime import identity
from procd.runtime.identity import Usages, usage
from tests.kernel.children import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from procd.runtime.identity import Usage


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs when it is told to."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Some processes that do nothing."""
    started = [subprocess.Popen(["sleep", "1000"]) for _ in range(6)]
    try:
        # Until then they use more from one look to the next.
        until(lambda: all(comm_of(each) == "sleep" and stat_of(each)[0] == "S" for each in started))
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes are many, and nine are too many."""
    monkeypatch.setattr(identity, "FEWEST_KEPT", 3)
    monkeypatch.setattr(identity, "MOST_KEPT", 8)


def test_it_is_what_ps_says() -> None:
    """Processor time of all threads, and resident memory."""
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy:
        try:
            until(lambda: usage_of(busy).cpu_s > 0.3)
            # Its clock stands still while we look at it twice.
            busy.send_signal(signal.SIGSTOP)
            until(lambda: stat_of(busy)[0] == "T")
            fields = stat_of(busy)
            ticks = int(fields[11]) + int(fields[12])
            found = usage_of(busy)
            # The kernel's ticks are samples or rounded down, the clock is exact.
            assert abs(ticks / os.sysconf("SC_CLK_TCK") - found.cpu_s) < 0.1
            # The two files count pages a little differently (proc(5): "inaccurate").
            assert abs(found.rss_bytes - int(fields[21]) * os.sysconf("SC_PAGE_SIZE")) < 1 << 20
        finally:
            busy.kill()


def until(true: Callable[[], bool]) -> None:
    """Wait for a condition under a bound."""
    deadline_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def usage_of(process: subprocess.Popen[bytes]) -> Usage:
    """What a process has used that is there."""
    found = usage(process.pid)
    assert found is not None
    return found


def comm_of(process: subprocess.Popen[bytes]) -> str:
    """What a process is called."""
    return Path(f"/proc/{process.pid}/comm").read_text().strip()


def stat_of(process: subprocess.Popen[bytes]) -> list[str]:
    """The fields of /proc/PID/stat from the third on."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()


def test_many_are_as_each_by_itself(
    loop: asyncio.AbstractEventLoop, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    """The first time and the next; one that has ended is None."""
    usages = Usages(loop)
    pids = [each.pid for each in sleepers]
    for _ in range(2):
        assert usages.of(pids) == {pid: usage(pid) for pid in pids}
    sleepers[0].kill()
    sleepers[0].wait()
    assert usages.of(pids)[pids[0]] is None
    assert usages.of(pids)[pids[1]] is not None
    usages.close()


def test_their_files_stay_open_for_a_while(
    loop: asyncio.AbstractEventLoop,
    sleepers: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many as were asked for last; a few, or too many, keep none; and none is left when nobody asks."""
    monkeypatch.setattr(identity, "KEPT_S", 0.2)
    before = open_descriptors()
    usages = Usages(loop)
    pids = [each.pid for each in sleepers]
    usages.of(pids[:2])
    assert open_descriptors() == before
    usages.of([*pids, 1, os.getpid(), os.getppid()])
    assert open_descriptors() == before
    usages.of(pids)
    assert len(open_descriptors()) == len(before) + 6
    usages.of(pids[3:])
    assert len(open_descriptors()) == len(before) + 3
    loop.run_until_complete(asyncio.sleep(0.3))
    assert open_descriptors() == before
    usages.of(pids)
    usages.close()
    assert open_descriptors() == before


def test_a_number_that_is_anothers_now_is_looked_up_again(
    loop: asyncio.AbstractEventLoop, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    """The file that is open tells that its process is gone."""
    usages = Usages(loop)
    pids = [each.pid for each in sleepers]
    usages.of(pids)
    # What a recycled number looks like: an open file of a process that is gone.
    kept = usages._kept
    kept[pids[0]], kept[pids[1]] = kept[pids[1]], kept[pids[0]]
    sleepers[0].kill()
    sleepers[0].wait()
    assert usages.of(pids[1:]) == {pid: usage(pid) for pid in pids[1:]}
    usages.close()


def test_where_descriptors_are_few_none_is_kept(
    loop: asyncio.AbstractEventLoop,
    sleepers: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are for programs: what `status` keeps open is a small share of what procd may have."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    usages = Usages(loop)
    before = open_descriptors()
    assert None not in usages.of([each.pid for each in sleepers]).values()
    assert open_descriptors() == before
