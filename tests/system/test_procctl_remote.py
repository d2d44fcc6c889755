"""procctl over a real ssh, to one daemon and to several."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import BOUND_S, PROCCTL, Daemon, Done, run, until
from tests.system.ssh import SSHD, Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(SSHD is None, reason="there is no sshd here (Debian: openssh-server)")

CONFIGURATION = """
[programs.quiet]
command = ["sleep", "infinity"]

[programs.cat]
command = ["cat"]
stdin = "pipe"

[programs.later]
command = ["sleep", "infinity"]
autostart = false
"""


class Machines:
    """Two daemons behind ssh, `one` and `two`; `dead` where nobody listens, `bare` without a daemon."""

    def __init__(self, sshd: Sshd, one: Daemon, two: Daemon) -> None:
        self.sshd = sshd
        self.one = one
        self.two = two
        for name, daemon in (("one", one), ("two", two)):
            sshd.add_host(name, SetEnv=f"PROCD_SOCKET={daemon.socket}")
        sshd.add_host("bare", SetEnv=f"PROCD_SOCKET={one.directory}/nobody.sock")
        sshd.add_host("dead", Port=1)

    def procctl(self, *words: str, stdin: str | int | None = None) -> Done:
        """Run procctl, with an ssh that knows the hosts."""
        return run([*PROCCTL, *words], environment=self.sshd.environment, stdin=stdin)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Both daemons and the sshd, for all tests of this file."""
    sshd = Sshd(tmp_path_factory.mktemp("sshd"))
    daemons = [Daemon(tmp_path_factory.mktemp(name), CONFIGURATION) for name in ("one", "two")]
    try:
        with sshd.running():
            for daemon in daemons:
                daemon.start()
                daemon.until_state("quiet", "RUNNING")
                daemon.until_state("cat", "RUNNING")
            yield Machines(sshd, *daemons)
    finally:
        for daemon in daemons:
            daemon.end()


def test_one_host_is_asked_as_this_machine_is(machines: Machines) -> None:
    """With its host as a column, and in JSON."""
    done = machines.procctl("-H", "one", "status", "quiet")
    assert done.code == 0, done
    heading, row = done.out.splitlines()
    assert heading.split()[:3] == ["HOST", "NAME", "STATE"]
    assert row.split()[:4] == ["one", "quiet", "RUNNING", str(machines.one.process("quiet"))]
    answer = json.loads(machines.procctl("--json", "-H", "one", "status", "quiet").out)
    assert (answer["host"], [each["name"] for each in answer["programs"]]) == ("one", ["quiet"])


def test_the_verb_acts_there(machines: Machines) -> None:
    """And who asked is the user there, in the log of the daemon there."""
    assert re.match(r"later: RUNNING", machines.procctl("-H", "two", "start", "later").out)
    assert machines.two.record("later")["state"] == "RUNNING"
    assert machines.one.record("later")["state"] == "STOPPED"
    assert machines.procctl("stop", "later", "-H", "two").code == 0


def test_large_input_arrives_whole(machines: Machines) -> None:
    """Several megabytes through ssh and the bridge, at the pace of the program."""
    text = "0123456789abcdef" * (1 << 17)
    done = machines.procctl("-H", "one", "send", "cat", stdin=text)
    assert done.out == f"{len(text)} bytes accepted\n", done
    until(lambda: machines.one.output("cat").count(b"f") >= 1 << 17, "all of it in the log")
    assert machines.one.output("cat") == text.encode()
    shown = machines.procctl("-H", "one", "logs", "cat", "-n", "all")
    assert shown.out == text


def test_a_program_that_is_run_there_ends_as_it_does_there(machines: Machines) -> None:
    """With its output, and no trace of it afterwards."""
    done = machines.procctl("-H", "two", "run", "--rm", "-f", "--", "sh", "-c", "echo $((6 * 7)); exit 9")
    assert (done.code, done.out, done.err) == (9, "42\n", "")
    assert not [name for name in machines.two.records() if name.startswith("run-")]


