"""Keeping programs running: deaths, wishes, reloads and the end of the daemon."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import HEAD, alive, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

SLEEPER = """
[programs.{name}]
command = ["sleep", "infinity"]
"""


def sleepers(*names: str) -> str:
    """Programs that do nothing."""
    return "".join(SLEEPER.format(name=name) for name in names)


#: Says "deaf", then ignores SIGTERM; `exec` makes it the only process of its program.
DEAF = """
[programs.deaf]
command = "trap '' TERM; echo deaf; exec sleep infinity"
shell = true
stop_timeout = "1h"
"""


# Deaths


def test_a_program_that_is_killed_comes_back(start_daemon: Callable[..., Daemon]) -> None:
    """At once, because it had run well; the others are left alone."""
    daemon = start_daemon(sleepers("victim", "other"))
    daemon.until_state("victim", "RUNNING")
    daemon.until_state("other", "RUNNING")
    before = daemon.pids()
    os.kill(daemon.process("victim"), signal.SIGKILL)
    until(lambda: daemon.record("victim")["pid"] not in {None, before["victim"]}, "another process")
    record = daemon.until_state("victim", "RUNNING")
    assert (record["restarts"], record["exit"]) == (1, {"signal": signal.SIGKILL, "core_dumped": False})
    assert daemon.pids()["other"] == before["other"]


def test_who_is_left_of_its_group_does_not_hinder_the_next_life(start_daemon: Callable[..., Daemon]) -> None:
    """A worker that holds what the program needs is gone before the program is started again."""
    daemon = start_daemon("""
        [programs.locked]
        command = "flock -n lock sleep infinity & echo worker $!; wait"
        shell = true
        directory = "."
        """)
    daemon.until_output("locked", b"worker")
    worker = int(daemon.output("locked").split()[1])
    until(lambda: daemon.record("locked")["state"] == "RUNNING", "it to run")
    os.kill(daemon.process("locked"), signal.SIGKILL)
    until(lambda: daemon.output("locked").count(b"worker") == 2, "the second life")
    assert daemon.until_state("locked", "RUNNING")["restarts"] == 1
    assert not alive(worker)


def test_a_program_that_dies_at_once_waits_longer_each_time(start_daemon: Callable[..., Daemon]) -> None:
    """It is in BACKOFF with a reason, up to a bound, and costs the others nothing."""
    daemon = start_daemon(
        sleepers("other")
        + """
        [programs.dies]
        command = "echo life; exit 7"
        shell = true
        backoff = { initial = "10ms", factor = 2, max = "40ms", jitter = 0 }
        """
    )
    other = daemon.until_state("other", "RUNNING")["pid"]
    until(lambda: daemon.record("dies")["restarts"] >= 5, "five failed starts")
    record = daemon.until_state("dies", "BACKOFF")
    assert record["exit"] == {"code": 7}
    assert "failed start" in record["reason"]
    assert record["next"] is None or record["next"]["in_s"] <= 0.04
    assert daemon.process("other") == other
    assert daemon.output("dies").count(b"life\n") <= daemon.record("dies")["restarts"] + 1


def test_a_start_by_hand_does_not_wait_for_the_backoff(start_daemon: Callable[..., Daemon]) -> None:
    """Somebody has mended what was wrong, and says so."""
    daemon = start_daemon("""
        [programs.needs]
        command = "cat needed && exec sleep infinity"
        shell = true
        directory = "."
        backoff = { initial = "1h", max = "1h" }
        """)
    daemon.until_state("needs", "BACKOFF")
    (daemon.directory / "needed").touch()
    assert daemon.does("start", "needs").startswith("needs: RUNNING")


# Wishes


def test_what_was_stopped_by_hand_stays_stopped(start_daemon: Callable[..., Daemon]) -> None:
    """Neither a reload nor a change of its own configuration starts it; a start does."""
    daemon = start_daemon(sleepers("stopped", "other"))
    daemon.until_state("stopped", "RUNNING")
    daemon.does("stop", "stopped")
    daemon.write(sleepers("stopped", "other") + 'environment = { A = "other" }\n')
    daemon.does("reload")
    daemon.write(sleepers("other", "stopped") + 'environment = { A = "stopped" }\n')
    daemon.does("reload")
    daemon.until_state("other", "RUNNING")
    record = daemon.record("stopped")
    assert (record["state"], record["desired"]) == ("STOPPED", "down")
    daemon.does("start", "stopped")


def test_a_stop_during_the_backoff_is_at_once_and_stays(start_daemon: Callable[..., Daemon]) -> None:
    """There is nothing to wait for; the planned restart is off."""
    daemon = start_daemon("""
        [programs.dies]
        command = ["false"]
        backoff = { initial = "1h", max = "1h" }
        """)
    daemon.until_state("dies", "BACKOFF")
    daemon.does("stop", "dies")
    record = daemon.record("dies")
    assert (record["state"], record["next"]) == ("STOPPED", None)


# Reloads


def _reload_by_procctl(daemon: Daemon) -> None:
    daemon.does("reload")


def _reload_by_signal(daemon: Daemon) -> None:
    done = daemon.said.read_text().count("configuration reloaded")
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.said.read_text().count("configuration reloaded") > done, "the reload")


@pytest.mark.parametrize("reload", [_reload_by_procctl, _reload_by_signal])
def test_a_reload_touches_what_has_changed_and_nothing_else(
    start_daemon: Callable[..., Daemon], reload: Callable[[Daemon], None]
) -> None:
    """One comes, one goes, one is restarted, one takes its new value over; the rest keep their processes."""
    daemon = start_daemon(sleepers("stays", "goes", "takes", "changes"))
    for name in ("stays", "goes", "takes", "changes"):
        daemon.until_state(name, "RUNNING")
    before = daemon.pids()
    daemon.write(
        sleepers("stays", "comes")
        + (SLEEPER.format(name="takes") + 'description = "other words"\n')
        + (SLEEPER.format(name="changes") + 'environment = { A = "b" }\n')
    )
    reload(daemon)
    until(lambda: "goes" not in daemon.records(), "the removed program to be forgotten")
    for name in ("comes", "changes"):
        until(lambda name=name: daemon.record(name)["pid"] not in {None, before.get(name)}, name)
    after = daemon.pids()
    assert (after["stays"], after["takes"]) == (before["stays"], before["takes"])
    assert daemon.record("takes")["description"] == "other words"
    assert not alive(before["goes"] or 0)


def test_more_instances_start_only_those(start_daemon: Callable[..., Daemon]) -> None:
    """And fewer stop only those."""
    daemon = start_daemon(sleepers("many") + "instances = 2\n")
    daemon.until_state("many@1", "RUNNING")
    before = daemon.pids()
    daemon.write(sleepers("many") + "instances = 3\n")
    assert daemon.does("reload") == "many@2: add\n"
    after = daemon.pids()
    assert {name: after[name] for name in before} == before
    assert alive(daemon.process("many@2"))
    daemon.write(sleepers("many") + "instances = 2\n")
    assert daemon.does("reload") == "many@2: remove\n"
    until(lambda: daemon.pids() == before, "the third to be gone")


def test_a_reload_of_a_bad_configuration_changes_nothing(start_daemon: Callable[..., Daemon]) -> None:
    """All its problems are printed, with their lines."""
    daemon = start_daemon(sleepers("stays"))
    before = daemon.until_state("stays", "RUNNING")["pid"]
    daemon.write(sleepers("other") + 'colour = "blue"\nstop_signal = "NOSUCH"\n')
    done = daemon.procctl("reload")
    assert done.code == 1
    assert done.err.startswith("procctl: the configuration has 2 problems; nothing was changed\n")
    line = daemon.configuration.read_text().splitlines().index('colour = "blue"') + 1
    assert f"\n{daemon.configuration}:{line}: programs.other.colour: " in done.err
    assert f"\n{daemon.configuration}:{line + 1}: programs.other.stop_signal: " in done.err
    assert daemon.pids() == {"stays": before}
    daemon.signal(signal.SIGHUP)
    until(lambda: "configuration refused" in daemon.said.read_text(), "the refusal in the log")
    assert daemon.pids() == {"stays": before}


def test_a_dry_run_shows_the_plan_and_changes_nothing(start_daemon: Callable[..., Daemon]) -> None:
    """The same lines as the reload itself."""
    daemon = start_daemon(sleepers("goes"))
    before = daemon.until_state("goes", "RUNNING")["pid"]
    daemon.write(sleepers("comes"))
    planned = daemon.does("reload", "--dry-run")
    assert planned == "goes: remove\ncomes: add\n"
    assert daemon.pids() == {"goes": before}
    assert daemon.does("reload") == planned
    assert daemon.does("reload") == "nothing changes\n"


def test_a_configuration_named_by_a_relative_path_is_found_again(make_daemon: Callable[..., Daemon]) -> None:
    """Although procd works in another directory than it was started in."""
    daemon = make_daemon(sleepers("one")).start("run", "-c", "procd.toml")
    assert daemon.does("reload") == "nothing changes\n"


# The end of the daemon


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(start_daemon: Callable[..., Daemon], number: signal.Signals) -> None:
    """Exit status 0, no process, no socket; the next one can start."""
    daemon = start_daemon(sleepers("one", "two"))
    daemon.until_state("two", "RUNNING")
    pids = daemon.pids().values()
    daemon.signal(number)
    assert daemon.wait() == 0
    assert not any(alive(pid) for pid in pids if pid)
    assert not daemon.socket.exists()
    daemon.start()


def test_while_it_stops_it_answers_and_starts_nothing(start_daemon: Callable[..., Daemon]) -> None:
    """Only when the last program is gone the socket goes; a second signal does not wait for stop_timeout."""
    daemon = start_daemon(DEAF + sleepers("quick"))
    daemon.until_output("deaf", b"deaf")
    daemon.signal(signal.SIGTERM)
    daemon.until_state("quick", "STOPPED")
    assert daemon.record("deaf")["state"] == "STOPPING"
    for words in (["start", "quick"], ["restart", "quick"], ["reload"]):
        done = daemon.procctl(*words)
        assert (done.code, "shutting down" in done.err) == (1, True), done
    pid = daemon.process("deaf")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not alive(pid)


def test_shutdown_timeout_bounds_everything(start_daemon: Callable[..., Daemon]) -> None:
    """Also where a program would have an hour."""
    daemon = start_daemon(DEAF, head=HEAD.replace("[defaults]", 'shutdown_timeout = "100ms"\n[defaults]'))
    daemon.until_output("deaf", b"deaf")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_procctl_shutdown_waits_as_long_as_it_takes(start_daemon: Callable[..., Daemon]) -> None:
    """With a timeout of its own it says that it has not ended yet."""
    daemon = start_daemon(DEAF)
    daemon.until_output("deaf", b"deaf")
    assert daemon.procctl("--timeout", "100ms", "shutdown").code == 7
    os.kill(daemon.process("deaf"), signal.SIGKILL)
    assert daemon.wait() == 0
