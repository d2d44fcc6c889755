"""Several hosts: which exit status stands for all, what may be a host, and what ssh is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procctl.cli import run
from procctl.fleet import of_all
from procctl.remote import Ssh, checked_host
from procctl.short_way import short_way
from procd.errors import NotPermitted, Unreachable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("codes", "code"),
    [([0, 0], 0), ([0, 3], 3), ([3, 1], 1), ([0, 6], 6), ([6, 2], 2), ([7, 4, 5], 7), ([0, 99], 1), ([130], 1)],
)
def test_the_exit_status_is_the_worst(codes: list[int], code: int) -> None:
    """In the order of the reference."""
    assert of_all(codes) == code


@pytest.mark.parametrize("host", ["web1", "root@web1", "10.0.0.1", "fe80::1%eth0", "ssh://me@web1:2222"])
def test_what_ssh_takes_is_a_host(host: str) -> None:
    """Names, users, addresses, and URIs with a port."""
    assert checked_host(host) == host
    assert short_way(["-H", host, "status"]) is None


@pytest.mark.parametrize("host", ["", "-l", "--", "a b", "a;b", "a\n", "a'b", "me@", "$(x)", "`x`"])
def test_what_it_would_take_for_something_else_is_none(host: str) -> None:
    """An option, or words for a shell."""
    with pytest.raises(ValueError, match=r".*"):
        checked_host(host)


def ssh_that(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a shell script in the place of ssh."""
    path = directory / "ssh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PROCCTL_SSH", f"{path} -F conf")


def test_ssh_is_told_never_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how long to wait; the words for the other side are quoted for its shell."""
    ssh_that(tmp_path, 'printf "%s\\n" "$@" >&2; exit 3', monkeypatch)
    way = Ssh("web1", "/a b")
    with way.connect(2.5):
        way.why_it_ended()
    way._said.seek(0)
    assert way._said.read().decode().splitlines() == [
        "-F", "conf", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "--", "web1",
        "procctl -s '/a b' --stdio",
    ]  # fmt: skip
    way.leave()


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("echo banner >&2; echo no route >&2; exit 255", Unreachable, "web1 does not answer by ssh: no route"),
        ("exit 255", Unreachable, "web1 does not answer by ssh: it did not say why"),
        ("exit 127", Unreachable, "web1 has no procctl on the PATH that ssh gives"),
        ("echo 'procctl: no daemon answers' >&2; exit 6", Unreachable, "on web1, no daemon answers"),
        ("echo 'procctl: you may not' >&2; exit 5", NotPermitted, "on web1, you may not"),
        ("exit 0", Unreachable, "the daemon on web1 closed the connection"),
        ("echo Welcome to web1; sleep 1", Unreachable, "what answers on web1 does not speak procd's protocol"),
    ],
)  # fmt: skip
def test_what_went_wrong_is_said_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    script: str,
    kind: type[Exception],
    words: str,
) -> None:
    """By ssh, by its shell, or by the procctl at the other end."""
    ssh_that(tmp_path, script, monkeypatch)
    assert run(["-H", "web1", "status"]) == (5 if kind is NotPermitted else 6)
    assert capfd.readouterr().err.startswith(f"procctl: {words}")


def test_without_an_ssh_it_says_so(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Not every machine has a client."""
    monkeypatch.setenv("PROCCTL_SSH", "/nowhere/ssh")
    assert run(["-H", "web1", "status"]) == 6
    assert capfd.readouterr().err == (
        "procctl: ssh cannot be started: No such file or directory\ninstall an ssh client\n"
    )


def test_a_verb_for_one_host_refuses_several(capfd: pytest.CaptureFixture[str]) -> None:
    """A person has one keyboard."""
    assert run(["-H", "a", "-H", "b", "attach", "web"]) == 2
    assert capfd.readouterr().err == "procctl: attach is for one host\nsay -H once\n"