def test_several_hosts_are_one_table(machines: Machines) -> None:
    """In the order in which they were named."""
    done = machines.procctl("-H", "two", "-H", "one", "status", "quiet")
    assert done.code == 0, done
    assert [line.split()[:2] for line in done.out.splitlines()[1:]] == [["two", "quiet"], ["one", "quiet"]]


def test_several_hosts_answer_in_json_one_a_line(machines: Machines) -> None:
    """Each with its host."""
    done = machines.procctl("-H", "one", "-H", "two", "--json", "signal", "CONT", "quiet")
    answers = sorted(map(json.loads, done.out.splitlines()), key=lambda answer: str(answer["host"]))
    assert answers == [{"host": host, "signalled": ["quiet"]} for host in ("one", "two")]


def test_each_line_says_where_it_comes_from(machines: Machines) -> None:
    """For verbs that speak in sentences."""
    done = machines.procctl("-H", "one", "-H", "two", "restart", "quiet")
    assert done.code == 0, done
    assert sorted(line.split()[:3] for line in done.out.splitlines()) == [
        ["one:", "quiet:", "RUNNING,"],
        ["two:", "quiet:", "RUNNING,"],
    ]


def test_a_host_that_does_not_answer_is_one_line_and_the_others_are_shown(machines: Machines) -> None:
    """The exit status is that of a daemon that cannot be reached."""
    done = machines.procctl("-H", "one", "-H", "dead", "status", "quiet")
    assert done.code == 6
    assert done.out.splitlines()[1].split()[:2] == ["one", "quiet"]
    assert re.fullmatch(r"procctl: dead: dead does not answer by ssh: .*[Cc]onnection refused\n", done.err)
    alone = machines.procctl("-H", "dead", "status")
    assert (alone.code, alone.out, len(alone.err.splitlines())) == (6, "", 1)


def test_a_host_without_a_daemon_says_so(machines: Machines) -> None:
    """In the words of the procctl there."""
    done = machines.procctl("-H", "bare", "status")
    assert done.code == 6
    assert re.fullmatch(r"procctl: on bare, no daemon answers on .*nobody\.sock \(.*\)\n", done.err)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["stop", "nobody"], 4),
        (["status", "later"], 3),
        (["send", "cat"], 2),
        (["frobnicate"], 2),
    ],
)
def test_the_exit_status_of_several_is_the_worst(machines: Machines, words: list[str], code: int) -> None:
    """The same as on one host, where all end alike."""
    assert machines.procctl("-H", "one", "-H", "two", *words).code == code


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch owned", "", "a b", "x;id", "-", "user@", "a\nb", "$(id)"]
)
def test_a_host_is_never_an_option_or_a_command(machines: Machines, host: str) -> None:
    """CVE-2017-1000117: a host that begins with a dash."""
    done = machines.procctl("-H", host, "status")
    assert done.code == 2, done
    assert "is no host" in done.err


def test_a_socket_path_is_one_word_there(machines: Machines) -> None:
    """Whatever is in it: a shell reads it at the other end."""
    done = machines.procctl("-H", "one", "-s", "/nowhere/$(touch owned); x", "status")
    assert done.code == 6
    assert "/nowhere/$(touch owned); x" in done.err


@pytest.mark.parametrize("hosts", [["one"], ["one", "two"]], ids=len)
def test_following_ends_with_its_reader(machines: Machines, hosts: list[str]) -> None:
    """And leaves neither an ssh nor a bridge behind."""
    words = [word for host in hosts for word in ("-H", host)]
    command = [*PROCCTL, *words, "--json", "events", "-f"]
    environment = {**os.environ, **machines.sshd.environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["host"] in hosts
        following.terminate()
        assert following.wait(BOUND_S) == 143
    until(lambda: not _bridges(machines), "the bridge to end")


def _bridges(machines: Machines) -> list[str]:
    """The command lines of every ssh to this sshd, and of every bridge to one of these daemons."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().decode(errors="replace")
            around = (place / "environ").read_bytes().decode(errors="replace")
            if "--stdio" in words and (str(machines.sshd.place) in words or str(machines.one.socket) in around):
                found.append(words.replace("\0", " "))
    return found
