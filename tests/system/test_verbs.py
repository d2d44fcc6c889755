"""Every verb of procctl against a real daemon: what it does, what it says, how it exits."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import BOUND_S, PROCCTL, alive, run, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

CONFIGURATION = """
[programs.quiet]
command = ["sleep", "infinity"]

[programs.pair]
command = ["sleep", "infinity"]
instances = 2
groups = ["app"]

[programs.restarted]
command = ["sleep", "infinity"]

[programs.later]
command = ["sleep", "infinity"]
autostart = false

[programs.finished]
command = ["true"]
restart = "never"

[programs.failed]
command = "exit 3"
shell = true
restart = "never"

[programs.hopeless]
command = "exit 3"
shell = true
autostart = false

[programs.traps]
command = '''trap 'echo got HUP' HUP; echo trapped; while :; do sleep 1000 & wait $!; done'''
shell = true

[programs.cat]
command = ["cat"]
stdin = "pipe"

[programs.cat_once]
command = ["cat"]
stdin = "pipe"
restart = "never"

[programs.both]
command = "echo to stdout; echo to stderr >&2; exec sleep infinity"
shell = true
stderr = "log"

[programs.numbers]
command = "seq 1 1000; exec sleep infinity"
shell = true

[programs.pipe_writer]
command = "while echo again; do sleep 0.01; done"
shell = true
restart = "never"
"""


# status


def test_status_is_a_table_with_a_row_for_each_instance(shared: Daemon) -> None:
    """And procctl without a verb shows the same."""
    shared.until_state("quiet", "RUNNING")
    lines = shared.does("status").splitlines()
    assert lines[0].split() == ["NAME", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEM", "DETAIL"]
    rows = {line.split()[0]: line.split() for line in lines[1:]}
    assert {"quiet", "pair@0", "pair@1", "later", "finished"} <= rows.keys()
    assert rows["quiet"][1] == "RUNNING"
    assert alive(int(rows["quiet"][2]))
    assert rows["later"][1:3] == ["STOPPED", "-"]
    assert shared.does().split()[:8] == lines[0].split()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("quiet", ["quiet"]),
        ("pair", ["pair@0", "pair@1"]),
        ("pair@1", ["pair@1"]),
        ("pa*", ["pair@0", "pair@1"]),
        ("app:", ["pair@0", "pair@1"]),
    ],
)
def test_a_pattern_selects(shared: Daemon, pattern: str, names: list[str]) -> None:
    """A name, an instance, a glob, a label."""
    assert [record["name"] for record in shared.json("status", pattern)["programs"]] == names


def test_status_of_a_program_that_does_not_run_exits_with_3(shared: Daemon) -> None:
    """Known, but not running; with no program named it is 0."""
    assert shared.procctl("status", "later").code == 3
    assert shared.procctl("status").code == 0


def test_a_program_that_does_not_exist_exits_with_4(shared: Daemon) -> None:
    """Whatever the verb; the nearest name is offered."""
    for words in (["status", "quit"], ["stop", "quit"], ["send", "quit", "x"], ["logs", "quit"]):
        done = shared.procctl(*words)
        assert done.code == 4, words
        assert done.err.splitlines() == ["procctl: no program matches 'quit'", "did you mean 'quiet'?"]


def test_the_end_of_a_program_that_is_done_is_told(shared: Daemon) -> None:
    """With its exit status, and whether that was good."""
    assert shared.until_state("finished", "EXITED")["exit"] == {"code": 0}
    record = shared.until_state("failed", "EXITED")
    assert record["exit"] == {"code": 3}
    assert "3" in record["reason"]


# start, stop, restart


def test_start_and_stop_say_when_it_is_done(shared: Daemon) -> None:
    """Stop returns when the process is gone, and start when the next one runs."""
    assert re.fullmatch(r"later: RUNNING, .*\n", shared.does("start", "later"))
    pid = shared.process("later")
    assert alive(pid)
    assert re.fullmatch(r"later: STOPPED, stop requested \(uid \d+, pid \d+\)\n", shared.does("stop", "later"))
    assert not alive(pid)
    assert shared.does("stop", "later").startswith("later: STOPPED, was stopped")


def test_restart_gives_another_process(shared: Daemon) -> None:
    """And the old one is gone."""
    shared.until_state("restarted", "RUNNING")
    before = shared.process("restarted")
    shared.does("restart", "restarted")
    assert shared.process("restarted") != before
    assert not alive(before)


def test_restarting_an_instance_leaves_the_others_alone(shared: Daemon) -> None:
    """`pair@0` is a program of its own in this."""
    shared.until_state("pair@1", "RUNNING")
    before = shared.pids()
    shared.does("restart", "pair@0")
    after = shared.pids()
    assert before["pair@0"] != after["pair@0"]
    assert before["pair@1"] == after["pair@1"]


def test_a_start_that_fails_exits_with_1(shared: Daemon) -> None:
    """It says so at the first failure, although procd goes on trying."""
    done = shared.procctl("start", "hopeless")
    assert done.code == 1
    assert re.fullmatch(r"hopeless: failed: .*3.* \(it is BACKOFF\)\n", done.out), done
    shared.does("stop", "hopeless")


def test_no_wait_returns_before_it_is_done(shared: Daemon) -> None:
    """Exit status 0 means that it was begun."""
    assert shared.procctl("start", "hopeless", "--no-wait").code == 0
    shared.does("stop", "hopeless")


# signal


def test_signal_reaches_the_program(shared: Daemon) -> None:
    """Names with and without SIG."""
    shared.until_output("traps", b"trapped")
    assert shared.does("signal", "HUP", "traps") == "SIGHUP sent to traps\n"
    shared.until_output("traps", b"got HUP\n")
    shared.does("signal", "SIGHUP", "traps", "--group")
    until(lambda: shared.output("traps").count(b"got HUP\n") == 2, "the second signal")


def test_signalling_a_program_that_does_not_run_exits_with_1(shared: Daemon) -> None:
    """It says that nobody was there."""
    shared.until_state("finished", "EXITED")
    done = shared.procctl("signal", "HUP", "finished")
    assert done.code == 1
    assert "not running" in done.err


# send, close


def test_send_writes_a_line(shared: Daemon) -> None:
    """TEXT and a newline."""
    shared.until_state("cat", "RUNNING")
    assert shared.does("send", "cat", "hello") == "6 bytes accepted\n"
    shared.until_output("cat", b"hello\n")


def test_send_passes_its_own_stdin_on(shared: Daemon) -> None:
    """Bytes as they are; with --eof the program sees the end of its input."""
    shared.until_state("cat_once", "RUNNING")
    assert shared.does("send", "cat_once", "--eof", stdin="no newline\0here") == "15 bytes accepted\n"
    assert shared.until_state("cat_once", "EXITED")["exit"] == {"code": 0}
    assert shared.output("cat_once") == b"no newline\0here"


def test_send_to_a_program_without_stdin_is_refused(shared: Daemon) -> None:
    """With the key that would change that."""
    done = shared.procctl("send", "quiet", "hello")
    assert done.code == 1
    assert done.err.splitlines() == [
        "procctl: quiet has no stdin to write to",
        'give it `stdin = "pipe"` and reload',
    ]


def test_close_stdin_ends_the_input(shared: Daemon) -> None:
    """As `send --eof` does, without anything to send."""
    shared.does("start", "cat_once")
    assert shared.does("close", "cat_once", "stdin") == "stdin of cat_once is closed\n"
    assert shared.until_state("cat_once", "EXITED")["exit"] == {"code": 0}
    done = shared.procctl("send", "cat_once", "more")
    assert (done.code, "cat_once is EXITED" in done.err) == (1, True)


def test_close_stdout_lets_the_program_know(shared: Daemon) -> None:
    """Its next write finds nobody who reads; what it wrote before is in its log."""
    shared.until_output("pipe_writer", b"again\n")
    shared.does("close", "pipe_writer", "stdout")
    ended = shared.until_state("pipe_writer", "EXITED")["exit"]
    assert ended["signal"] == signal.SIGPIPE if "signal" in ended else ended["code"] != 0


# logs


def test_logs_shows_the_last_lines(shared: Daemon) -> None:
    """Ten, or as many as -n says, or all."""
    shared.until_output("numbers", b"\n1000\n")
    assert shared.does("logs", "numbers") == "".join(f"{number}\n" for number in range(991, 1001))
    assert shared.does("logs", "numbers", "-n", "3") == "998\n999\n1000\n"
    assert shared.does("logs", "numbers", "-n", "all").count("\n") == 1000
    assert shared.does("logs", "numbers", "-n", "0") == ""


def test_each_stream_has_its_log(shared: Daemon) -> None:
    """Standard error apart from standard output, where the configuration says so."""
    shared.until_output("both", b"to stderr\n", "stderr")
    assert shared.does("logs", "both") == "to stdout\n"
    assert shared.does("logs", "both", "--stream", "stderr") == "to stderr\n"


def test_logs_of_a_stream_that_has_none_are_refused(shared: Daemon) -> None:
    """And it says where the output is."""
    done = shared.procctl("logs", "quiet", "--stream", "stderr")
    assert done.code == 1
    assert "its stderr goes where its stdout goes" in done.err


def test_logs_follows_what_is_written(shared: Daemon) -> None:
    """Each line as it comes; the line that was there before comes first."""
    shared.until_state("cat", "RUNNING")
    shared.does("send", "cat", "before")
    shared.until_output("cat", b"before\n")
    with shared.procctl_running("logs", "cat", "-f", "-n", "1") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"before\n"
        for word in ("one", "two"):
            shared.does("send", "cat", word)
            assert following.stdout.readline() == f"{word}\n".encode()


def test_following_survives_a_restart_of_the_daemon(start_daemon: Callable[..., Daemon]) -> None:
    """No line is lost and none comes twice."""
    daemon = start_daemon("[programs.cat]\ncommand = ['cat']\nstdin = 'pipe'\n")
    daemon.until_state("cat", "RUNNING")
    daemon.does("send", "cat", "one")
    with daemon.procctl_running("logs", "cat", "-f", "-n", "all") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"one\n"
        assert daemon.stop() == 0
        daemon.start()
        daemon.until_state("cat", "RUNNING")
        daemon.does("send", "cat", "two")
        assert following.stdout.readline() == b"two\n"


# wait


def test_wait_returns_when_the_state_is_reached(shared: Daemon) -> None:
    """At once where it is there already; else when it comes."""
    assert shared.does("wait", "quiet", "--for", "running").startswith("quiet: RUNNING")
    shared.does("wait", "finished", "--for", "exited")
    with shared.procctl_running("wait", "pair@0", "--for", "stopped") as waiting:
        shared.does("stop", "pair@0")
        assert waiting.wait(BOUND_S) == 0
    shared.does("start", "pair@0")


def test_waiting_in_vain_exits_with_7(shared: Daemon) -> None:
    """And says what the state is instead."""
    done = shared.procctl("--timeout", "50ms", "wait", "quiet", "--for", "stopped")
    assert done.code == 7
    assert "quiet is RUNNING" in done.err


# the daemon


def test_version_shows_both(shared: Daemon) -> None:
    """Of procctl and of the daemon, with its PID."""
    assert f"PID {shared.supervisor}" in shared.does("version")


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["stop"],
        ["stop", "--all", "quiet"],
        ["signal", "NOSUCH", "quiet"],
        ["wait", "quiet", "--for", "ever"],
        ["logs", "quiet", "-n", "many"],
        ["--timeout", "soon", "status"],
    ],
)
def test_wrong_usage_exits_with_2(shared: Daemon, words: list[str]) -> None:
    """Before anything is asked of the daemon."""
    done = shared.procctl(*words)
    assert done.code == 2
    assert done.err.startswith("procctl: ")


def test_a_daemon_that_does_not_answer_exits_with_6(shared: Daemon) -> None:
    """With the socket at fault, and how to start a daemon."""
    done = run([*PROCCTL, "-s", str(shared.directory / "nobody.sock"), "status"])
    assert done.code == 6
    assert "nobody.sock" in done.err
    assert "procd run" in done.err


def test_the_socket_can_come_from_the_environment(shared: Daemon) -> None:
    """$PROCD_SOCKET, where -s does not say otherwise."""
    done = run([*PROCCTL, "status", "quiet"], environment={"PROCD_SOCKET": str(shared.socket)})
    assert done.code in {0, 3}
    assert "quiet" in done.out


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["start", "quiet"],
        ["stop", "later"],
        ["restart", "restarted"],
        ["signal", "CONT", "quiet"],
        ["send", "cat", "x"],
        ["close", "cat", "stdin"],
        ["wait", "quiet", "--for", "running"],
        ["logs", "numbers"],
        ["reload"],
        ["reload", "--dry-run"],
        ["version"],
    ],
    ids=" ".join,
)
def test_every_verb_answers_in_json(shared: Daemon, words: list[str]) -> None:
    """One value a line."""
    shared.until_state("quiet", "RUNNING")
    shared.until_state("cat", "RUNNING")
    for line in shared.does("--json", *words).splitlines():
        assert isinstance(json.loads(line), dict)


def test_errors_are_json_too(shared: Daemon) -> None:
    """With the stable code, for programs that script procctl."""
    done = shared.procctl("--json", "status", "quit")
    error = json.loads(done.err)
    assert (done.code, error["code"], error["hint"]) == (4, "NO_SUCH_PROGRAM", "did you mean 'quiet'?")


def test_shutdown_returns_when_everything_has_ended(start_daemon: Callable[..., Daemon]) -> None:
    """No process is left, no socket, and procd has exited with 0."""
    daemon = start_daemon("[programs.quiet]\ncommand = ['sleep', 'infinity']\n")
    daemon.until_state("quiet", "RUNNING")
    pid = daemon.process("quiet")
    assert daemon.does("shutdown") == "procd has stopped every program and ended\n"
    assert not alive(pid)
    assert daemon.wait() == 0
    assert not daemon.socket.exists()
    assert daemon.procctl("status").code == 6


def test_whoever_asked_is_in_the_log(shared: Daemon) -> None:
    """Each request that changes something leaves a line with the kernel's word for who sent it."""
    shared.does("signal", "CONT", "quiet")
    line = re.compile(
        rf"request .*method=signal .*outcome=done peer_pid=\d+ programs=\['quiet'\] uid={os.geteuid()}"
    )
    until(lambda: line.search(shared.said.read_text()), "the line of the request")
