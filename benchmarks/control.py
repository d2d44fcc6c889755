"""How fast procd answers on its control socket, and procctl on a terminal, beside supervisord, in one run.

    python benchmarks/control.py [--supervisor DIRECTORY] [--rounds 15]

DIRECTORY holds supervisord and supervisorctl (or $SUPERVISOR_BIN; without it they are left out): for example
the `bin` of a venv in which supervisor was installed.  Every round runs each command once, so that all see the
same noise; what counts is the ratio of the medians.  What the daemon itself spends is read from its clock:
processor time of that process, for so many requests.  Everything is compiled first, as pip does.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

import procctl as procctl_package
import procd as procd_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW, MANY = 100, 1000
#: Requests of one program, and how many are on their way at once where they are pipelined: what procd serves at
#: once of one connection.
REQUESTS, WINDOW = 10_000, 8
#: Requests for all programs.
LARGE_REQUESTS = 30
#: How long a daemon may take to have everything running.
PATIENCE_S = 120.0

HEAD = """
[daemon]
runtime_dir = "run"
state_dir = "state"
log_dir = "log"
log_level = "warning"
[defaults]
min_uptime = "10ms"
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--supervisor", default=os.environ.get("SUPERVISOR_BIN"))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    compile_all()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with procd(place / "few", FEW) as few:
            if options.supervisor:
                with supervisord(place / "supervisor", Path(options.supervisor), FEW) as command:
                    compare(few, options.rounds, command)
            else:
                compare(few, options.rounds, None)
            requests_a_second(few)
        with procd(place / "many", MANY) as many:
            status_of_many(many)


