"""Readiness and health of one life: every kind of check, and nothing left when the life ends."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from procd.checks import HealthWatch, Means, Notification, Readiness
from procd.config.spec import Check, CheckKind, Health
from procd.errors import SpawnError
from tests.unit.checks.test_log_line import FakeLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.checks.fake_loop import FakeLoop

READY = Notification(ready=True)
COMMAND = Check(kind=CheckKind.COMMAND, command=("is-it", "up now"), interval_s=10.0, timeout_s=5.0)


class FakeCommands:
    """Runs nothing; the test says how each run ends."""

    def __init__(self) -> None:
        self.running: list[Callable[[str], None]] = []
        self.started: list[tuple[str, ...]] = []
        self.killed = 0
        self.missing = False

    def run(self, argv: tuple[str, ...], on_end: Callable[[str], None]) -> Callable[[], None]:
        """Begin a run."""
        self.started.append(argv)
        if self.missing:
            raise SpawnError("exec", errno.ENOENT, argv[0])
        self.running.append(on_end)
        return self._kill

    def _kill(self) -> None:
        self.killed += 1

    def end(self, failure: str = "") -> None:
        """End the oldest run."""
        self.running.pop(0)(failure)


@pytest.fixture
def commands() -> FakeCommands:
    """No command has run."""
    return FakeCommands()


class Story:
    """What was reported, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, check: Check, loop: FakeLoop, commands: FakeCommands, *logs: FakeLog) -> Readiness:
        """Ask for readiness."""
        means = Means(loop, commands.run, tuple(log.source() for log in logs))  # type: ignore[arg-type]
        readiness = Readiness(
            check, means, on_ready=lambda: self.told.append("ready"), on_failed=self.told.append
        )  # fmt: skip
        loop.advance(0)
        return readiness

    def watch(self, health: Health, loop: FakeLoop, commands: FakeCommands) -> HealthWatch:
        """Ask for health."""

        def failed(reason: str, *, final: bool) -> None:
            self.told.append((reason, final))

        means = Means(loop, commands.run)  # type: ignore[arg-type]
        return HealthWatch(health, means, on_passed=lambda: self.told.append("passed"), on_failed=failed)


@pytest.fixture
def story() -> Story:
    """Nothing was reported."""
    return Story()


def test_ready_by_notify(loop: FakeLoop, commands: FakeCommands, story: Story) -> None:
    """READY=1 makes it ready, once; until then one can say what is missing."""
    readiness = story.begin(Check(kind=CheckKind.NOTIFY), loop, commands)
    readiness.notified(Notification(status="almost"))
    assert readiness.reason == "has not sent READY=1"
    readiness.notified(READY)
    readiness.notified(READY)
    assert story.told == ["ready"]
    assert not loop.planned


def test_nothing_that_is_said_later_counts(loop: FakeLoop, commands: FakeCommands, story: Story) -> None:
    """A life that has ended does not become ready."""
    readiness = story.begin(Check(kind=CheckKind.NOTIFY), loop, commands)
    readiness.cancel()
    readiness.notified(READY)
    assert not story.told


def test_only_programs_that_should_notify_are_heard(
    loop: FakeLoop, commands: FakeCommands, story: Story
) -> None:
    """With another check READY=1 does not make it ready: a library may say so before the program can work."""
    readiness = story.begin(COMMAND, loop, commands)
    readiness.notified(READY)
    assert not story.told


def test_ready_by_command(loop: FakeLoop, commands: FakeCommands, story: Story) -> None:
    """It is run at once and at each interval until it exits with 0, then no more."""
    readiness = story.begin(COMMAND, loop, commands)
    commands.end("exited with status 2")
    assert story.told == ["command is-it 'up now': exited with status 2"]
    assert readiness.reason == story.told[0]
    loop.advance(10)
    commands.end()
    assert story.told[1:] == ["ready"]
    assert readiness.reason == ""
    assert commands.started == [COMMAND.command] * 2
    assert not loop.planned


