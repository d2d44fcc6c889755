"""What the keeper decides, without a process."""

from __future__ import annotations

import os
import resource
import signal
import time
from typing import TYPE_CHECKING

import pytest

from procd.keeper import keeper as keepers
from procd.keeper.child import Child
from procd.keeper.keeper import Keeper
from procd.keeper.messages import EXIT
from procd.keeper.outside import Outside
from procd.keeper.pace import Pace
from procd.keeper.table import Room

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """One that has started nothing."""
    made = Keeper([Child("supervisor", ["true"], Room(10))], Outside({}), Pace(), ())
    yield made
    made._epoll.close()
    made._woken.close()
    made._waker.close()


def test_of_too_many_ends_the_oldest_are_given_up_and_counted(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the init of a container whose supervisor cannot start, it sees ends without end."""
    monkeypatch.setattr(keepers, "MOST_EXITS", 3)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    for pid in range(1, 6):
        keeper._remember_exit(pid, pid << 8, (1000 + pid, False), usage)
    table = keeper.first.table
    assert list(table) == [b"exit:3", b"exit:4", b"exit:5"]
    ends = [EXIT.unpack((table.get(key) or (b"", ()))[0][1:])[:2] for key in table]
    assert ends == [(3, 768), (4, 1024), (5, 1280)]
    assert keeper.exits_lost == 2
    table.drop(b"exit:4")
    keeper._remember_exit(6, 0, (0, False), usage)
    keeper._remember_exit(7, 0, (0, False), usage)
    assert keeper.exits_lost == 3


def test_an_error_of_its_own_is_said_and_survived(keeper: Keeper, capfd: pytest.CaptureFixture[str]) -> None:
    """And whoever may have died meanwhile is looked for."""

    def fails() -> bool:
        raise RuntimeError("impossible")

    assert keeper._guarded(fails) is False
    assert signal.SIGCHLD in keeper._noted
    # Standard error is a file here, which somebody else writes.
    pid, _ = os.waitpid(-1, 0)
    assert keeper.outside.reaped(pid)
    assert "RuntimeError: impossible; at keeper.py:" in capfd.readouterr().err


class Said(Outside):
    """Remembers what was to be said."""

    def __init__(self) -> None:
        super().__init__({})
        self.lines: list[str] = []
        self.told: list[bytes] = []

    def notify(self, text: bytes) -> None:
        """Tell nobody."""
        self.told.append(text)

    def say(self, text: str) -> None:
        """Say it to nobody."""
        self.lines.append(text)


def test_being_late_is_noticed_also_when_a_signal_came_first(keeper: Keeper) -> None:
    """Stopped at any moment, also right after a child was stopped with it: nobody is blamed for that time."""
    child = keeper.first
    keeper.outside = said = Said()
    now = time.monotonic()
    child.start_at_s = now + 1000
    keeper._beat_at_s = now - 5.0
    child.unanswered_s = now - 6.0
    keeper._noted.add(signal.SIGCHLD)
    keeper._wait()
    keeper._round(time.monotonic())
    assert [line[:18] for line in said.lines] == ["was not running fo"]
    assert child.unanswered_s == pytest.approx(now - 1.0, abs=1.0)


class Deaf(Child):
    """One whose process does not die; remembers what it was sent."""

    def __init__(self, name: str) -> None:
        super().__init__(name, ["true"], Room(10))
        self.pid = 1
        self.up = True
        self.sent: list[int] = []

    def signal(self, number: int) -> None:
        """Send it nothing."""
        self.sent.append(number)


def test_who_is_killed_and_does_not_die_is_waited_for_in_silence(keeper: Keeper) -> None:
    """A logger in front of a frozen disk: one SIGABRT, one SIGKILL, and nothing every few seconds."""
    supervisor, logger = Deaf("supervisor"), Deaf("logger")
    keeper.first, keeper.children = supervisor, [supervisor, logger]
    keeper.outside = said = Said()
    said.watchdog_s = 100.0
    for now in range(1, 1001):
        keeper._do_what_is_due(float(now))
        supervisor.unanswered_s = 0.0
    assert logger.sent == [signal.SIGABRT, signal.SIGKILL]
    assert len(said.lines) == 2
    assert min(keeper._moments()) == keeper._beat_at_s
    # systemd goes on hearing that all is well: programs run, and a supervisor cares for them.
    assert said.told.count(b"WATCHDOG=1") >= 1000 / keeper.pace.beat_s - 2
    told = len(said.told)
    for now in range(1001, 2001):
        keeper._do_what_is_due(float(now))
    assert supervisor.sent == [signal.SIGABRT, signal.SIGKILL]
    assert len(said.told) <= told + 2


def test_seconds_are_taken_from_arguments() -> None:
    """What is not understood is refused."""
    pace = Pace()
    pace.take(["beat=2.5", "grace=1"])
    assert (pace.beat_s, pace.grace_s, pace.patience_s) == (2.5, 1.0, 10.0)
    assert [pace.between_beats_s(watchdog_s) for watchdog_s in (0.0, 2.0, 60.0)] == [2.5, 1.0, 2.5]
    pace.take(["beat=0"])
    assert [pace.between_beats_s(watchdog_s) for watchdog_s in (0.0, 2.0)] == [float("inf"), 1.0]
    for wrong in ("beats=1", "beat=soon", "beat"):
        with pytest.raises(ValueError, match=r"is none of|could not convert"):
            pace.take([wrong])
