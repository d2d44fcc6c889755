"""`procctl upgrade`: procd goes on as the program that is installed now, and programs notice nothing."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import procd
from tests.system import daemon as daemons
from tests.system.daemon import until
from tests.system.survival import DEAF

if TYPE_CHECKING:
    from tests.system.daemon import Daemon
    from tests.system.survival import Stage

TICKS = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.005; done"
OTHER = "9.9.9"
#: A program of a later time, which does not read what this one writes.
LATER = "\nVERSION = 1\n", "\nVERSION = 2\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A procd that can be changed while it runs; the daemons of this test are of it."""
    place = tmp_path / "installed/procd"
    shutil.copytree(Path(procd.__file__).parent, place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(daemons, "PROCD", [sys.executable, "-P", str(place / "__main__.py")])
    return place


def change(place: Path, file: str, old: str, new: str) -> None:
    """Install something else; a compiled file knows its source by second and size only."""
    text = (place / file).read_text()
    assert text.count(old) == 1, file
    (place / file).write_text(text.replace(old, new))
    Path(cache_from_source(place / file)).unlink(missing_ok=True)


def processes(daemon: Daemon) -> tuple[int, int, int]:
    """Keeper, supervisor, logger."""
    return daemon.keeper, daemon.supervisor, daemon.logger


def loaded(pid: int, place: Path) -> bool:
    """Whether a process was executed from a place."""
    return str(place) in Path(f"/proc/{pid}/cmdline").read_text()


def test_all_three_go_on_as_what_is_installed(stage: Stage, installed: Path) -> None:
    """With another version; each program in its life, each line once in its log, what is sent arrives."""
    daemon = stage.start(stage.program("ticks", TICKS), stage.program("typed", "exec cat", 'stdin = "pipe"'))
    stage.until_born("ticks", "typed")
    before, programs = processes(daemon), daemon.pids()
    daemon.does("send", "typed", "before")
    change(installed, "__init__.py", procd.__version__, OTHER)
    with daemon.procctl_running("logs", "-f", "-n", "1000", "ticks") as follows:
        answer = daemon.json("upgrade")
        assert (answer["from"], answer["to"]) == (procd.__version__, OTHER)
        assert daemon.json("version")["procd"] == OTHER
        daemon.does("send", "typed", "after")
        daemon.until_output("typed", b"before\nafter\n")
        after = processes(daemon)
        assert after[0] == before[0]
        assert answer["pid"] == after[1] != before[1]
        daemon.does("stop", "ticks")
        lines = daemon.output("ticks").splitlines()
        assert follows.stdout is not None
        followed = [follows.stdout.readline().rstrip(b"\n") for _ in lines]
    assert lines == followed == [b"tick %d" % number for number in range(1, len(lines) + 1)]
    assert daemon.process("typed") == programs["typed"]
    assert stage.births() == {"ticks": 1, "typed": 1}
    assert all(loaded(pid, installed) for pid in after)


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("runtime/keeping.py", "class NotKeptError", "klass NotKeptError", "SyntaxError"),
        ("core/memory.py", *LATER, "its version is 1, and 2 is understood"),
        ("output/remembered.py", *LATER, "it is of version 1; this procd reads 2"),
        ("beginning.py", *LATER, "reads version 2"),
        ("config/snapshot.py", *LATER, "this procd reads 2"),
        ("keeper/succession.py", "\nFORM = 1\n", "\nFORM = 2\n", "the keeper that is installed"),
    ],
)
def test_what_cannot_take_over_does_not(
    stage: Stage, installed: Path, file: str, old: str, new: str, why: str
) -> None:
    """Broken, or of another time: that is said, nothing changes, and the next that can does."""
    daemon = stage.start(stage.program("one"))
    stage.until_born("one")
    before, programs = processes(daemon), daemon.pids()
    change(installed, file, old, new)
    refused = daemon.procctl("upgrade")
    assert refused.code == 1
    assert "nothing has changed" in refused.err
    assert why in refused.err
    assert (processes(daemon), daemon.pids()) == (before, programs)
    change(installed, file, new, old)
    daemon.does("upgrade")
    assert daemon.supervisor != before[1]
    assert daemon.pids() == programs
    assert stage.births() == {"one": 1}


def test_a_configuration_with_a_mistake_is_not_gone_on_with(stage: Stage) -> None:
    """Every problem is told, as a reload tells them; one without is carried out."""
    daemon = stage.start(stage.program("one"), stage.program("two"))
    stage.until_born("one", "two")
    before = daemon.pids()
    daemon.write(stage.program("one") + "[programs.two]\ncommand = 5\n")
    refused = daemon.procctl("upgrade")
    assert refused.code == 1
    assert "programs.two.command" in refused.err
    assert daemon.pids() == before
    daemon.write(stage.program("one") + stage.program("three"))
    daemon.does("upgrade")
    until(lambda: set(daemon.records()) == {"one", "three"}, "the plan to be carried out")
    stage.until_born("three")
    assert daemon.process("one") == before["one"]


def test_what_cannot_be_opened_leaves_the_old_configuration_in_force(stage: Stage) -> None:
    """A port that somebody has is found out by the next supervisor: programs go on, and so does procd."""
    daemon = stage.start(stage.program("one"))
    stage.until_born("one")
    before = daemon.pids()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon.write(
            f'[sockets.web]\nlisten = "127.0.0.1:{port}"\n' + stage.program("one", keys='sockets = ["web"]')
        )
        daemon.does("upgrade")
        until(lambda: "the old one stays in force" in daemon.said.read_text(), "the refusal")
        daemon.kill_supervisor()
        assert daemon.pids() == before
    assert stage.births() == {"one": 1}


def test_who_has_asked_is_answered(stage: Stage) -> None:
    """A stop takes its time, an upgrade comes in the middle: the one is answered, then the other goes on."""
    daemon = stage.start(stage.program("deaf", DEAF, 'stop_timeout = "2s"'), stage.program("one"))
    daemon.until_output("deaf", b"deaf")
    with daemon.procctl_running("--json", "stop", "deaf") as stops:
        until(lambda: daemon.record("deaf")["state"] == "STOPPING", "the stop to have begun")
        daemon.does("upgrade")
        out, err = stops.communicate(timeout=daemons.BOUND_S)
    assert stops.returncode == 0, err
    assert json.loads(out)["programs"][0]["state"] == "STOPPED"
    assert daemon.record("deaf")["state"] == "STOPPED"
    assert stage.births() == {"deaf": 1, "one": 1}


def test_who_never_reads_does_not_hold_it_up(stage: Stage) -> None:
    """A client in the middle of a flood that it does not read is left behind."""
    daemon = stage.start(stage.program("floods", "exec yes"))
    stage.until_born("floods")
    with daemon.client() as client:
        client.call("logs", program="floods", offset=0, follow=True)
        before = daemon.supervisor
        daemon.does("--timeout", "15s", "upgrade")
        assert daemon.supervisor != before
    assert stage.births() == {"floods": 1}
