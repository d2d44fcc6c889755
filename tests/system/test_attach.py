"""procctl attach on a terminal: what is typed, what is seen, and the terminal as it was on every way out."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import BOUND_S, PROCCTL, Daemon, until
from tests.system.person import DETACH, Person
from tests.system.ssh import SSHD, Sshd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Of each program: its script, and its other keys.
PROGRAMS = {
    "says": ("stty -echo; while read x; do echo said $x; done", "terminal = true"),
    "echo": ("echo ready; exec cat", "terminal = true"),
    "sizes": ("trap 'stty size' WINCH; while :; do sleep 0.01; done", "terminal = true"),
    "keys": (
        "trap 'echo INT' INT; trap 'echo QUIT' QUIT; while :; do read x && echo got $x; done", "terminal = true"
    ),
    "leaves": ("read x; echo bye; exit $x", 'terminal = true\nrestart = "never"\nautostart = false'),
    "pipe": (
        r"while read x; do printf 'out %s \033[2J\n' $x; echo err $x >&2; done",
        'stdin = "pipe"\nstderr = "log"',
    ),
    "mute": ("while :; do echo tick; sleep 0.05; done", ""),
    "hash": ("stty raw -echo; echo set; head -c 3000000 | sha256sum; exec cat", "terminal = true"),
    "stuck": ("stty raw -echo; echo set; exec sleep 1000", "terminal = true"),
}  # fmt: skip
CONFIGURATION = "".join(
    f"[programs.{name}]\ncommand = ['/bin/sh', '-c', {json.dumps(script)}]\nstop_timeout = 1\n{keys}\n"
    for name, (script, keys) in PROGRAMS.items()
)

#: Shows what is typed, whatever that does to a terminal; and this does much to it, which has to be undone.
FULL = """
[programs.full]
command = ["/bin/sh", "-c", "stty raw -echo; echo set; exec cat"]
terminal = true
"""
DONE = b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[2;20rdone"
UNDONE = b"\x1b7\x1b[r\x1b8\x1b[?25h\x1b[?2004l\x1b[?1049l"


@pytest.fixture
def attach() -> Iterator[Callable[..., Person]]:
    """Have people attach to programs of a daemon."""
    with ExitStack() as stack:

        def make(daemon: Daemon, *words: str, **options: int) -> Person:
            command = [*PROCCTL, "-s", str(daemon.socket), "attach", *words]
            person = Person(command, **options)
            stack.enter_context(person)
            person.sees(b"procctl: attached to ")
            return person

        yield make


def test_keys_are_answered_and_detaching_leaves_it_running(
    shared: Daemon, attach: Callable[..., Person]
) -> None:
    """Two stays, one life; the terminal is as before after each."""
    pid = shared.process("says")
    for _ in range(2):
        person = attach(shared, "says")
        person.until(lambda person=person: person.is_raw)
        person.types(b"hello\n")
        person.sees(b"said hello\r\n")
        person.types(DETACH)
        assert person.ends() == 0
        person.sees(b"procctl: detached from says\r\n")
        assert person.modes() == person.before
    assert shared.process("says") == pid
    assert shared.output("says").count(b"said hello\r\n") == 2


def test_every_key_is_the_programs(shared: Daemon, attach: Callable[..., Person]) -> None:
    r"""Ctrl-C, Ctrl-Z, Ctrl-\ are signals there and not here; one of two keys to detach is a key."""
    person = attach(shared, "keys", "--detach-keys", "ctrl-a,d")
    person.until(lambda: person.is_raw)
    for key, name in ((b"\x03", b"INT"), (b"\x1c", b"QUIT")):
        person.types(key)
        person.sees(name + b"\r\n")
    person.types(b"\x10a\n")
    person.sees(b"got \x10a\r\n")
    person.types(b"\x01x\n")
    person.sees(b"got \x01x\r\n")
    person.types(b"\x01d")
    assert person.ends() == 0


def test_the_terminal_of_the_program_has_the_size_of_the_window(
    shared: Daemon, attach: Callable[..., Person]
) -> None:
    """On coming, on a change; of two, the smaller one; and it is drawn anew for whoever comes."""
    first = attach(shared, "sizes", rows=50, columns=120)
    first.sees(b"50 120\r\n")
    first.resizes(40, 110)
    first.sees(b"40 110\r\n")
    second = attach(shared, "sizes", rows=60, columns=90)
    first.sees(b"40 90\r\n")
    second.resizes(30, 200)
    first.sees(b"30 110\r\n")
    second.types(DETACH)
    first.sees(b"40 110\r\n")
    third = attach(shared, "sizes", rows=40, columns=110)
    third.sees(b"39 110\r\n40 110\r\n")


def test_several_see_the_same_and_each_may_type(shared: Daemon, attach: Callable[..., Person]) -> None:
    """Lines are not mixed."""
    people = [attach(shared, "says") for _ in range(3)]
    for number, person in enumerate(people):
        person.types(b"from %d\n" % number)
        for other in people:
            other.sees(b"said from %d\r\n" % number)


WAYS_OUT = {
    "detached": 0,
    "program ends": 1,
    "program is stopped": 0,
    "supervisor is killed": 6,
    "daemon stops": 0,
    "SIGTERM": -signal.SIGTERM,
    "SIGHUP": -signal.SIGHUP,
    "SIGQUIT": -signal.SIGQUIT,
    "SIGINT": 130,
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_the_terminal_is_as_it_was_on_every_way_out(
    start_daemon: Callable[..., Daemon], attach: Callable[..., Person], way: str
) -> None:
    """Its modes; and what the program did to the screen, the cursor and the mouse is undone."""
    daemon = start_daemon(FULL)
    daemon.until_output("full", b"set")
    pid = daemon.process("full")
    person = attach(daemon, "full")
    person.until(lambda: person.is_raw)
    person.types(DONE)
    person.sees(DONE)
    match way:
        case "detached":
            person.types(DETACH)
        case "program ends":
            os.kill(daemon.process("full"), signal.SIGKILL)
        case "program is stopped":
            daemon.does("stop", "full")
        case "supervisor is killed":
            daemon.kill_supervisor()
        case "daemon stops":
            daemon.signal(signal.SIGTERM)
        case _:
            person.signals(signal.Signals[way])
    assert person.ends() == WAYS_OUT[way]
    assert UNDONE in person.look()
    assert person.modes() == person.before
    if way == "supervisor is killed":
        # The keeper has its terminal, too: the program has noticed nothing.
        assert daemon.process("full") == pid


def test_a_window_that_is_shut_ends_it(shared: Daemon, attach: Callable[..., Person]) -> None:
    """Nobody stays attached, and nothing is typed that nobody typed."""
    person = attach(shared, "echo", rows=10, columns=10)
    person.until(lambda: person.is_raw)
    person.shuts_the_window()
    assert person.ends() in {-signal.SIGHUP, 1}


def test_it_can_be_stopped_and_continued(shared: Daemon, attach: Callable[..., Person]) -> None:
    """From outside (Ctrl-Z is the program's): the terminal is a person's meanwhile."""
    person = attach(shared, "says")
    person.until(lambda: person.is_raw)
    person.signals(signal.SIGTSTP)
    person.until(lambda: not person.is_raw)
    assert person.modes() == person.before
    person.signals(signal.SIGCONT)
    person.until(lambda: person.is_raw)
    person.types(b"again\n")
    person.sees(b"said again\r\n")


def test_the_end_of_the_program_is_told_with_its_last_words(
    shared: Daemon, attach: Callable[..., Person]
) -> None:
    """And whether that was a success is the exit status."""
    for status in (0, 3):
        shared.does("start", "leaves", "--no-wait")
        until(lambda: shared.record("leaves")["pid"])
        person = attach(shared, "leaves")
        person.types(b"%d\r" % status)
        person.sees(b"bye\r\n")
        assert person.ends() == (1 if status else 0)
        person.sees(b"procctl: leaves: exited with status %d\r\n" % status)
        shared.until_state("leaves", "EXITED")


def test_megabytes_are_pasted_at_the_programs_pace(shared: Daemon, attach: Callable[..., Person]) -> None:
    """Every byte arrives, in order; the keyboard waits meanwhile."""
    shared.until_output("hash", b"set")
    person = attach(shared, "hash", "--detach-keys", "")
    person.until(lambda: person.is_raw)
    content = os.urandom(3_000_000)
    person.types(content)
    person.sees(hashlib.sha256(content).hexdigest().encode())


def test_one_can_leave_a_program_that_does_not_read(shared: Daemon, attach: Callable[..., Person]) -> None:
    """What it did not take within a second is dropped."""
    shared.until_output("stuck", b"set")
    person = attach(shared, "stuck")
    person.until(lambda: person.is_raw)
    person.types(b"x" * 100_000)
    person.types(DETACH)
    assert person.ends() == 0
    assert person.modes() == person.before


def test_at_a_program_with_pipes_lines_are_typed(shared: Daemon, attach: Callable[..., Person]) -> None:
    """Edited and echoed here, shown with stderr and escaped; the keys to detach are seen at once."""
    person = attach(shared, "pipe")
    assert not person.is_raw
    person.types(b"helxx\x7f\x7flo\n")
    person.sees(b"hel")
    person.until(lambda: b"out hello \\x1b[2J\r\n" in person.seen and b"err hello\r\n" in person.seen)
    person.types(DETACH)
    assert person.ends() == 0
    assert person.modes() == person.before


def test_ctrl_c_leaves_a_program_with_pipes_running(shared: Daemon, attach: Callable[..., Person]) -> None:
    """And ^D only ends the typing."""
    pid = shared.process("pipe")
    person = attach(shared, "pipe")
    person.types(b"\x04")
    with shared.client() as client:
        client.call("write", program="pipe", data=b"still\n")
    person.sees(b"out still")
    person.types(b"\x03")
    assert person.ends() in {130, -signal.SIGINT}
    assert shared.process("pipe") == pid


def test_without_a_stdin_it_is_only_looked_at(shared: Daemon) -> None:
    """Which is said; so it is with --no-stdin."""
    for words in (["mute"], ["says", "--no-stdin"]):
        with Person([*PROCCTL, "-s", str(shared.socket), "attach", *words]) as person:
            person.sees(b"procctl: only looking at")
            if words == ["mute"]:
                person.sees(b"tick\r\n")
            else:
                with shared.client() as client:
                    client.call("write", program="says", data=b"seen\n")
                person.sees(b"said seen")
            assert not person.is_raw
            person.signals(signal.SIGINT)
            assert person.ends() == 130


def test_without_a_terminal_bytes_are_carried(shared: Daemon) -> None:
    """From a pipe, unchanged, into a pipe; at the end of the input the output goes on."""
    with shared.procctl_running("attach", "says", stdin=subprocess.PIPE) as procctl:
        assert procctl.stdin is not None
        assert procctl.stdout is not None
        procctl.stdin.write(b"one\ntwo\n")
        procctl.stdin.close()
        assert procctl.stdout.readline() == b"said one\r\n"
        assert procctl.stdout.readline() == b"said two\r\n"
        with shared.client() as client:
            client.call("write", program="says", data=b"three\n")
        assert procctl.stdout.readline() == b"said three\r\n"
        procctl.terminate()
        assert procctl.wait(BOUND_S) == -signal.SIGTERM


def test_json_is_a_line_for_each_piece_and_one_for_the_end(shared: Daemon) -> None:
    """With how it ended."""
    shared.does("start", "leaves", "--no-wait")
    until(lambda: shared.record("leaves")["pid"])
    done = shared.procctl("--json", "attach", "leaves", stdin="4\n")
    *pieces, last = [json.loads(line) for line in done.out.splitlines()]
    assert "bye" in "".join(piece["text"] for piece in pieces)
    assert last == {"detached": False, "reason": "exited with status 4", "ok": False, "exit": {"code": 4}}
    assert done.code == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nobody"], 4, "no program matches"),
        (["says", "--detach-keys", "ctrl-pq"], 2, "is no key"),
        (["leaves"], 1, "start it first"),
    ],
)
def test_what_cannot_be_is_refused_before_anything(
    shared: Daemon, words: list[str], code: int, said: str
) -> None:
    """With the reason, and the terminal is not touched."""
    with Person([*PROCCTL, "-s", str(shared.socket), "attach", *words]) as person:
        person.sees(said.encode())
        assert person.ends() == code
        assert person.modes() == person.before


def test_send_types_at_a_terminal(shared: Daemon) -> None:
    """A line; and the key that ends the input, which `cat` believes, so that it is started again."""
    assert shared.does("send", "says", "sent") == "5 bytes accepted\n"
    shared.until_output("says", b"said sent\r\n")
    before = shared.process("echo")
    assert shared.does("send", "echo", "x", "--eof") == "2 bytes accepted\n"
    until(lambda: shared.record("echo")["pid"] not in {None, before})


@pytest.mark.skipif(SSHD is None, reason="there is no sshd here (Debian: openssh-server)")
def test_it_works_over_ssh(shared: Daemon, tmp_path: Path) -> None:
    """Keys, the size and its changes, the keys to detach, and an ssh that is killed."""
    sshd = Sshd(tmp_path)
    sshd.add_host("there", SetEnv=f"PROCD_SOCKET={shared.socket}")
    with sshd.running():
        for way in ("detached", "killed"):
            command = [*PROCCTL, "-H", "there", "attach", "sizes"]
            with Person(command, rows=44, columns=66, environment=sshd.environment) as person:
                person.sees(b"44 66\r\n")
                person.resizes(45, 67)
                person.sees(b"45 67\r\n")
                person.until(lambda person=person: person.is_raw)
                if way == "detached":
                    person.types(DETACH)
                    assert person.ends() == 0
                else:
                    (ssh,) = Path(f"/proc/{person.pid}/task/{person.pid}/children").read_text().split()
                    os.kill(int(ssh), signal.SIGKILL)
                    assert person.ends() == 6
                assert person.modes() == person.before
