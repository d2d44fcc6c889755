"""The environment that a program gets, layer by layer."""

from __future__ import annotations

import pytest
from msgspec import structs

from procd.config.environment import DEFAULT_PATH, build
from procd.config.spec import Credentials, ProgramSpec

SPEC = ProgramSpec(name="web", program="web", command=("true",))
ANN = Credentials(1001, 1001, (1001,), "ann", "/home/ann", "/bin/zsh")
OWN = {"PROCD_PROGRAM": "web", "PROCD_INSTANCE": "0"}


def test_a_program_inherits_everything_but_what_was_meant_for_procd() -> None:
    """A program with NOTIFY_SOCKET could say READY in procd's name."""
    environ = {
        "LANG": "C", "PATH": "/bin", "NOTIFY_SOCKET": "/run/n", "LISTEN_FDS": "1", "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1",
    }  # fmt: skip
    assert build(SPEC, environ) == {"LANG": "C", "PATH": "/bin", **OWN}


def test_inherit_false_leaves_a_path_and_procds_own_names() -> None:
    """Without a PATH most programs find nothing."""
    spec = structs.replace(SPEC, inherit=False)
    assert build(spec, {"LANG": "C", "PATH": "/opt"}) == {"PATH": DEFAULT_PATH, **OWN}


def test_a_list_of_names_is_inherited_as_far_as_they_are_set() -> None:
    """Private names are not inherited even when they are asked for."""
    spec = structs.replace(SPEC, inherit=frozenset({"LANG", "NONE", "NOTIFY_SOCKET"}))
    environ = {"LANG": "C", "TERM": "x", "NOTIFY_SOCKET": "/run/n"}
    assert build(spec, environ) == {"LANG": "C", "PATH": DEFAULT_PATH, **OWN}


def test_a_program_with_a_user_gets_what_a_login_sets() -> None:
    """Procd's own HOME would be root's (supervisord issue 1171)."""
    spec = structs.replace(SPEC, credentials=ANN)
    variables = build(spec, {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh"})
    assert variables == {
        "HOME": "/home/ann", "USER": "ann", "LOGNAME": "ann", "SHELL": "/bin/zsh", "PATH": DEFAULT_PATH, **OWN
    }  # fmt: skip


def test_a_program_with_only_a_group_keeps_the_login_of_procd() -> None:
    """No user is named, so nobody else's HOME is right."""
    spec = structs.replace(SPEC, credentials=Credentials(0, 33, (33,), "", "", ""))
    assert build(spec, {"HOME": "/root"})["HOME"] == "/root"


def test_the_file_wins_over_user_and_inheritance() -> None:
    """Its entries are the last word, but for procd's own names."""
    added = (("HOME", "/srv"), ("LANG", "de"), ("PROCD_PROGRAM", "other"))
    spec = structs.replace(SPEC, credentials=ANN, environment=added)
    variables = build(spec, {"LANG": "C"})
    assert (variables["HOME"], variables["LANG"], variables["PROCD_PROGRAM"]) == ("/srv", "de", "web")


@pytest.mark.parametrize(("instance", "number"), [(None, "0"), (0, "0"), (7, "7")])
def test_every_instance_knows_its_number(instance: int | None, number: str) -> None:
    """A single one is number 0, so that a command with ${PROCD_INSTANCE} works for one and for many."""
    spec = structs.replace(SPEC, instance=instance)
    assert build(spec, {})["PROCD_INSTANCE"] == number


def test_a_terminal_is_not_that_from_which_procd_was_started() -> None:
    """Nor has it that size; but the file has the last word, by a value or by inheriting a name."""
    environ = {"PATH": "/bin", "TERM": "linux", "COLORTERM": "truecolor", "LINES": "50", "COLUMNS": "200"}
    spec = structs.replace(SPEC, terminal=True)
    assert build(spec, environ) == {"PATH": "/bin", "TERM": "xterm-256color", **OWN}
    assert build(structs.replace(spec, inherit=False), environ)["TERM"] == "xterm-256color"
    assert build(structs.replace(spec, inherit=frozenset({"TERM"})), environ)["TERM"] == "linux"
    assert build(structs.replace(spec, environment=(("TERM", "vt100"),)), environ)["TERM"] == "vt100"


def test_the_environment_of_procd_is_not_touched() -> None:
    """Each build is a new dictionary."""
    environ = {"PATH": "/bin"}
    build(SPEC, environ)["X"] = "1"
    assert environ == {"PATH": "/bin"}
