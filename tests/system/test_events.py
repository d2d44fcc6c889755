"""Events of a real daemon, over its end, its death, and a disk that takes none."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from tests.kernel.children import needs_root
from tests.system.daemon import HEAD, run, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.daemon import Daemon

CONFIGURATION = """
[programs.web]
command = ["sleep", "infinity"]
"""


def events(daemon: Daemon, *words: str) -> list[dict[str, Any]]:
    """What procctl shows."""
    return [json.loads(line) for line in daemon.does("--json", "events", *words).splitlines()]


def kept(daemon: Daemon) -> list[dict[str, Any]]:
    """What stands in the log of events."""
    path = daemon.directory / "state/events.log"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def steps(daemon: Daemon) -> list[str]:
    """The states that `why` says the program went through."""
    history = daemon.json("why", "web")["history"]
    assert [step["ago_s"] for step in history] == sorted((step["ago_s"] for step in history), reverse=True)
    return [step["new"] for step in history]


def test_events_and_why_outlive_a_restart(start_daemon: Callable[..., Daemon]) -> None:
    """With the same numbers, and new ones after them; whoever follows misses nothing and sees nothing twice."""
    daemon = start_daemon(CONFIGURATION)
    daemon.until_state("web", "RUNNING")
    daemon.does("stop", "web")
    before = events(daemon)
    with daemon.procctl_running("--json", "events", "-f") as following:
        assert following.stdout is not None
        seen = [json.loads(following.stdout.readline()) for _ in before]
        assert daemon.stop() == 0
        daemon.start()
        daemon.until_state("web", "RUNNING")
        after = events(daemon)
        seen += [json.loads(following.stdout.readline()) for _ in after[len(before) :]]
    assert after[: len(before)] == before
    assert seen == after
    assert [event["seq"] for event in after] == list(range(1, len(after) + 1))
    assert [event["type"] for event in after if event["program"] is None] == [
        "started",
        "ended",
        "started",
    ]
    assert events(daemon, "--since", str(len(after) - 1)) == after[-1:]
    assert steps(daemon) == [
        "WAITING",
        "STARTING",
        "RUNNING",
        "STOPPING",
        "STOPPED",
        "WAITING",
        "STARTING",
        "RUNNING",
    ]


def test_numbers_do_not_go_back_after_a_kill(start_daemon: Callable[..., Daemon]) -> None:
    """What was lost with the daemon leaves a hole, and a line that says so."""
    daemon = start_daemon(CONFIGURATION)
    daemon.until_state("web", "RUNNING")
    until(lambda: [event["type"] for event in kept(daemon)].count("transition") == 3)
    before = events(daemon)
    daemon.kill_all()
    daemon.start()
    daemon.until_state("web", "RUNNING")
    after = events(daemon)
    assert after[: len(before)] == before
    started = after[len(before)]
    assert started["type"] == "started"
    assert "killed" in started["after"]
    assert started["seq"] > before[-1]["seq"] + 1000
    numbers = [event["seq"] for event in after]
    assert numbers == sorted(set(numbers))
    # A client that saw what the log has lost goes on with what is new.
    assert events(daemon, "--since", str(before[-1]["seq"] + 500)) == after[len(before) :]


def test_a_stuck_logger_keeps_no_event_from_whoever_watches(start_daemon: Callable[..., Daemon]) -> None:
    """They come to the disk later; nothing waits for that."""
    daemon = start_daemon(CONFIGURATION)
    daemon.until_state("web", "RUNNING")
    logger = daemon.logger
    os.kill(logger, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        for _ in range(20):
            daemon.does("restart", "web")
        assert [event["type"] for event in events(daemon)].count("transition") >= 3 + 20 * 4
        assert time.monotonic() - began_s < 60
        written = len(kept(daemon))
    finally:
        os.kill(logger, signal.SIGCONT)
    until(lambda: kept(daemon) == events(daemon))
    assert len(kept(daemon)) >= written + 20 * 4


def test_a_state_dir_that_cannot_be_made_is_told(make_daemon: Callable[..., Daemon]) -> None:
    """It is no reason not to start programs."""
    daemon = make_daemon(CONFIGURATION, head=HEAD.replace('"state"', '"procd.toml/state"')).start()
    daemon.until_state("web", "RUNNING")
    until(lambda: "log trouble" in [event["type"] for event in events(daemon)])
    daemon.until_said("events.log")


@needs_root
def test_a_state_dir_that_cannot_be_written_is_told(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """The daemon runs, and so do its programs; the events are those of this daemon."""
    place = tmp_path / "read-only"
    place.mkdir()
    daemon = make_daemon(CONFIGURATION, head=HEAD.replace('"state"', f'"{place}"'))
    assert run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "procd-test", place]).code == 0
    try:
        daemon.start()
        daemon.until_state("web", "RUNNING")
        until(lambda: "log trouble" in [event["type"] for event in events(daemon)])
        trouble = next(event for event in events(daemon) if event["type"] == "log trouble")
        assert trouble["program"] is None
        assert trouble["path"] == f"{place}/events.log"
        assert "Read-only file system" in trouble["reason"]
        daemon.until_said("log cannot be written")
        assert run(["mount", "-o", "remount,rw", place]).code == 0
        until((place / "events.log").exists)
        daemon.does("restart", "web")
        until(lambda: b"RUNNING" in (place / "events.log").read_bytes())
        daemon.stop()
    finally:
        run(["umount", "-l", place])
