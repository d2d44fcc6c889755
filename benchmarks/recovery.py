"""How long nobody supervises when the supervisor is killed, beside few programs and beside many.

    python benchmarks/recovery.py [--programs 10 1000] [--rounds 7]

A procd of its own.  In each round the supervisor and one program are killed at the same moment, with SIGKILL.
Told are the time until a `hello` is answered again, which is when everybody who asks is, and the time until the
next life of the program is in its `main`: a shell that writes to a fifo.  And what the processes of procd have
of the memory.  Goals: half a second beside 10 programs, 1.5 s beside 1,000.

Rounds are more than ten seconds apart: who dies younger again and again is not started again at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from procctl.client import Client
from procd.errors import Unreachable
from tests.system.daemon import Daemon, until

#: Seconds between two deaths.
APART_S = 11.0


def configuration(count: int, fifo: Path) -> str:
    """So many programs that sleep, and one that says when it begins."""
    reborn = json.dumps(["/bin/sh", "-c", f"echo > {fifo}; exec sleep infinity"])
    return (
        f'[programs.sleeps]\ninstances = {count - 1}\ncommand = ["sleep", "infinity"]\n'
        f"[programs.reborn]\ncommand = {reborn}\n"
    )


class Births(threading.Thread):
    """Reads the fifo; `at_s` has when each life of the program began."""

    def __init__(self, fifo: Path) -> None:
        super().__init__(daemon=True)
        os.mkfifo(fifo)
        self._fd = os.open(fifo, os.O_RDWR)
        self.at_s: list[float] = []

    def run(self) -> None:
        """Read on."""
        while os.read(self._fd, 1):
            self.at_s.append(time.monotonic())


def answered(daemon: Daemon) -> int:
    """Wait for an answer to `hello`; the PID of who gave it."""
    while True:
        try:
            with Client(str(daemon.socket), timeout_s=60, agree=False) as client:
                return int(client.call("hello")["pid"])
        except Unreachable:
            time.sleep(0.001)


def death(daemon: Daemon, births: Births) -> tuple[float, float]:
    """Kill both; seconds until an answer, and until the next life."""
    program, supervisor, before = daemon.process("reborn"), answered(daemon), len(births.at_s)
    os.kill(supervisor, signal.SIGKILL)
    os.kill(program, signal.SIGKILL)
    died_s = time.monotonic()
    assert answered(daemon) != supervisor
    answered_s = time.monotonic()
    until(lambda: len(births.at_s) > before, "another life")
    return answered_s - died_s, births.at_s[before] - died_s


def pss_mib(pid: int) -> float:
    """The proportional set size of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def memory(daemon: Daemon) -> str:
    """What keeper, supervisor and logger have."""
    processes = {"keeper": daemon.pid, "supervisor": answered(daemon), "logger": daemon.logger}
    return ", ".join(f"{name} {pss_mib(pid):.1f} MiB" for name, pid in processes.items())


def measure(place: Path, count: int, rounds: int) -> None:
    """Print what a procd with so many programs does."""
    births = Births(place / "fifo")
    births.start()
    daemon = Daemon(place, configuration(count, place / "fifo")).start()
    try:
        with daemon.client() as client:
            until(lambda: client.call("metrics")["programs_running"] == count, "all to run")
        print(f"{count} programs; PSS at first: {memory(daemon)}")
        found = []
        for _ in range(rounds):
            time.sleep(APART_S)
            found.append(death(daemon, births))
        time.sleep(APART_S)
        print(f"after {rounds} deaths: {memory(daemon)}")
    finally:
        daemon.end()
    for what, times in zip(
        ("until `hello` is answered", "until the program is in main"), zip(*found, strict=True), strict=True
    ):
        print(f"  {what:30} median {statistics.median(times):.2f} s, {min(times):.2f} to {max(times):.2f} s")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for count in options.programs:
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), count, options.rounds)


if __name__ == "__main__":
    main()
