"""When a child has started is what the kernel says, whether it was asked or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from procd.process import start_times
from procd.process.start_times import StartTimes, ticks
from procd.process.tree import start_time

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The PIDs of which the kernel was asked."""
    found: list[int] = []

    def ask(pid: int) -> int | None:
        found.append(pid)
        return start_time(pid)

    monkeypatch.setattr(start_times, "start_time", ask)
    return found


def children(count: int) -> Iterator[tuple[int, int]]:
    """Children that wait, with the moment before each."""
    for _ in range(count):
        began = ticks()
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        yield pid, began
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_it_is_what_the_kernel_says(asked: list[int]) -> None:
    """Of the first it is asked, and of those that were on the way when a tick was over."""
    times = StartTimes()
    for pid, began in children(300):
        assert times.of_child(pid, began) == start_time(pid)
    assert 1 <= len(asked) < 150


def test_a_clock_that_is_not_the_kernels_is_not_believed(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody pretends to be Linux: then it is asked each time."""
    monkeypatch.setattr(start_times, "ticks", lambda: 7)
    times = StartTimes()
    for pid, _ in children(10):
        assert times.of_child(pid, 7) == start_time(pid)
    assert len(asked) == 10


def test_who_is_gone_has_no_start() -> None:
    """Somebody else has reaped it."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    assert StartTimes().of_child(pid, ticks()) == 0
