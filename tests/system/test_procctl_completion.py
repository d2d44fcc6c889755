"""Completion in real shells: verbs, options and the names of programs."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.system.daemon import BOUND_S, PROCCTL, Done, run

if TYPE_CHECKING:
    from tests.system.daemon import Daemon

CONFIGURATION = """
[programs.quiet]
command = ["sleep", "infinity"]
instances = 2

[programs.quick]
command = ["sleep", "infinity"]

[programs.other]
command = ["sleep", "infinity"]
"""


def needs(shell: str) -> pytest.MarkDecorator:
    """Skip a test where that shell is not installed."""
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"there is no {shell} here")


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A directory with a `procctl` for PATH."""
    (tmp_path / "procctl").write_text(f'#!/bin/sh\nexec {shlex.join(PROCCTL)} "$@"\n')
    (tmp_path / "procctl").chmod(0o755)
    return tmp_path


def environment(command: Path, socket: Path) -> dict[str, str]:
    """What the shell has."""
    return {"PATH": f"{command}:{os.environ['PATH']}", "PROCD_SOCKET": str(socket)}


def in_bash(command: Path, socket: Path, *words: str) -> Done:
    """What bash offers for the last of the words."""
    line = shlex.join(["procctl", *words])
    script = f"""
        set -e
        eval "$(procctl completion bash)"
        COMP_WORDS=({line}) COMP_CWORD={len(words)}
        _procctl_completion procctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return run(["bash", "-c", script], environment=environment(command, socket))


@needs("bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sto"], ["stop"]),
        (["stop", "qui"], ["quick", "quiet", "quiet@0", "quiet@1"]),
        (["stop", "quiet", "qui"], ["quick", "quiet@0", "quiet@1"]),
        (["why", "quiet"], ["quiet@0", "quiet@1"]),
        (["logs", "-f", "qui"], ["quick", "quiet@0", "quiet@1"]),
        (["attach", "oth"], ["other"]),
        (["wait", "quick", "--for", "st"], ["stopped"]),
        (["restart", "--rol"], ["--rolling"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
    ids=" ".join,
)
def test_bash_completes(shared: Daemon, command: Path, words: list[str], offered: list[str]) -> None:
    """Verbs, options, and names that the daemon knows; not one that stands there already."""
    done = in_bash(command, shared.socket, *words)
    assert (done.code, done.err) == (0, "")
    assert sorted(done.out.splitlines()) == sorted(offered)


@needs("bash")
def test_without_a_daemon_nothing_is_offered_and_nothing_said(command: Path, tmp_path: Path) -> None:
    """Whoever presses Tab wants no error message."""
    done = in_bash(command, tmp_path / "nobody", "stop", "qui")
    assert (done.code, done.out.strip(), done.err) == (0, "", "")


@needs("fish")
def test_fish_completes(shared: Daemon, command: Path) -> None:
    """The same names."""
    script = "procctl completion fish | source; complete -C 'procctl stop quie'"
    home = {**environment(command, shared.socket), "HOME": str(command)}
    done = run(["fish", "--no-config", "-c", script], environment=home)
    assert done.code == 0, done
    assert [line.split("\t")[0] for line in done.out.splitlines()] == ["quiet", "quiet@0", "quiet@1"]


@needs("zsh")
def test_zsh_completes(shared: Daemon, command: Path) -> None:
    """On a terminal, with the Tab key: zsh has no other way."""
    shell = pexpect.spawn(
        "zsh", ["-f"], timeout=BOUND_S, encoding="utf-8", dimensions=(24, 100),
        env={**os.environ, **environment(command, shared.socket), "TERM": "xterm", "PS1": "> "},
    )  # fmt: skip
    with Path(os.devnull).open("w") as nowhere:
        shell.logfile = nowhere
        shell.sendline(
            "autoload -Uz compinit && compinit -u -D; eval \"$(procctl completion zsh)\"; echo re''ady"
        )
        shell.expect_exact("ready\r\n")
        shell.send("procctl stop oth\t\n")
        shell.expect("other.*other: STOPPED")
        shell.sendline("exit")
        shell.expect(pexpect.EOF)
        shell.close()
    assert shared.record("other")["state"] == "STOPPED"
