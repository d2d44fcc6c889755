"""What people get wrong: a clear message, a documented exit status, and no harm to anybody else."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.kernel.children import needs_root
from tests.system.daemon import HEAD, PROCD, Done, alive, run, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.daemon import Daemon

OTHER = "\n[programs.other]\ncommand = ['sleep', 'infinity']\n"


def procd(directory: Path, text: str, verb: str = "run") -> Done:
    """Run procd on a configuration that it should refuse."""
    (directory / "procd.toml").write_text(text)
    return run([*PROCD, verb, "-c", "procd.toml"], directory=directory)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ("command = ['/no/such/program']", r"command\[0\]: /no/such/program does not exist; .+"),
        ("command = ['no-such-program']", r"command\[0\]: no-such-program is not found on .+; .+"),
        ("command = ['/etc/passwd']", r"command\[0\]: /etc/passwd is not executable; chmod .+"),
        (
            "command = ['true']\ndirectory = '/no/such/directory'",
            r"directory: directory /no/such/directory does not exist; create it: mkdir .+",
        ),
        ("command = ['true']\nuser = 'nobodyatall'", r"user: .*nobodyatall.*; .+"),
        ("command = ['true']\nuser = '0x0'", r"user: .*0x0.*; .+"),
        ("command = ['true']\ncolour = 'blue'", r"colour: there is no such key; the keys here are .+"),
        ("command = ['true']\nautostrat = true", r"autostrat: there is no such key; did you mean .autostart.*"),
        ("command = ['true']\nstop_timeout = 'soon'", r"stop_timeout: .*soon.*"),
    ],
)  # fmt: skip
def test_a_program_that_cannot_be_run_is_refused_before_anything_is_started(
    tmp_path: Path, keys: str, complaint: str
) -> None:
    """`procd run` exits with 78, `procd check` with 1; both say the same, with file, line and remedy."""
    text = f"{HEAD}[programs.bad]\n{keys}\n{OTHER}"
    run_says, check_says = procd(tmp_path, text), procd(tmp_path, text, "check")
    assert (run_says.code, check_says.code) == (78, 1), run_says
    assert run_says.err == check_says.err
    assert re.fullmatch(rf"procd\.toml:\d+: programs\.bad\.{complaint}\n", run_says.err), run_says.err
    assert not (tmp_path / "run").exists()


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """One run of `procd check` is enough to mend them all."""
    done = procd(tmp_path, f"{HEAD}[programs.a]\n[programs.b]\ncommand = ['/no']\ncolour = 1\n", "check")
    assert len(done.err.splitlines()) == 3


def test_check_says_what_it_found(tmp_path: Path) -> None:
    """Exit status 0, the files and the number of programs."""
    done = procd(tmp_path, HEAD + OTHER, "check")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("procd.toml: 1 program, no problems\n")


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With how to name another."""
    done = run([*PROCD, "run", "-c", "none.toml"], directory=tmp_path)
    assert done.code == 78
    assert (
        done.err
        == "none.toml: there is no such file; create it, or name another with -c FILE or $PROCD_CONFIG\n"
    )


def test_a_socket_in_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """The directory is named, and nothing was started."""
    done = procd(tmp_path, f"{HEAD}[control]\nsocket = '/no/such/directory/procd.sock'\n{OTHER}")
    assert done.code == 78
    assert re.fullmatch(
        r"procd\.toml:\d+: control\.socket: directory /no/such/directory does not exist; .+\n", done.err
    )


def test_a_socket_that_cannot_be_bound_is_refused(tmp_path: Path) -> None:
    """Something else stands where it should be."""
    (tmp_path / "taken").mkdir()
    done = procd(tmp_path, f"{HEAD}[control]\nsocket = 'taken'\n{OTHER}")
    assert done.code == 78
    assert "control.socket: cannot listen on" in done.err
    assert "Traceback" not in done.err