def compile_all() -> None:
    """Write what Python would write at the first start, also where it was told not to."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in (procctl_package, procd_package):
        assert package.__file__ is not None
        compileall.compile_dir(Path(package.__file__).parent, quiet=2)


# The daemons


class Running:
    """A procd with its programs running."""

    def __init__(self, pid: int, path: Path) -> None:
        self.pid = pid
        self.path = path
        self._unpacker = msgpack.Unpacker(max_buffer_size=1 << 28)
        self._socket = socket.socket(socket.AF_UNIX)

    def connect(self) -> None:
        """Connect; raises OSError while nobody listens."""
        self._socket.connect(str(self.path))

    def send(self, *requests: bytes) -> None:
        """Send frames."""
        self._socket.sendall(b"".join(requests))

    def receive(self) -> list[Any]:
        """Whatever answers have come, one at least; raises AssertionError for an error."""
        while True:
            self._unpacker.feed(self._socket.recv(1 << 20))
            answers = list(self._unpacker)
            if answers:
                assert all(answer[2] is None for answer in answers), answers
                return answers

    def cpu_s(self) -> float:
        """Processor time that the daemon has used (clock_getcpuclockid(3))."""
        return time.clock_gettime(~self.pid << 3 | 2)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def request(number: int, method: str, **params: Any) -> bytes:  # noqa: ANN401 - what travels on the wire
    """A frame."""
    return bytes(msgpack.packb([0, number, method, [params]]))


def script(name: str) -> list[str]:
    """The command that is installed beside this interpreter."""
    found = Path(sysconfig.get_path("scripts"), name)
    return [str(found)] if found.exists() else [sys.executable, "-m", name]


@contextmanager
def procd(place: Path, count: int) -> Iterator[Running]:
    """A procd with so many programs, until the end of the block."""
    place.mkdir()
    programs = "".join(f'[programs.p{number}]\ncommand = ["sleep", "100000"]\n' for number in range(count))
    (place / "procd.toml").write_text(HEAD + programs)
    command = [*script("procd"), "run", "-c", str(place / "procd.toml")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        running = Running(process.pid, place / "run/procd.sock")
        try:
            wait_for(lambda: _listens(running))
            wait_for(lambda: _all_run(running, count))
            yield running
        finally:
            running.close()
            process.terminate()


def _listens(running: Running) -> bool:
    try:
        running.connect()
    except OSError:
        return False
    # Whoever listens may be a child of the process that was started.
    running.send(request(0, "hello"))
    running.pid = running.receive()[0][3]["pid"]
    return True


def _all_run(running: Running, count: int) -> bool:
    running.send(request(0, "metrics"))
    return bool(running.receive()[0][3]["programs_running"] == count)


@contextmanager
def supervisord(place: Path, binaries: Path, count: int) -> Iterator[list[str]]:
    """A supervisord with so many programs, until the end of the block; the command that asks for its status."""
    place.mkdir()
    programs = "".join(f"[program:p{number}]\ncommand=sleep 100000\n" for number in range(count))
    (place / "supervisord.conf").write_text(
        f"[unix_http_server]\nfile={place}/s\n[supervisord]\nnodaemon=true\nlogfile={place}/log\n"
        f"pidfile={place}/pid\nchildlogdir={place}\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://{place}/s\n{programs}"
    )
    configuration = ["-c", str(place / "supervisord.conf")]
    command = [str(binaries / "supervisorctl"), *configuration, "status"]
    started = [str(binaries / "supervisord"), *configuration]
    with subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: _output_of(command).count(b"RUNNING") == count)
            yield command
        finally:
            process.terminate()


def _output_of(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=False).stdout


def wait_for(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


# What is measured


def compare(running: Running, rounds: int, supervisorctl: list[str] | None) -> None:
    """The time of a whole command, from its start to its end."""
    commands = {
        f"procctl status, {FEW} programs": [*script("procctl"), "-s", str(running.path), "status"],
        'python -c "import click, msgpack"': [sys.executable, "-c", "import click, msgpack"],
        'python -c ""': [sys.executable, "-c", ""],
    }
    if supervisorctl is not None:
        commands[f"supervisorctl status, {FEW} programs"] = supervisorctl
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 2):
        for name, command in commands.items():
            began = time.perf_counter()
            said = _output_of(command)
            if number >= 2:  # the first two warm the caches
                times[name].append(time.perf_counter() - began)
            assert "status" not in name or said.count(b"RUNNING") == FEW, said
    first = statistics.median(next(iter(times.values())))
    print(f"{'a command, from start to end':44} {'median':>9} {'fastest':>9} {'of procctl':>11}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:44} {median * 1e3:6.1f} ms {min(taken) * 1e3:6.1f} ms {median / first:10.2f}x")


def requests_a_second(running: Running) -> None:
    """`status` of one program, over one connection."""
    frames = [request(number, "status", programs=["p0"]) for number in range(REQUESTS)]
    for words, window in (("one after the other", 1), (f"{WINDOW} at once", WINDOW)):
        began, used = time.perf_counter(), running.cpu_s()
        sent = answered = 0
        while answered < REQUESTS:
            more = min(window - (sent - answered), REQUESTS - sent)
            running.send(*frames[sent : sent + more])
            sent += more
            answered += len(running.receive())
        took, used = time.perf_counter() - began, running.cpu_s() - used
        print(
            f"status of one program, {words}: {REQUESTS / took:.0f} a second "
            f"({used / REQUESTS * 1e6:.0f} us of the daemon for each)"
        )


def status_of_many(running: Running) -> None:
    """`status` of all programs: what the daemon spends, and the time until all of it is here."""
    spent, took = [], []
    for number in range(LARGE_REQUESTS):
        began, used = time.perf_counter(), running.cpu_s()
        running.send(request(number, "status"))
        (answer,) = running.receive()
        took.append(time.perf_counter() - began)
        spent.append(running.cpu_s() - used)
        assert len(answer[3]["programs"]) == MANY
    print(
        f"status of {MANY} programs: the daemon spends {spent[0] * 1e3:.1f} ms the first time, then "
        f"{statistics.median(spent[1:]) * 1e3:.1f} ms (fastest {min(spent) * 1e3:.1f} ms); "
        f"decoded here after {statistics.median(took) * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    assert shutil.which("sleep"), "sleep is what the programs are"
    main()
