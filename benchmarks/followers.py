"""Followers of one log: what they cost the daemon, and how long others wait for an answer beside them.

    python benchmarks/followers.py [FOLLOWERS [BYTES_A_SECOND [READING]]]

READING is how many of them read; the others have opened the stream and never look at their socket.
"""

from __future__ import annotations

import os
import resource
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from procctl.client import Client

SECONDS = 10.0

WRITER = """
import os, sys, time
rate = int(sys.argv[1])
piece = b"%s\\n" % (b"x" * 99)
while True:
    os.write(1, piece * max(1, rate // 10000))
    time.sleep(0.01)
"""


def memory_bytes(pid: int) -> int:
    """What is resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def cpu_s(pid: int) -> float:
    """Processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latencies(client: Client, seconds: float, drain: selectors.BaseSelector) -> tuple[list[float], int]:
    """Ask for the status of one program again and again, reading for the followers in between."""
    taken: list[float] = []
    read = 0
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        began_s = time.monotonic()
        client.call("status", programs=["web"])
        taken.append(time.monotonic() - began_s)
        until_s = time.monotonic() + 0.02
        while time.monotonic() < until_s:
            for key, _ in drain.select(0.005):
                read += len(key.fileobj.recv(1 << 18))  # type: ignore[union-attr]
    return taken, read


def main() -> None:
    """Measure it."""
    followers, rate, reading = (
        int(word) for word in (sys.argv[1:] + ["1000", "1000000", "1000"][len(sys.argv) - 1 :])
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as place:
        Path(place, "writer.py").write_text(WRITER)
        Path(place, "procd.toml").write_text(f"""
            [daemon]
            runtime_dir = "run"
            state_dir = "state"
            log_dir = "log"
            [programs.web]
            command = ["{sys.executable}", "{place}/writer.py", "{rate}"]
            log = {{ max_size = "10MiB", keep = 3 }}
        """)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "procd", "run", "-c", f"{place}/procd.toml"], stderr=subprocess.DEVNULL
        )
        try:
            socket = f"{place}/run/procd.sock"
            while not Path(socket).exists():
                time.sleep(0.05)
            client = Client(socket)
            drain = selectors.DefaultSelector()
            show("quiet", daemon.pid, lambda: latencies(client, SECONDS / 2, drain))
            clients = [Client(socket) for _ in range(followers)]
            for number, each in enumerate(clients):
                each.call("logs", program="web", lines=0, follow=True)
                if number < reading:
                    connected = each._connected()  # noqa: SLF001 - to read what it would
                    connected.setblocking(False)
                    drain.register(connected, selectors.EVENT_READ)
            show(
                f"{followers} followers, {reading} read", daemon.pid, lambda: latencies(client, SECONDS, drain)
            )
        finally:
            daemon.terminate()
            daemon.wait()


def show(what: str, pid: int, measure: object) -> None:
    """Print one line."""
    began_s, used_s = time.monotonic(), cpu_s(pid)
    taken, read = measure()  # type: ignore[operator]
    lasted_s = time.monotonic() - began_s
    taken.sort()
    print(
        f"{what}: status median {statistics.median(taken) * 1000:.1f} ms, "
        f"99% {taken[int(len(taken) * 0.99)] * 1000:.1f} ms, worst {taken[-1] * 1000:.1f} ms; "
        f"daemon {memory_bytes(pid) / 1e6:.0f} MB, {(cpu_s(pid) - used_s) / lasted_s * 100:.0f}% CPU; "
        f"{read / lasted_s / 1e6:.0f} MB/s read"
    )


if __name__ == "__main__":
    main()