@needs_root
@pytest.mark.parametrize("who", ["group", "others", "owner", "directory"])
def test_root_refuses_a_configuration_that_somebody_else_may_write(tmp_path: Path, who: str) -> None:
    """Whoever can change the file, or put another in its place, would be root."""
    place = tmp_path / "etc"
    place.mkdir()
    file = place / "procd.toml"
    file.write_text(HEAD + OTHER)
    match who:
        case "group":
            file.chmod(0o664)
        case "others":
            file.chmod(0o646)
        case "owner":
            os.chown(file, 65534, 65534)
        case _:
            place.chmod(0o777)
    done = run([*PROCD, "run", "-c", str(file)], directory=tmp_path)
    assert done.code == 78
    assert "who could change what root runs; ch" in done.err, done.err


def test_a_second_procd_says_who_is_there_and_touches_nothing(start_daemon: Callable[..., Daemon]) -> None:
    """Exit status 75; the first one and its programs go on."""
    daemon = start_daemon(OTHER)
    before = daemon.until_state("other", "RUNNING")["pid"]
    done = run([*PROCD, "run", "-c", str(daemon.configuration)])
    assert done.code == 75
    assert f"{daemon.directory}/run is held by procd with PID {daemon.pid}" in done.err
    assert daemon.process("other") == before


def test_what_a_dead_procd_left_behind_is_no_obstacle(start_daemon: Callable[..., Daemon]) -> None:
    """Everything of it was killed: the lock died with it, and its socket is replaced."""
    daemon = start_daemon("")
    daemon.kill_all()
    assert daemon.socket.exists()
    assert daemon.procctl("status").code == 6
    daemon.start()
    assert daemon.procctl("status").code == 0


def test_a_command_that_vanishes_while_procd_runs_is_tried_again(start_daemon: Callable[..., Daemon]) -> None:
    """It says what failed, hurts nobody, and comes back with the command."""
    daemon = start_daemon(OTHER, prefix=[])
    command = daemon.directory / "command"
    shutil.copy("/bin/sleep", command)
    daemon.write(
        f"{OTHER}[programs.gone]\ncommand = ['./command', 'infinity']\n"
        "backoff = { initial = '10ms', max = '20ms' }\n"
    )
    daemon.does("reload")
    daemon.until_state("gone", "RUNNING")
    other = daemon.process("other")
    command.unlink()
    os.kill(daemon.process("gone"), 9)
    reason = until(
        lambda: (daemon.record("gone")["state"] == "BACKOFF") and daemon.record("gone")["reason"], "BACKOFF"
    )
    assert re.search(r"exec '.*/command' failed: No such file or directory \(ENOENT\)", reason), reason
    shutil.copy("/bin/sleep", command)
    daemon.until_state("gone", "RUNNING")
    assert daemon.process("other") == other


def test_a_directory_that_vanishes_while_procd_runs_is_named(start_daemon: Callable[..., Daemon]) -> None:
    """The step that failed is part of the reason."""
    daemon = start_daemon("")
    place = daemon.directory / "place"
    place.mkdir()
    daemon.write("[programs.there]\ncommand = ['sleep', 'infinity']\ndirectory = 'place'\nautostart = false\n")
    daemon.does("reload")
    place.rmdir()
    done = daemon.procctl("start", "there")
    assert done.code == 1
    assert re.search(r"chdir '.*/place' failed: No such file or directory", done.out), done
    daemon.does("stop", "there")


def test_a_log_directory_that_vanishes_does_not_stop_the_program(start_daemon: Callable[..., Daemon]) -> None:
    """Its log is made again when the program is started again."""
    daemon = start_daemon("[programs.says]\ncommand = 'echo life; exec sleep infinity'\nshell = true\n")
    daemon.until_output("says", b"life")
    before = daemon.process("says")
    shutil.rmtree(daemon.directory / "log")
    assert alive(before)
    daemon.does("restart", "says")
    assert daemon.process("says") != before
