"""How fast the logger takes output, and what it costs: the logger alone, without the rest of procd.

    python benchmarks/output.py [--format raw] [--rounds 3] [--directory /var/tmp]

One writer of 64 KiB writes, one of 100-byte lines, and a hundred of 64 KiB writes, into logs that are rotated
at 50 MB; medians.  The writers are dd(1).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.kernel.logger_daemon import FakeDaemon, spec

#: Name → writers, bytes a write, bytes of each writer.
CASES = {
    "one writer, 64 KiB writes": (1, 65536, 1_000_000_000),
    "one writer, 100-byte lines": (1, 100, 200_000_000),
    "100 writers, 64 KiB writes": (100, 65536, 10_000_000),
}
LINE = b"%099d\n" % 0


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """The most memory that a process had resident, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(directory: Path, source: Path, form: str, case: str) -> tuple[float, float, float]:
    """One round: MB/s, CPU seconds per GB, MiB."""
    writers, chunk, size = CASES[case]
    daemon = FakeDaemon()
    commands = [["dd", f"if={source}", f"bs={chunk}", f"count={size // chunk}", "status=none"]] * writers
    ends = []
    for slot in range(1, writers + 1):
        daemon.open(slot, spec(directory / f"{slot}.log", max_size=50_000_000, keep=10, format=form))
        ends.append(daemon.attach(slot))
    before = cpu_s(daemon.pid)
    begin = time.monotonic()
    children = [subprocess.Popen(command, stdout=end) for command, end in zip(commands, ends, strict=True)]
    for end in ends:
        os.close(end)
    daemon.until(lambda: not daemon.pipes, 300.0)
    seconds = time.monotonic() - begin
    gigabytes = sum(daemon.board.taken(slot) for slot in range(1, writers + 1)) / 1e9
    assert all(child.wait() == 0 for child in children)
    assert gigabytes * 1e9 == writers * (size // chunk) * chunk
    result = (gigabytes * 1000 / seconds, (cpu_s(daemon.pid) - before) / gigabytes, rss_mib(daemon.pid))
    daemon.close()
    return result


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", default="raw")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default="/var/tmp")  # noqa: S108 - a file system of disks
    parser.add_argument("--case", default="")
    options = parser.parse_args()
    print(f"{options.format:28} {'MB/s':>8} {'CPU s/GB':>9} {'MiB':>6}")
    for case, (_, _, size) in CASES.items():
        if options.case not in case:
            continue
        rounds = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=options.directory) as name:
                source = Path(name, "source")
                source.write_bytes(LINE * (size // len(LINE)))
                rounds.append(measure(Path(name), source, options.format, case))
        rate, cost, memory = map(statistics.median, zip(*rounds, strict=True))
        print(f"{case:28} {rate:8.0f} {cost:9.2f} {memory:6.1f}")


if __name__ == "__main__":
    main()
