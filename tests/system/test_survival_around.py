"""The supervisor is killed: what programs and clients hold works on, and what is asked of procd is done."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import PROCCTL, alive, free_port, marked, until
from tests.system.person import DETACH, Person
from tests.system.survival import SLEEP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.daemon import Daemon
    from tests.system.survival import Stage

ESSENTIAL = 'essential = true\nrestart = "never"'


# Transient programs


def test_programs_that_were_run_are_there(stage: Stage) -> None:
    """In no file, and in the records: one that is kept, and one that is forgotten when it has ended."""
    daemon = stage.start(stage.program("rest"))
    for name, words in {"kept": (), "forgotten": ("--rm",)}.items():
        daemon.does("run", "--name", name, *words, "--", "sh", "-c", f"echo >> {stage.place}/{name}; {SLEEP}")
    stage.until_born("kept", "forgotten")
    before = daemon.pids()
    for _ in range(2):
        daemon.kill_supervisor()
        assert daemon.pids() == before
    for name in ("kept", "forgotten"):
        daemon.does("stop", name)
    until(lambda: set(daemon.records()) == {"rest", "kept"}, "the other one to be forgotten")
    # It is a oneshot: it would be there when it has ended.
    daemon.does("start", "kept", "--no-wait")
    until(lambda: len(stage.lines("kept")) == 2, "its second life")
    daemon.kill_supervisor()
    assert stage.births() == {"rest": 1, "kept": 2}


def test_one_that_is_forgotten_is_so_when_it_ends_meanwhile(stage: Stage) -> None:
    """Nothing of it is left, in the records neither."""
    daemon = stage.start()
    daemon.does("run", "--name", "short", "--rm", "--", "sh", "-c", f"{stage.when('go')}; exit 3")
    pid = daemon.process("short")
    with daemon.unsupervised():
        stage.become("go")
        until(lambda: not alive(pid), "its end")
    until(lambda: daemon.records() == {}, "it to be forgotten")
    daemon.kill_supervisor()
    assert daemon.records() == {}


# What they hold


def test_input_goes_on_and_ends(stage: Stage) -> None:
    """What was sent before and after, in order, and then really the end: nobody else holds the pipe."""
    keys = 'stdin = "pipe"\nrestart = "never"'
    daemon = stage.start(stage.program("reads", f"cat >> {stage.place}/got; echo ended", keys))
    stage.until_born("reads")
    for number in range(3):
        daemon.does("send", "reads", f"line {number}")
        daemon.kill_supervisor()
    assert daemon.record("reads")["state"] == "RUNNING"
    daemon.does("send", "reads", "last", "--eof")
    daemon.until_output("reads", b"ended")
    daemon.until_state("reads", "EXITED")
    assert stage.lines("got") == ["line 0", "line 1", "line 2", "last"]
    assert stage.births() == {"reads": 1}


def test_an_input_that_was_ended_stays_so(stage: Stage) -> None:
    """And a program that was started again has one of its own."""
    daemon = stage.start(stage.program("reads", f"cat > /dev/null; echo ended; {SLEEP}", 'stdin = "pipe"'))
    daemon.does("send", "reads", "last", "--eof")
    daemon.until_output("reads", b"ended")
    daemon.kill_supervisor()
    assert daemon.procctl("send", "reads", "more").code == 1
    daemon.does("restart", "reads")
    daemon.does("send", "reads", "--eof", "more")
    until(lambda: daemon.output("reads").count(b"ended") == 2, "the end of the second input")


def test_a_terminal_is_the_same(stage: Stage) -> None:
    """Its screen has a size, keys are answered, and nobody was hung up on."""
    daemon = stage.start(
        stage.program("says", "stty -echo; while read x; do echo said $x; done", "terminal = true")
    )
    stage.until_born("says")
    for number in range(3):
        with Person([*PROCCTL, "-s", str(daemon.socket), "attach", "says"]) as person:
            person.sees(b"procctl: attached to ")
            person.until(lambda person=person: person.is_raw)
            person.types(b"%d\n" % number)
            person.sees(b"said %d\r\n" % number)
            person.types(DETACH)
            assert person.ends() == 0
        daemon.kill_supervisor()
    assert stage.births() == {"says": 1}


def test_a_connection_in_the_backlog_survives(stage: Stage) -> None:
    """Two came, to a program that is started later: the socket is the keeper's, too."""
    port = free_port()
    answers = "import socket; s = socket.socket(fileno=3); c, _ = s.accept(); c.sendall(b'hello')"
    keys = 'sockets = ["web"]\nautostart = false\ntype = "oneshot"'
    web = stage.program("web", f'exec {sys.executable} -I -c "{answers}"', keys)
    daemon = stage.start(f'[sockets.web]\nlisten = "127.0.0.1:{port}"\n', web)
    early = socket.create_connection(("127.0.0.1", port))
    with daemon.unsupervised():
        late = socket.create_connection(("127.0.0.1", port))
    for connection in (early, late):
        with connection:
            daemon.does("start", "web")
            assert connection.recv(5) == b"hello"
            daemon.until_state("web", "EXITED")
    assert stage.births() == {"web": 2}


