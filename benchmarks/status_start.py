"""How long `procctl status` of 100 programs takes, beside what it is measured against.

    python benchmarks/status_start.py [ROUNDS] [SUPERVISORCTL]

Side by side in one run, medians: `procctl status`, `python -c "import click, msgpack"`, `python -c pass`, and
`supervisorctl status` where the path of one is given (its supervisord is expected beside it).  Everything is
compiled first, as an installation by pip is.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import procctl
import procd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAMS = 100
SCRIPTS = Path(sysconfig.get_path("scripts"))


def main() -> None:
    """Measure, and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in (procctl, procd):
        assert package.__file__ is not None
        compileall.compile_dir(Path(package.__file__).parent, quiet=2)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        place = Path(directory)
        stack.enter_context(_procd(place))
        commands: dict[str, Sequence[str | Path]] = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import click, msgpack": [sys.executable, "-c", "import click, msgpack"],
            "procctl status": [SCRIPTS / "procctl", "-s", place / "run/procd.sock", "status"],
        }
        if len(sys.argv) > 2:
            stack.enter_context(_supervisord(place, Path(sys.argv[2]).with_name("supervisord")))
            commands["supervisorctl status"] = [sys.argv[2], "-c", place / "supervisord.conf", "status"]
        taken = _measure(commands, rounds)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, times in taken.items():
        print(f"{name:24}{medians[name] * 1e3:8.1f} ms   least {min(times) * 1e3:6.1f} ms")
    status = medians["procctl status"]
    print(f"procctl status takes {status / medians['import click, msgpack']:.2f} of the imports")
    if "supervisorctl status" in medians:
        print(f"supervisorctl status takes {medians['supervisorctl status'] / status:.2f} of procctl status")


def _measure(commands: dict[str, Sequence[str | Path]], rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            began = time.perf_counter()
            done = subprocess.run(command, check=False, capture_output=True)
            taken[name].append(time.perf_counter() - began)
            assert not name.endswith("status") or done.stdout.count(b"RUNNING") == PROGRAMS, done
    return taken


@contextlib.contextmanager
def _procd(place: Path) -> Iterator[None]:
    configuration = ['[daemon]\nruntime_dir = "run"\nstate_dir = "state"\nlog_dir = "log"\n']
    configuration += [f'[programs.p{n}]\ncommand = ["sleep", "infinity"]\n' for n in range(PROGRAMS)]
    (place / "procd.toml").write_text("".join(configuration))
    wait = [SCRIPTS / "procctl", "-s", place / "run/procd.sock", "start", "--all"]
    with _running([SCRIPTS / "procd", "run", "-c", place / "procd.toml"], place, wait):
        yield


@contextlib.contextmanager
def _supervisord(place: Path, supervisord: Path) -> Iterator[None]:
    configuration = [
        f"[supervisord]\nnodaemon=true\nlogfile={place}/supervisord.log\npidfile={place}/supervisord.pid\n",
        f"[unix_http_server]\nfile={place}/supervisor.sock\n[supervisorctl]\nserverurl=unix://{place}/supervisor.sock\n",
        "[rpcinterface:supervisor]\n",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n",
    ]
    options = "command=sleep infinity\nstartsecs=0\nstdout_logfile=NONE\n"
    configuration += [f"[program:p{n}]\n{options}" for n in range(PROGRAMS)]
    path = place / "supervisord.conf"
    path.write_text("".join(configuration))
    wait = [supervisord.with_name("supervisorctl"), "-c", path, "status"]
    with _running([supervisord, "-c", path], place, wait):
        yield


@contextlib.contextmanager
def _running(command: Sequence[str | Path], place: Path, wait: Sequence[str | Path]) -> Iterator[None]:
    """Run a daemon until its `wait` command succeeds, and to the end of the block."""
    with (place / "said").open("ab") as said:
        process = subprocess.Popen(command, cwd=place, stdout=said, stderr=said)
    try:
        until = time.monotonic() + 60
        while subprocess.run(wait, check=False, capture_output=True).returncode:
            assert time.monotonic() < until, (place / "said").read_text()
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


if __name__ == "__main__":
    main()