def test_a_command_that_does_not_end_is_killed_and_not_joined_by_another(
    loop: FakeLoop, commands: FakeCommands, story: Story
) -> None:
    """One that cannot even be killed stays the only one."""
    story.begin(COMMAND, loop, commands)
    loop.advance(5)
    assert commands.killed == 1
    loop.advance(5)
    assert len(commands.started) == 1
    assert story.told == [
        "command is-it 'up now': no answer within 5s",
        "command is-it 'up now': the one before was killed and has not ended",
    ]
    commands.end("killed by SIGKILL")
    assert len(story.told) == 2, "nobody waits for that end"
    loop.advance(10)
    assert len(commands.started) == 2


def test_a_command_that_cannot_be_started_has_failed(
    loop: FakeLoop, commands: FakeCommands, story: Story
) -> None:
    """In words, and it is tried again: it may be there next time."""
    commands.missing = True
    story.begin(COMMAND, loop, commands)
    commands.missing = False
    loop.advance(10)
    commands.end()
    assert story.told == [
        "command is-it 'up now': exec 'is-it' failed: No such file or directory (ENOENT)", "ready",
    ]  # fmt: skip


def test_the_end_of_a_life_kills_the_command(loop: FakeLoop, commands: FakeCommands, story: Story) -> None:
    """And nothing is heard of it."""
    readiness = story.begin(COMMAND, loop, commands)
    readiness.cancel()
    readiness.cancel()
    assert commands.killed == 1
    commands.end()
    assert not story.told
    assert not loop.planned


def test_ready_by_a_line_of_any_of_its_logs(loop: FakeLoop, commands: FakeCommands, story: Story) -> None:
    """Both streams are looked at, and both are left when one has it."""
    out, err = FakeLog(), FakeLog()
    readiness = story.begin(Check(kind=CheckKind.LOG, pattern="^up$"), loop, commands, out, err)
    assert readiness.reason == "has not logged a line that matches ^up$"
    err.write(b"up\n")
    out.write(b"up\n")
    loop.advance(0)
    assert story.told == ["ready"]
    assert not out.watchers
    assert not err.watchers
    assert not loop.planned


@pytest.mark.parametrize(
    "check",
    [
        Check(kind=CheckKind.TCP, address="example.com:80"),
        Check(kind=CheckKind.HTTP, url="http://example.com/"),
    ],
)
def test_an_address_that_cannot_be_asked_never_passes(
    loop: FakeLoop, commands: FakeCommands, story: Story, check: Check
) -> None:
    """It says why each time, and stops nobody else."""
    readiness = story.begin(check, loop, commands)
    loop.advance(1)
    assert len(story.told) == 2
    assert "names other than localhost are not looked up" in readiness.reason
    readiness.cancel()
    assert not loop.planned


def test_health_is_asked_after_the_first_interval_and_for_ever(
    loop: FakeLoop, commands: FakeCommands, story: Story
) -> None:
    """Each answer is reported; counting is not done here."""
    watch = story.watch(Health(check=COMMAND), loop, commands)
    loop.advance(9.5)
    assert not commands.started
    for wait_s, failure in ((0.5, ""), (10.0, "exited with status 1"), (10.0, "")):
        loop.advance(wait_s)
        commands.end(failure)
    assert story.told == ["passed", ("command is-it 'up now': exited with status 1", False), "passed"]
    watch.cancel()
    watch.cancel()
    assert not loop.planned


def test_health_by_notify_is_a_watchdog(loop: FakeLoop, commands: FakeCommands, story: Story) -> None:
    """Silence is a failure that needs no second one."""
    health = Health(check=Check(kind=CheckKind.NOTIFY), watchdog_s=30.0)
    watch = story.watch(health, loop, commands)
    watch.notified(Notification(watchdog=True))
    loop.advance(30)
    assert story.told == ["passed", ("no WATCHDOG=1 within 30s", True)]
    watch.cancel()
    watch.notified(Notification(watchdog=True))
    assert len(story.told) == 2


def test_notifications_do_not_matter_to_other_health_checks(
    loop: FakeLoop, commands: FakeCommands, story: Story
) -> None:
    """They may come all the same."""
    watch = story.watch(Health(check=COMMAND), loop, commands)
    watch.notified(Notification(watchdog=True))
    watch.cancel()
    assert not story.told
