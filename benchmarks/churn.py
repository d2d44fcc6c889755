"""What many programs cost that do not stay as they are: a reload that changes one, and ten thousand exits.

    python benchmarks/churn.py [--programs 1000] [--rounds 7] [--seconds 10]

A procd of its own.  First, in each round, the command of one program is changed in the file: told is the time
from the start of `procctl reload` until the new process is in its `main`, which it writes down itself.

Then all programs exit about once a second, each with a status of its own, and are started again after a
backoff.  Somebody asks all the time how one of them is, and now and then how all are: told is how long that
took at most.  In the end, how often each was started is what it has written down itself, and the status that is
shown is the one that it exited with; otherwise the run fails.  Goals: 150 ms; 100 ms for every answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rivals.processes import CHILD, compile_child

from tests.system.daemon import HEAD, ROOT, Daemon, until

#: What a program writes down: its index, its PID, and when it was in main.
BIRTH = struct.Struct("=IiQ")
SILENT = f'{HEAD}stdout = "null"\n'
#: Every exit is that of a start that failed, and none is one too many.
RESTLESS = 'min_uptime = "60s"\nbackoff = {initial = "100ms", factor = 1.0, jitter = 0.0}\n'
#: How long they live, so that not all of them end at once.
LIFE_MS = range(550, 951)
STATUSES = 250


class Births:
    """What the programs have written down."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path

    def read(self) -> list[tuple[int, int, int]]:
        """Index, PID and time (CLOCK_MONOTONIC, ns) of each life."""
        data = self._path.read_bytes()
        return list(BIRTH.iter_unpack(data[: len(data) // BIRTH.size * BIRTH.size]))


def reloads(place: Path, count: int, rounds: int) -> None:
    """Change one of so many, again and again."""
    births = Births(place / "births")

    def programs(changed: int, number: int) -> str:
        lines = []
        for index in range(count):
            told = index + count * number if index == changed else index
            lines.append(f'[programs.p{index}]\ncommand = ["{place}/{CHILD}", "{place}/births", "{told}"]')
        return "\n".join(lines) + "\n"

    daemon = Daemon(place, programs(0, 0), head=SILENT)
    took = []
    try:
        daemon.start()
        until(lambda: len(births.read()) == count, "all to run")
        for number in range(1, rounds + 1):
            changed = number * (count // (rounds + 1))
            daemon.write(programs(changed, number))
            time.sleep(1)
            began_ns = time.monotonic_ns()
            command = [sys.executable, "-m", "procctl", "-s", str(daemon.socket), "reload"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            told = changed + count * number
            until(lambda told=told: any(index == told for index, *_ in births.read()), "the new process")  # type: ignore[misc]
            took.append(next((ns - began_ns) / 1e6 for index, _, ns in births.read() if index == told))
    finally:
        daemon.end()
    median = statistics.median(took)
    print(f"a reload that changes one of {count}: {median:.0f} ms ({min(took):.0f} to {max(took):.0f})")


def exits(place: Path, count: int, seconds: float) -> None:
    """Have so many exit for so long; raises AssertionError for anything that is not as it was."""
    births = Births(place / "births")
    tables = []
    for index in range(count):
        words = [
            f"{place}/{CHILD}",
            f"{place}/births",
            str(index),
            str(LIFE_MS[index * 7 % len(LIFE_MS)]),
            str(index % STATUSES),
        ]
        tables.append(f"[programs.p{index}]\n{RESTLESS}command = {json.dumps(words)}\n")
    daemon = Daemon(place, "".join(tables), head=SILENT)
    one, every = [], []
    try:
        daemon.start()
        with daemon.client() as client:
            until(lambda: len(births.read()) >= count, "all to run")
            before, began_s = len(births.read()), time.monotonic()
            while (now := time.monotonic()) < began_s + seconds:
                client.call("status", programs=[f"p{len(one) % count}"])
                one.append(time.monotonic() - now)
                if len(one) % 20 == 0:
                    now = time.monotonic()
                    client.call("status")
                    every.append(time.monotonic() - now)
                time.sleep(0.02)
            ended = len(births.read()) - before
            for record in client.call("status")["programs"]:
                if record["state"] == "BACKOFF":
                    expected = {"code": int(record["name"][1:]) % STATUSES}
                    assert record["exit"] == expected, (record["name"], record["exit"], expected)
            client.call("stop", programs=["*"])
            lives = Counter(index for index, *_ in births.read())
            for record in client.call("status")["programs"]:
                index = int(record["name"][1:])
                # Who was about to be started when it was to stop may not have come to its main.
                assert 0 <= record["restarts"] - lives[index] + 1 <= 1, (lives[index], record)
    finally:
        daemon.end()
    print(f"{ended} exits of {count} programs in {seconds:.0f} s, all as they were; status")
    for what, took in (("of one", one), ("of all", every)):
        median, most = statistics.median(took), statistics.quantiles(took, n=100)[98]
        figures = (1000 * each for each in (median, most, max(took)))
        print("  {}: {:.1f} ms, 99 of 100 {:.0f}, at most {:.0f}".format(what, *figures))


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        compile_child(Path(name))
        (Path(name) / "reload").mkdir()
        (Path(name) / "exits").mkdir()
        for part in ("reload", "exits"):
            os.link(f"{name}/{CHILD}", f"{name}/{part}/{CHILD}")
        reloads(Path(name) / "reload", options.programs, options.rounds)
        exits(Path(name) / "exits", options.programs, options.seconds)


if __name__ == "__main__":
    main()
