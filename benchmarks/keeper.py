"""What the keeper costs: memory, the time of a record, and how long nobody supervises.

`python benchmarks/keeper.py`: Linux, no arguments.  The script is the supervisor of its own keeper, too.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from procd.keeper import launch
from procd.keeper.line import Line, channel_of

PROGRAMS = 1000
VALUE = bytes(1000)
ROUNDS = 20
DEATHS = 10


def main() -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["KEEPER_BENCHMARK"] = directory
        subprocess.run(launch.command({"supervisor": [sys.executable, __file__]}), check=True)
        between = [death_to_start(Path(directory)) for _ in range(DEATHS)]
        median, worst = statistics.median(between), max(between)
        print(f"SIGKILL to the first act of the next, a shell: median {median:.1f} ms, max {worst:.1f} ms")


def death_to_start(directory: Path) -> float:
    """Milliseconds between the last act of a supervisor and the first of the next, its exec included."""
    times = directory / "times"
    times.unlink(missing_ok=True)
    script = f"echo $EPOCHREALTIME >> {times}; [ $(wc -l < {times}) = 2 ] && sleep 100; kill -9 $$"
    argv = launch.command({"supervisor": ["bash", "-c", script]})
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as keeper:
        while not times.exists() or times.read_text().count("\n") < 2:
            time.sleep(0.01)
        keeper.terminate()
        for pid in children(keeper.pid):
            os.kill(pid, 9)
        keeper.kill()
    died, started = times.read_text().split()
    return (float(started) - float(died)) * 1000


def children(pid: int) -> list[int]:
    """Whose parent is `pid`."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal() and (each / "stat").exists():
            fields = (each / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(each.name))
    return found


class Supervisor:
    """A supervisor that records, and measures."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.told: list[object] = []
        line.on_end = lambda: self.told.append("end")
        line.on_synced = self.told.append
        line.on_upgraded = lambda: self.told.append("upgraded")

    def until_told(self) -> None:
        """Wait for an answer."""
        while not self.told:
            select.select([self.line], [], [])
            self.line.read()
        self.told.clear()

    def sync(self) -> None:
        """Wait until everything is done."""
        while not self.line.settled:
            self.line.flush()
        self.line.sync(b"")
        self.until_told()

    def run(self) -> None:
        """Measure one thing after the other."""
        began = time.perf_counter()
        self.line.hello()
        self.until_told()
        self.line.up()
        if (Path(os.environ["KEEPER_BENCHMARK"]) / "again").exists():
            print(f"{PROGRAMS} records with 3 descriptors each handed over in {ms(began):.1f} ms")
            self.line.finish(0)
            return
        self.sync()
        keeper = os.getppid()
        print(f"memory with 0 records: {memory(keeper)}")
        pipes = [(*os.pipe(), os.dup(2)) for _ in range(PROGRAMS)]
        self.put_all(pipes, keeper)
        print(f"memory with {PROGRAMS} records of 1 kB and 3 descriptors: {memory(keeper)}")
        began = time.perf_counter()
        self.line.upgrade()
        self.until_told()
        print(f"upgrade with all of them, two starts of Python: {ms(began):.0f} ms")
        (Path(os.environ["KEEPER_BENCHMARK"]) / "again").touch()
        os.kill(os.getpid(), 9)

    def put_all(self, pipes: list[tuple[int, int, int]], keeper: int) -> None:
        """Put them again and again, at the keeper's pace and in bursts."""
        each = []
        began, before = time.perf_counter(), cpu_s(keeper)
        for _ in range(ROUNDS):
            for number, fds in enumerate(pipes):
                at = time.perf_counter()
                self.line.put(f"program:{number}", VALUE, fds)
                each.append(time.perf_counter() - at)
            self.sync()
        count = ROUNDS * PROGRAMS
        keepers = (cpu_s(keeper) - before) / count * 1e6
        median, worst = statistics.median(each) * 1e6, statistics.quantiles(each, n=100)[-1] * 1e6
        print(f"put, 1 kB and 3 descriptors: median {median:.1f} µs, 99 % under {worst:.1f} µs")
        print(f"the same of the keeper's own time: {keepers:.1f} µs")
        print(f"{PROGRAMS} of them until the keeper has done them: {ms(began) / ROUNDS:.1f} ms")


def ms(began: float) -> float:
    """Milliseconds since."""
    return (time.perf_counter() - began) * 1000


def memory(pid: int) -> str:
    """The proportional set size, and what of it is nobody else's file."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return f"PSS {sizes['Pss:'] / 1024:.1f} MiB, of which anonymous {sizes['Pss_Anon:'] / 1024:.1f} MiB"


def cpu_s(pid: int) -> float:
    """Seconds of user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    channel = channel_of(os.environ)
    if channel is None:
        main()
    else:
        Supervisor(Line(channel)).run()
