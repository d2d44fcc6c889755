"""What things cost, counted and not timed: wake-ups, system calls, descriptors, bytes on the wire, modules.

The bounds are a little above what is counted today.  Who crosses one has made procd slower, whatever the
machine is: mend it, or raise the bound and say in the commit what it was worth.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgpack
import pytest

from tests.system.daemon import HEAD, ROOT, until, voluntary_switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.system.daemon import Daemon

#: Programs that are counted together; what is done once for all of them is in the counts as well.
PROGRAMS = 50
#: No timer of a program may be due while it is counted.
AT_ONCE = HEAD.replace('min_uptime = "50ms"', 'min_uptime = "0s"\nbackoff = { initial = "0s" }')
SILENT = 'stdout = "null"\nstderr = "null"\n'
CAPTURED = ""
#: No beat of the watchdog while it is counted.
QUIET = {"PROCD_KEEPER_PACE": "beat=3600"}


def sleepers(more: str, *, autostart: bool = True) -> str:
    """So many programs that do nothing."""
    return (
        f'[programs.p]\ncommand = ["/bin/sleep", "1000"]\ninstances = {PROGRAMS}\n{more}'
        f"autostart = {str(autostart).lower()}\n"
    )


def processes(daemon: Daemon) -> dict[str, int]:
    """The three of a procd."""
    return {"keeper": daemon.keeper, "supervisor": daemon.supervisor, "logger": daemon.logger}


def until_quiet(daemon: Daemon) -> None:
    """Wait until nobody of a procd has anything to do."""

    def woken() -> int:
        return sum(map(voluntary_switches, processes(daemon).values()))

    def quiet() -> bool:
        before = woken()
        time.sleep(0.5)
        return woken() == before

    until(quiet, "procd to be idle")


# Idle


def test_nobody_wakes_up_for_nothing(make_daemon: Callable[..., Daemon]) -> None:
    """With a beat of the watchdog an hour away, fifty programs and their pipes wake nobody."""
    daemon = make_daemon(sleepers(CAPTURED), head=AT_ONCE)
    daemon.start(environment=QUIET)
    until_quiet(daemon)
    before = {name: voluntary_switches(pid) for name, pid in processes(daemon).items()}
    time.sleep(5)  # what is counted is what happens in a while
    after = {name: voluntary_switches(pid) for name, pid in processes(daemon).items()}
    assert after == before


def test_the_watchdog_wakes_everybody_once_in_a_beat(make_daemon: Callable[..., Daemon]) -> None:
    """Each of the two that are asked, and the keeper for its clock and for the answers."""
    daemon = make_daemon(sleepers(CAPTURED), head=AT_ONCE)
    daemon.start(environment={"PROCD_KEEPER_PACE": "beat=1 patience=10"})
    until(lambda: all(record["pid"] for record in daemon.records().values()), "all to run")
    time.sleep(1)
    before = sum(map(voluntary_switches, processes(daemon).values()))
    began_s = time.monotonic()
    time.sleep(5)
    beats = time.monotonic() - began_s
    assert sum(map(voluntary_switches, processes(daemon).values())) - before <= 5 * (beats + 1)


# System calls


class Calls(NamedTuple):
    """System calls of each process, by their names."""

    of: dict[str, Counter[str]]

    def check(self, most: dict[str, int]) -> None:
        """Fail if a process has made more for each program."""
        found = {name: self.of[name].total() / PROGRAMS for name in most}
        assert all(found[name] <= bound for name, bound in most.items()), (found, self.of)


def _may_trace() -> str:
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()}"


needs_strace = pytest.mark.skipif(bool(_may_trace()), reason=_may_trace() or "strace traces")


@contextlib.contextmanager
def traced(daemon: Daemon, place: Path) -> Iterator[Calls]:
    """Count in this block the system calls of procd, those of its children not; whoever is in one counts it."""
    names = {pid: name for name, pid in processes(daemon).items()}
    targets = [word for pid in names for word in ("-p", str(pid))]
    written = place / "calls"
    calls = Calls({name: Counter() for name in names.values()})
    until_quiet(daemon)
    with subprocess.Popen(["strace", "-o", written, *targets], stderr=subprocess.PIPE, text=True) as strace:
        try:
            assert strace.stderr is not None
            for _ in names:
                assert "attached" in strace.stderr.readline()
            yield calls
            until_quiet(daemon)
        finally:
            strace.send_signal(signal.SIGINT)
    for line in written.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found is not None:
            calls.of[names[int(found[1])]][found[2]] += 1


@needs_strace
@pytest.mark.parametrize(
    ("output", "bounds"),
    [
        (SILENT, {"supervisor": 29, "keeper": 1, "logger": 3}),
        (CAPTURED, {"supervisor": 40, "keeper": 6, "logger": 38}),
    ],
    ids=["silent", "captured"],
)
def test_system_calls_of_a_spawn(
    make_daemon: Callable[..., Daemon], tmp_path: Path, output: str, bounds: dict[str, int]
) -> None:
    """A vfork and what is around it, and with a log its file; the keeper is told, and not woken."""
    daemon = make_daemon(sleepers(output, autostart=False), head=AT_ONCE)
    daemon.start(environment=QUIET)
    with daemon.client() as client:
        names = list(daemon.pids())
        with traced(daemon, tmp_path) as calls:
            client.call("start", programs=names)
    assert calls.of["supervisor"]["clone3"] + calls.of["supervisor"]["vfork"] == PROGRAMS, calls
    calls.check(bounds)


@needs_strace
@pytest.mark.parametrize(
    ("output", "bounds"),
    [
        (SILENT, {"supervisor": 36, "keeper": 1, "logger": 3}),
        (CAPTURED, {"supervisor": 51, "keeper": 17, "logger": 16}),
    ],
    ids=["silent", "captured"],
)
def test_system_calls_of_a_restart(
    make_daemon: Callable[..., Daemon], tmp_path: Path, output: str, bounds: dict[str, int]
) -> None:
    """The keeper hears of three things and is not woken: how it ended, that another is meant, that it lives."""
    daemon = make_daemon(sleepers(output), head=AT_ONCE)
    daemon.start(environment=QUIET)
    until(lambda: None not in daemon.pids().values(), "all to run")
    before = daemon.pids()
    with traced(daemon, tmp_path) as calls:
        for pid in before.values():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        until_quiet(daemon)
    after = daemon.pids()
    assert not set(before.values()) & set(after.values())
    calls.check(bounds)


# Descriptors


@pytest.mark.parametrize(
    ("output", "each"),
    [
        (SILENT, {"keeper": 0, "supervisor": 0, "logger": 0}),
        (CAPTURED, {"keeper": 1, "supervisor": 1, "logger": 2}),
        ('stdin = "pipe"\n', {"keeper": 2, "supervisor": 2, "logger": 2}),
        ('stderr = "log"\n', {"keeper": 2, "supervisor": 2, "logger": 4}),
    ],
    ids=["silent", "captured", "with stdin", "with two logs"],
)
def test_descriptors_of_a_program(
    start_daemon: Callable[..., Daemon], output: str, each: dict[str, int]
) -> None:
    """A read end in all three, and the log where it is written: what stands in explanation/performance.md."""
    daemon = start_daemon(sleepers(output, autostart=False), head=AT_ONCE)

    def held() -> dict[str, int]:
        return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in processes(daemon).items()}  # noqa: PTH208 - numbers

    # What there is once for all: that of the events, and of what procd says.
    with daemon.client() as client:
        client.call("start", programs=["p@0"])
        daemon.until_state("p@0", "RUNNING")
        until_quiet(daemon)
        before = held()
        client.call("start", programs=list(daemon.pids()))
        wanted = {name: before[name] + number * (PROGRAMS - 1) for name, number in each.items()}
        until(lambda: held() == wanted, f"{wanted}, but there are {held()}")


# The wire, and procctl


def test_bytes_of_a_row_of_status(start_daemon: Callable[..., Daemon]) -> None:
    """What 1,000 programs take on the wire is a thousand times that."""
    daemon = start_daemon(sleepers(CAPTURED), head=AT_ONCE)
    until(lambda: all(record["pid"] for record in daemon.records().values()), "all to run")

    def answer(*programs: str) -> int:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(daemon.socket))
            params = {"programs": list(programs)} if programs else {}
            for request in ([0, 1, "hello", [{"protocol": 1}]], [0, 2, "status", [params]]):
                connection.sendall(msgpack.packb(request))
            received = bytearray()
            unpacker = msgpack.Unpacker()
            ends: list[int] = []
            while len(ends) < 2:
                piece = connection.recv(1 << 16)
                assert piece, "the daemon has left"
                received += piece
                unpacker.feed(piece)
                ends += [unpacker.tell() for _ in unpacker]
        return ends[1] - ends[0]

    row = (answer() - answer("p@0")) / (PROGRAMS - 1)
    # Where its logs are stands there as well, and that is as long as the tests' directory has it.
    paths = sum(len(stream["path"]) for stream in daemon.record("p@10")["streams"].values())
    assert row - paths <= 360


def test_modules_of_a_status(start_daemon: Callable[..., Daemon]) -> None:
    """What Python itself loads, msgpack, and the few that are needed to ask and to print."""
    daemon = start_daemon(sleepers(CAPTURED), head=AT_ONCE)
    program = (
        "import sys; before = set(sys.modules); from procctl.cli import run; code = run(sys.argv[1:]); "
        "print(code, *sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "-s", str(daemon.socket), "status"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    code, *modules = done.stderr.split()
    assert code == "0"
    assert len(modules) <= 62, modules
