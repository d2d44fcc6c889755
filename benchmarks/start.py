"""How long procd takes to start many programs, beside a loop of subprocess.Popen, in one run.

    python benchmarks/start.py [--programs N] [--rounds R] [--python INTERPRETER ...]

Timed is from the start of the interpreter until the last program has run its first line: each writes one to a
fifo and then sleeps.  With `--python`, interpreters that have a procd, several versions are measured in turns.
CPU is that of the supervisor and all that it waited for, from its start until its programs are gone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

POPEN = """
import json, subprocess, sys, signal
null = subprocess.DEVNULL
command = json.loads(sys.argv[1])
all_of_them = [subprocess.Popen(command, stdin=null, stdout=null, stderr=null) for _ in range(int(sys.argv[2]))]
signal.sigwait({signal.SIGTERM})
for each in all_of_them:
    each.kill()
for each in all_of_them:
    each.wait()
"""


def configuration(directory: str, command: list[str], programs: int) -> str:
    """Write a file of so many programs; returns its path."""
    lines = ["[daemon]", 'log_level = "warning"']
    lines += [f'{name} = "{directory}/{name}"' for name in ("runtime_dir", "state_dir", "log_dir")]
    lines += ["[defaults]", 'stdout = "null"']
    for number in range(programs):
        lines += [f"[programs.p{number}]", f"command = {json.dumps(command)}"]
    path = Path(directory, "procd.toml")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def measure(python: str, arguments: list[str], fifo: str, programs: int) -> tuple[float, float]:
    """Start one and end it: seconds until all of its programs run, and CPU seconds in all."""
    reader = os.open(fifo, os.O_RDWR)
    began = time.perf_counter()
    supervisor = subprocess.Popen([python, *arguments])
    try:
        lines = 0
        while lines < programs:
            lines += os.read(reader, 65536).count(b"\n")
        took = time.perf_counter() - began
    finally:
        supervisor.send_signal(signal.SIGTERM)
        _, _, usage = os.wait4(supervisor.pid, 0)
        os.close(reader)
    return took, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure in turns, and print medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", action="append", help="an interpreter that has a procd")
    chosen = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    results: dict[str, list[tuple[float, float]]] = {}
    pythons: list[str] = chosen.python or [sys.executable]
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            fifo = f"{directory}/fifo"
            os.mkfifo(fifo)
            command = ["/bin/sh", "-c", f"echo >{fifo}; exec sleep 1000"]
            popen = ["-c", "import signal; signal.pthread_sigmask(0, {15})\n" + POPEN, json.dumps(command)]
            popen.append(str(chosen.programs))
            results.setdefault("Popen loop", []).append(measure(pythons[0], popen, fifo, chosen.programs))
            for python in pythons:
                file = configuration(directory, command, chosen.programs)
                once = measure(python, ["-P", "-m", "procd", "run", "-c", file], fifo, chosen.programs)
                results.setdefault(f"procd of {python}", []).append(once)
    least = statistics.median(took for took, _ in results["Popen loop"])
    for name, measured in results.items():
        took = statistics.median(took for took, _ in measured)
        cpu = statistics.median(cpu for _, cpu in measured)
        print(f"{name:50} {took:6.3f} s  {took / least:4.2f} x  {cpu:6.3f} s CPU")


if __name__ == "__main__":
    main()
