"""When a stop is reported, no process of that program is left."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import alive, marked, python, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon


def test_a_child_that_ignores_the_signal_is_killed_in_the_end(start_daemon: Callable[..., Daemon]) -> None:
    """Its parent obeyed at once; it has until stop_timeout, and its name is told."""
    daemon = start_daemon("""
        [programs.family]
        command = "(trap '' TERM; echo child $(exec sh -c 'echo $PPID'); sleep infinity) & wait"
        shell = true
        stop_timeout = "200ms"
        """)
    daemon.until_output("family", b"child ")
    child = until(lambda: daemon.output("family").split()[1:], "its PID")
    answer = daemon.does("stop", "family")
    assert answer.startswith("family: STOPPED")
    assert "killed what was left" in answer
    assert f"(pid {int(child[0])})" in answer
    assert not alive(int(child[0]))


def test_a_daemon_that_left_its_session_is_found(start_daemon: Callable[..., Daemon]) -> None:
    """A double fork and setsid, as the textbooks say."""
    daemon = start_daemon(f"""
        [programs.daemon]
        command = {python("daemonize.py", "keep", "stay")}
        stdin = "pipe"
        """)
    left = int(until(lambda: daemon.output("daemon").strip(), "the PID of what left"))
    assert os.getsid(left) != os.getsid(daemon.process("daemon"))
    daemon.does("stop", "daemon")
    assert not alive(left)


@pytest.mark.parametrize("asked", [True, False], ids=["stopped", "left alone"])
def test_what_a_program_left_behind_when_it_ended_is_found(
    start_daemon: Callable[..., Daemon], *, asked: bool
) -> None:
    """It put itself into the background; that is an end, and nothing of it lives on."""
    daemon = start_daemon(f"""
        [programs.daemon]
        command = {python("daemonize.py", "keep", "leave")}
        restart = "never"
        """)
    daemon.until_state("daemon", "EXITED")
    ours = {daemon.pid, daemon.supervisor, daemon.logger}
    if asked:
        daemon.does("stop", "daemon")
        assert set(marked(daemon.mark)) == ours
    until(lambda: set(marked(daemon.mark)) == ours, "only procd to be left")


def test_twenty_that_ignore_the_signal_take_as_long_as_one(start_daemon: Callable[..., Daemon]) -> None:
    """They are stopped side by side: twenty times half a second would be ten."""
    daemon = start_daemon("""
        [programs.deaf]
        command = "trap '' TERM; echo deaf; exec sleep infinity"
        shell = true
        instances = 20
        stop_timeout = "500ms"
        """)
    for number in range(20):
        daemon.until_output(f"deaf@{number}", b"deaf")
    pids = [pid for pid in daemon.pids().values() if pid]
    began_s = time.monotonic()
    answer = daemon.does("stop", "deaf")
    assert time.monotonic() - began_s < 20 * 0.5 / 2
    assert answer.count("STOPPED") == 20
    assert answer.count("did not stop within 500ms, killed") == 20
    assert len(pids) == 20
    assert not any(map(alive, pids))


def test_only_the_first_process_gets_the_signal_with_stop_scope_process(
    start_daemon: Callable[..., Daemon],
) -> None:
    """Its children are its own business, until it has gone."""
    daemon = start_daemon("""
        [programs.parent]
        command = '''
        sh -c 'trap "echo child got TERM" TERM; echo up; while :; do sleep 1000 & wait $!; done' &
        trap 'echo parent got TERM; kill -KILL $!; exit' TERM
        wait
        '''
        shell = true
        stop_scope = "process"
        """)
    daemon.until_output("parent", b"up\n")
    daemon.does("stop", "parent")
    assert daemon.output("parent") == b"up\nparent got TERM\n"


def test_the_stop_signal_is_the_one_that_was_chosen(start_daemon: Callable[..., Daemon]) -> None:
    """And a program that ends by it has stopped; nothing had to be killed."""
    daemon = start_daemon("""
        [programs.polite]
        command = "trap 'echo asked; exit' INT; echo up; while :; do sleep 0.01; done"
        shell = true
        stop_signal = "INT"
        """)
    daemon.until_output("polite", b"up\n")
    assert "killed" not in daemon.does("stop", "polite")
    assert daemon.output("polite") == b"up\nasked\n"


def test_a_program_that_is_frozen_stops(start_daemon: Callable[..., Daemon]) -> None:
    """A stopped process (SIGSTOP) does not act on SIGTERM; SIGKILL ends it all the same."""
    daemon = start_daemon("[programs.frozen]\ncommand = ['sleep', 'infinity']\nstop_timeout = '200ms'\n")
    daemon.until_state("frozen", "RUNNING")
    pid = daemon.process("frozen")
    os.kill(pid, signal.SIGSTOP)
    daemon.does("stop", "frozen")
    assert not alive(pid)
