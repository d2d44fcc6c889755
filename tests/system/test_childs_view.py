"""What a program finds when it is started by a procd that was itself started badly."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.children import needs_root, python_for_anyone
from tests.system.daemon import PROGRAMS, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

needs_prlimit = pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit (util-linux) is not installed")


def view(daemon: Daemon, name: str = "view") -> dict[str, Any]:
    """How the program found itself."""
    found: dict[str, Any] = json.loads(until(lambda: daemon.output(name), f"the view of {name}"))
    return found


def program(name: str, keys: str = "") -> str:
    """A program that tells how it finds itself; any user can execute it."""
    words = [python_for_anyone(), "-I", "-c", (PROGRAMS / "view.py").read_text()]
    return f"[programs.{name}]\ncommand = {json.dumps(words)}\nrestart = 'never'\n{keys}\n"


def test_it_leads_a_session_with_three_descriptors(start_daemon: Callable[..., Daemon]) -> None:
    """Whatever descriptors procd has, the child gets 0, 1 and 2; its stdin is at its end."""
    daemon = start_daemon(program("view"))
    found = view(daemon)
    assert found["session"] == found["group"] == found["pid"]
    assert found["descriptors"] == [0, 1, 2]
    assert (found["directory"], found["umask"]) == ("/", 0o022)


def test_signals_are_as_if_nobody_had_touched_them(start_daemon: Callable[..., Daemon]) -> None:
    """They were ignored and blocked in procd when it was started, as nohup and some parents do."""
    daemon = start_daemon(
        program("view"), prefix=["env", "--ignore-signal=HUP", "--ignore-signal=USR1", "--block-signal=USR2"]
    )
    status = view(daemon)["status"]
    # Python itself ignores SIGPIPE and SIGXFSZ when it starts; 32 and 33 are the C library's own.
    changeable = signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}
    ignored, blocked = (int(status[field][0], 16) for field in ("SigIgn", "SigBlk"))
    assert [number for number in changeable if ignored >> (number - 1) & 1] == []
    assert blocked == 0


@needs_prlimit
def test_it_gets_the_descriptor_limit_that_procd_was_given(start_daemon: Callable[..., Daemon]) -> None:
    """The daemon raises its own; programs that use select(2) must not inherit that."""
    daemon = start_daemon(program("view"), prefix=["prlimit", "--nofile=512:4096"])
    assert view(daemon)["limits"]["RLIMIT_NOFILE"] == [512, 4096]


def test_its_environment_is_procds_without_what_was_meant_for_procd(make_daemon: Callable[..., Daemon]) -> None:
    """Plus its own; the manager's variables stay with procd."""
    daemon = make_daemon(program("view", 'environment = { OWN = "${FROM_PROCD}!" }'))
    private = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    daemon.start(environment={**private, "FROM_PROCD": "inherited", "PROCD_COOKIE": "of another procd"})
    environment = view(daemon)["environment"]
    assert not private.keys() & environment.keys()
    assert (environment["FROM_PROCD"], environment["OWN"]) == ("inherited", "inherited!")
    assert (environment["PROCD_PROGRAM"], environment["PROCD_INSTANCE"]) == ("view", "0")
    assert environment["PROCD_COOKIE"] != "of another procd"


@needs_root
def test_a_program_with_a_user_has_all_of_that_user_and_nothing_of_root(
    start_daemon: Callable[..., Daemon],
) -> None:
    """User, group, supplementary groups, HOME and its kin; no capability is left."""
    nobody = pwd.getpwnam("nobody")
    daemon = start_daemon(program("view", 'user = "nobody"'))
    found = view(daemon)
    assert set(found["uids"]) == {nobody.pw_uid}
    assert set(found["gids"]) == {nobody.pw_gid}
    assert set(found["groups"]) == set(os.getgrouplist("nobody", nobody.pw_gid))
    environment = found["environment"]
    assert (environment["USER"], environment["LOGNAME"]) == ("nobody", "nobody")
    assert (environment["HOME"], environment["SHELL"]) == (nobody.pw_dir, nobody.pw_shell)
    assert int(found["status"]["CapEff"][0], 16) == 0
    assert int(found["status"]["CapPrm"][0], 16) == 0


@needs_root
def test_a_program_with_a_user_can_open_its_output_again(start_daemon: Callable[..., Daemon]) -> None:
    """/dev/stdout is a pipe that belongs to its user, as nginx in a container needs it."""
    daemon = start_daemon("""
        [programs.opens]
        command = "echo opened > /dev/stdout; echo too > /dev/stderr; exec sleep infinity"
        shell = true
        user = "nobody"
        """)
    daemon.until_output("opens", b"opened\ntoo\n")


def test_instances_know_which_they_are(start_daemon: Callable[..., Daemon]) -> None:
    """From 0, in PROCD_INSTANCE, which the command can use."""
    daemon = start_daemon("""
        [programs.many]
        command = ["sh", "-c", 'echo "$PROCD_PROGRAM $PROCD_INSTANCE $1"', "sh", "${PROCD_INSTANCE}"]
        instances = 2
        restart = "never"
        """)
    assert daemon.until_output("many@0", b"\n") == b"many 0 0\n"
    assert daemon.until_output("many@1", b"\n") == b"many 1 1\n"
