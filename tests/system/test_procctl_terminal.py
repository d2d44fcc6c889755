"""procctl on a real terminal (a pty): what fits, what moves, what is coloured, and what Ctrl-C does."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.system.daemon import BOUND_S, PROCCTL, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

CONFIGURATION = """
[programs.quiet]
command = ["sleep", "infinity"]
instances = 2

[programs.roll]
command = ["sleep", "infinity"]
instances = 3
ready = { command = ["sleep", "2.5"] }

[programs.deaf]
command = "trap '' TERM; while :; do sleep 0.1; done"
shell = true
stop_timeout = "3s"

[programs.broken]
command = "exit 3"
shell = true
backoff = { initial = "1h", max = "1h", jitter = 0 }
description = "fails"
"""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ERASE = "\r\x1b[K"


def terminal(shared: Daemon, *words: str, columns: int = 100, **environment: str) -> pexpect.spawn:
    """Start procctl on a terminal of that width."""
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    running = pexpect.spawn(
        PROCCTL[0], [*PROCCTL[1:], "-s", str(shared.socket), *words], dimensions=(24, columns), timeout=BOUND_S,
        env={**inherited, "TERM": "xterm", **environment}, encoding="utf-8",
    )  # fmt: skip
    # For whoever reads of a failure.
    running.logfile_read = sys.stdout
    return running


def shown(shared: Daemon, *words: str, columns: int = 100, **environment: str) -> str:
    """What procctl writes onto a terminal, to its end."""
    running = terminal(shared, *words, columns=columns, **environment)
    running.expect(pexpect.EOF)
    running.close()
    text: str = running.before
    return text.replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(shared: Daemon, columns: int) -> None:
    """It is cut, and never wrapped."""
    shared.until_state("broken", "BACKOFF")
    lines = COLOUR.sub("", shown(shared, "status", columns=columns)).splitlines()
    assert lines[0].startswith("NAME")
    assert max(map(len, lines)) <= columns
    assert lines[-1].startswith("7 programs: ")
    causes = [line for line in lines if "exited with" in line]
    assert len(causes) == 1, "the cause is told on every terminal"
    if columns == 200:
        assert re.search(r"exited with status 3 after \S+; .* restart in 1h|59m", causes[0])


def test_a_pipe_gets_all_of_it(shared: Daemon) -> None:
    """Neither cut, nor coloured, nor counted."""
    shared.until_state("broken", "BACKOFF")
    lines = shared.does("status").splitlines()
    assert len(lines) == 8
    assert "; restart in " in next(line for line in lines if line.startswith("broken"))
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_states_are_coloured(shared: Daemon, environment: dict[str, str], coloured: bool) -> None:
    """Green for what runs, red for what fails; and not where nobody wants it."""
    shared.until_state("quiet@0", "RUNNING")
    shared.until_state("broken", "BACKOFF")
    text = shown(shared, "status", **environment)
    assert ("\x1b[32mRUNNING\x1b[0m" in text, "\x1b[31mBACKOFF\x1b[0m" in text) == (coloured, coloured)
    assert ("\x1b[" in text) is coloured


def test_a_long_stop_shows_how_long(shared: Daemon) -> None:
    """Once a second, in one line that is gone in the end."""
    shared.until_state("deaf", "RUNNING")
    text = shown(shared, "stop", "deaf", "quiet@1")
    looks = [part for part in text.split(ERASE) if part.startswith("stopping")]
    # The last look may find both at rest, just before the answer.
    assert any("deaf" in look for look in looks), looks
    assert all(re.fullmatch(r"stopping( deaf)? \(\d+ s( of \d+ s)?\)…", look) for look in looks), looks
    answer = text.split(ERASE)[-1].splitlines()
    assert [line.split(",")[0] for line in answer] == ["quiet@1: STOPPED", "deaf: STOPPED", "2 of 2 done"]
    shared.does("start", "deaf", "quiet@1")


def test_a_long_shutdown_shows_who_it_waits_for(start_daemon: Callable[..., Daemon]) -> None:
    """Not those that have ended; and the line is gone in the end."""
    daemon = start_daemon(CONFIGURATION)
    daemon.until_state("deaf", "RUNNING")
    daemon.until_state("broken", "BACKOFF")
    text = shown(daemon, "shutdown")
    *looks, answer = text.split(ERASE)
    assert any(re.fullmatch(r"stopping deaf \(\d+ s of \d+ s\)…", look) for look in looks), looks
    assert not any("broken" in look for look in looks), looks
    assert answer == "procd has stopped every program and ended\n"
    assert daemon.wait() == 0


def test_a_shutdown_that_takes_too_long_is_left_alone(start_daemon: Callable[..., Daemon]) -> None:
    """After --timeout procctl says so; the shutdown goes on."""
    daemon = start_daemon(CONFIGURATION)
    daemon.until_state("deaf", "RUNNING")
    running = terminal(daemon, "shutdown", "--timeout", "1.5s")
    running.expect_exact("procctl: the daemon did not end within 1.5s")
    running.expect(pexpect.EOF)
    running.close()
    assert running.exitstatus == 7
    assert daemon.wait() == 0


def test_progress_is_for_terminals(shared: Daemon) -> None:
    """Not for a file, and not where a line cannot be rewritten."""
    shared.until_state("deaf", "RUNNING")
    assert "stopping" not in shown(shared, "stop", "deaf", TERM="dumb")
    shared.does("start", "deaf")
    done = shared.procctl("stop", "deaf")
    assert (done.code, done.err) == (0, "")
    shared.does("start", "deaf")


def test_a_rolling_restart_tells_each_instance(shared: Daemon) -> None:
    """A line when it is there, before the next one begins."""
    for instance in range(3):
        shared.until_state(f"roll@{instance}", "RUNNING")
    running = terminal(shared, "restart", "roll", "--rolling")
    running.expect_exact("restarting roll@0 (")
    running.expect_exact(f"{ERASE}roll@0: RUNNING\r\n")
    assert shared.record("roll@2")["restarts"] == 0
    running.expect_exact(f"{ERASE}roll@1: RUNNING\r\n")
    running.expect_exact("3 of 3 done")
    running.expect(pexpect.EOF)
    running.close()
    assert running.exitstatus == 0


def test_what_a_program_writes_is_shown_and_not_obeyed(shared: Daemon) -> None:
    """By `run -f`; it exits as the program did."""
    running = terminal(shared, "run", "--rm", "-f", "--", "sh", "-c", r"printf 'a\033[2Jb\n'; exit 7")
    running.expect_exact("a\\x1b[2Jb\r\n")
    running.expect(pexpect.EOF)
    running.close()
    assert running.exitstatus == 7


def test_ctrl_c_leaves_a_program_that_was_run(shared: Daemon) -> None:
    """And says how to stop it; only the showing ends."""
    running = terminal(shared, "run", "--name", "stays", "-f", "--", "sh", "-c", "echo up; exec sleep 1000")
    running.expect_exact("up\r\n")
    running.sendintr()
    running.expect_exact("procctl: stays goes on; `procctl stop stays` stops it")
    running.expect(pexpect.EOF)
    running.close()
    assert running.exitstatus == 130
    assert shared.record("stays")["pid"] is not None
    shared.does("stop", "stays")


def test_ctrl_c_with_rm_takes_the_program_away(shared: Daemon) -> None:
    """It was only there for whoever looked at it."""
    running = terminal(
        shared, "run", "--name", "goes", "--rm", "-f", "--", "sh", "-c", "echo up; exec sleep 1000"
    )
    running.expect_exact("up\r\n")
    running.sendintr()
    running.expect(pexpect.EOF)
    running.close()
    assert running.exitstatus == 130
    until(lambda: "goes" not in shared.records(), "the program to be forgotten")


def test_following_events_ends_with_ctrl_c(shared: Daemon) -> None:
    """Without a traceback."""
    running = terminal(shared, "--json", "events", "-f")
    assert json.loads(running.readline())["seq"] == 1
    running.sendintr()
    running.expect(pexpect.EOF)
    running.close()
    assert (running.exitstatus, "Traceback" in running.before) == (130, False)
