"""How long a restart takes while a hundred other programs flood their logs, beside how long it usually takes.

    python benchmarks/flooded.py [--writers 100] [--rounds 3] [--restarts 100]

A procd of its own; a quiet program is restarted over one connection again and again, in rounds that take turns
with rounds of the flood.  Told are the whole `restart`, a `status` of that program, and what the machine itself
does to a process that is started beside the flood: `sleep 0`, by posix_spawn(3) from here.  Goal: a restart
takes at most twice as long as without the flood.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.system.daemon import Daemon, until

if TYPE_CHECKING:
    from collections.abc import Callable

#: Waits for its end with hardly a cost of its own, so that the time is procd's and the kernel's.
QUIET = '[programs.quiet]\ncommand = ["sleep", "infinity"]\nmin_uptime = 0\n'
FLOOD = """
[programs.flood]
instances = {writers}
autostart = false
log = {{ max_size = "50MB", keep = 1 }}
command = {command}
"""
#: Writes without end, as fast as it can.
WRITER = ["head", "-c", "1000000000000", "/dev/zero"]


def middle_of(work: Callable[[], object], times: int) -> float:
    """Milliseconds that something takes, the median."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return statistics.median(found) * 1000


def bare() -> None:
    """Start a process, and wait for its end."""
    os.waitpid(os.posix_spawn("/bin/sleep", ["sleep", "0"], os.environ), 0)


def measure(daemon: Daemon, restarts: int) -> list[float]:
    """Milliseconds of a restart, a status, and a process."""
    with daemon.client() as client:
        return [
            middle_of(lambda: client.call("restart", programs=["quiet"]), restarts),
            middle_of(lambda: client.call("status", programs=["quiet"]), restarts),
            middle_of(bare, restarts),
        ]


def flooded(daemon: Daemon, writers: int, restarts: int) -> tuple[list[float], float]:
    """What `measure` says during the flood, and the MB/s of that."""

    def written() -> int:
        streams = [record["streams"] for name, record in daemon.records().items() if name != "quiet"]
        return sum(stream["stdout"]["offset"] for stream in streams if stream["stdout"])

    with daemon.client() as client:
        client.call("start", programs=["flood"])
    until(lambda: written() > writers << 20, "the flood")
    begun, before = time.monotonic(), written()
    found = measure(daemon, restarts)
    rate = (written() - before) / (time.monotonic() - begun) / 1e6
    with daemon.client() as client:
        client.call("stop", programs=["flood"])
    return found, rate


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        flood = FLOOD.format(writers=options.writers, command=json.dumps(WRITER))
        daemon = Daemon(Path(name), QUIET + flood).start()
        try:
            daemon.until_state("quiet", "RUNNING")
            quiet, loud, rates = [], [], []
            for _ in range(options.rounds):
                quiet.append(measure(daemon, options.restarts))
                found, rate = flooded(daemon, options.writers, options.restarts)
                loud.append(found)
                rates.append(rate)
        finally:
            daemon.end()
    print(f"{options.writers} writers, {statistics.median(rates):.0f} MB/s")
    print(f"{'ms':10} {'quiet':>8} {'flooded':>8} {'ratio':>6}")
    for what, without, beside in zip(
        ("restart", "status", "process"), zip(*quiet, strict=True), zip(*loud, strict=True), strict=True
    ):
        one, other = statistics.median(without), statistics.median(beside)
        print(f"{what:10} {one:8.2f} {other:8.2f} {other / one:6.2f}")


if __name__ == "__main__":
    main()