def test_who_connects_while_nobody_supervises_is_answered(stage: Stage) -> None:
    """A client waits in the backlog; it is not refused, and asks only once."""
    daemon = stage.start(stage.program("one"), stage.program("two", keys="autostart = false"))
    daemon.until_state("one", "RUNNING")
    with contextlib.ExitStack() as running:
        with daemon.unsupervised():
            status = running.enter_context(daemon.procctl_running("status", "one"))
            start = running.enter_context(daemon.procctl_running("start", "two"))
            until(lambda: all(in_socket(each.pid) for each in (status, start)), "both to be connected")
        outputs = [each.communicate(timeout=20)[0] for each in (status, start)]
    assert b"RUNNING" in outputs[0]
    assert (status.returncode, start.returncode) == (0, 0)
    assert stage.births() == {"one": 1, "two": 1}


def in_socket(pid: int) -> bool:
    """Whether a process has a socket: procctl makes one, and that is connected at once or not at all."""
    with contextlib.suppress(OSError):
        return any(str(each.readlink()).startswith("socket:") for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_who_follows_the_log_has_all_of_it_once(stage: Stage) -> None:
    """The logger goes on, and the follower comes back to where it was."""
    writes = "n=0; while [ $n -lt 400 ]; do echo line $n; n=$((n+1)); sleep 0.005; done; echo over"
    daemon = stage.start(stage.program("writes", f"{stage.when('go')}; {writes}; {SLEEP}"))
    stage.until_born("writes")
    with daemon.procctl_running("logs", "-f", "-n", "1000", "writes") as following:
        assert following.stdout is not None
        stage.become("go")
        got = [following.stdout.readline() for _ in range(20)]
        daemon.kill_supervisor()
        while got[-1] != b"over\n":
            got.append(following.stdout.readline())
            assert got[-1], got[-5:]
    assert got == [b"line %d\n" % number for number in range(400)] + [b"over\n"]


# What is asked of procd


@pytest.mark.parametrize("meanwhile", [True, False], ids=["while nobody supervises", "afterwards"])
def test_an_essential_program_ends_procd(stage: Stage, *, meanwhile: bool) -> None:
    """With its status, whoever saw its end."""
    daemon = stage.start(
        stage.program("main", f"{stage.when('go')}; exit 7", ESSENTIAL), stage.program("other")
    )
    pid = daemon.until_state("main", "RUNNING")["pid"]
    if meanwhile:
        with stopped_keeper(daemon):
            daemon.kill_supervisor()
            stage.become("go")
            until(lambda: not alive(pid), "its end")
    else:
        daemon.kill_supervisor()
        assert daemon.process("main") == pid
        stage.become("go")
    assert daemon.wait() == 7
    assert marked(daemon.mark) == {}
    assert [len(stage.lines(name)) for name in ("main", "other")] == [1, 1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_nobody_supervises_is_carried_out(stage: Stage, number: signal.Signals) -> None:
    """The next supervisor takes over only to stop everything in order."""
    trap = f"trap 'echo ended >> {stage.place}/last; exit 0' TERM; touch {stage.place}/trapped"
    daemon = stage.start(stage.program("one", f"{trap}; while :; do sleep 0.02; done"))
    until((stage.place / "trapped").exists, "its trap")
    with stopped_keeper(daemon):
        daemon.kill_supervisor()
        daemon.signal(number)
    assert daemon.wait() == 0
    assert marked(daemon.mark) == {}
    assert (stage.lines("last"), len(stage.lines("one"))) == (["ended"], 1)


def test_a_reload_while_nobody_supervises_is_carried_out(stage: Stage) -> None:
    """SIGHUP is held back for the next supervisor; a crash alone reads no file."""
    one = stage.program("one")
    daemon = stage.start(one)
    before = daemon.until_state("one", "RUNNING")["pid"]
    daemon.write(one + stage.program("two"))
    daemon.kill_supervisor()
    assert set(daemon.records()) == {"one"}
    with stopped_keeper(daemon):
        daemon.kill_supervisor()
        daemon.signal(signal.SIGHUP)
    until(lambda: set(daemon.records()) == {"one", "two"}, "the other one")
    daemon.until_state("two", "RUNNING")
    assert daemon.process("one") == before
    assert stage.births() == {"one": 1, "two": 1}


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_shutdown_goes_on(stage: Stage, deaths: int) -> None:
    """Killed in the middle of it: the rest is stopped in order, nothing starts, and it ends with success."""
    last = f"trap 'echo last >> {stage.place}/order; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    deaf = f"trap '' TERM; echo deaf; {stage.when('go')}; echo deaf >> {stage.place}/order"
    daemon = stage.start(
        stage.program("base", last),
        stage.program("deaf", deaf, 'stop_timeout = "1h"\ndepends_on = ["base"]'),
        stage.program("quick", keys='depends_on = ["base"]'),
    )
    daemon.until_output("base", b"ready")
    daemon.until_output("deaf", b"deaf")
    daemon.until_state("quick", "RUNNING")
    daemon.signal(signal.SIGTERM)
    until(lambda: daemon.record("quick")["state"] == "STOPPED", "the first to be stopped")
    for _ in range(deaths):
        daemon.kill_supervisor()
        states = {name: record["state"] for name, record in daemon.records().items()}
        assert states == {"base": "RUNNING", "deaf": "STOPPING", "quick": "STOPPED"}
    stage.become("go")
    assert daemon.wait() == 0
    assert stage.lines("order") == ["deaf", "last"]
    assert marked(daemon.mark) == {}
    assert [len(stage.lines(name)) for name in ("base", "deaf", "quick")] == [1, 1, 1]


def test_a_reload_after_a_crash_compares_with_what_is_in_force(stage: Stage) -> None:
    """Only what was changed in the file is done."""
    daemon = stage.start(stage.program("one"), stage.program("two"))
    for name in ("one", "two"):
        daemon.until_state(name, "RUNNING")
    daemon.kill_supervisor()
    assert daemon.json("reload", "--dry-run")["changes"] == []
    daemon.write(stage.program("one") + stage.program("three"))
    daemon.does("reload")
    daemon.until_state("three", "RUNNING")
    until(lambda: set(daemon.records()) == {"one", "three"}, "the other one to be gone")
    daemon.kill_supervisor()
    assert stage.births() == {"one": 1, "three": 1}


# The keeper


def test_a_keeper_that_is_killed_is_followed_by_another(stage: Stage) -> None:
    """Nobody but the programs is the same; then all goes on as before: a crash, and the end."""
    daemon = stage.start(
        stage.program("one"), stage.program("fed", f"cat >> {stage.place}/got", 'stdin = "pipe"')
    )
    for name in ("one", "fed"):
        daemon.until_state(name, "RUNNING")
    daemon.does("send", "fed", "before")
    before, keeper = {name: stage.looks(name) for name in ("one", "fed")}, daemon.pid
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    until(lambda: daemon.keeper != keeper, "another keeper")
    assert alive(daemon.supervisor)
    assert {name: stage.looks(name) for name in ("one", "fed")} == before
    daemon.kill_supervisor()
    daemon.does("send", "fed", "after")
    until(lambda: stage.lines("got") == ["before", "after"], "both lines")
    assert {name: stage.looks(name) for name in ("one", "fed")} == before
    keeper = daemon.keeper
    os.kill(keeper, signal.SIGTERM)
    until(lambda: not alive(keeper), "the end")
    assert marked(daemon.mark) == {}
    assert [len(stage.lines(name)) for name in ("one", "fed")] == [1, 1]


def test_ends_are_known_after_a_takeover(stage: Stage) -> None:
    """Programs are children of init then; how they end is told by the kernel, and they are started again."""
    daemon = stage.start(stage.program("ends", f"{stage.when('go')}; rm {stage.place}/go; exit 4"))
    daemon.until_state("ends", "RUNNING")
    keeper = daemon.pid
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    until(lambda: daemon.keeper != keeper, "another keeper")
    stage.become("go")
    until(lambda: len(stage.lines("ends")) == 2, "another life")
    assert daemon.record("ends")["exit"] == {"code": 4}
    daemon.does("stop", "ends")
    assert stage.births() == {"ends": 2}


@contextlib.contextmanager
def stopped_keeper(daemon: Daemon) -> Iterator[None]:
    """The keeper stands still in this block: nobody comes, and nothing is passed on."""
    daemon.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.signal(signal.SIGCONT)


def test_a_takeover_into_what_cannot_be_opened_keeps_what_is_in_force(stage: Stage) -> None:
    """A port of the new configuration is somebody's: nobody ends because of that, whoever dies next."""
    daemon = stage.start(stage.program("one"))
    stage.until_born("one")
    before, keeper = daemon.pids(), daemon.keeper
    with socket.create_server(("127.0.0.1", 0)) as taken:
        web = f'[sockets.web]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n'
        daemon.write(web + stage.program("one", keys='sockets = ["web"]'))
        os.kill(keeper, signal.SIGKILL)
        until(lambda: daemon.keeper != keeper, "another keeper")
        until(lambda: "the old one stays in force" in daemon.said.read_text(), "the refusal")
        assert daemon.pids() == before
        daemon.kill_supervisor()
        assert daemon.pids() == before
    assert stage.births() == {"one": 1}
