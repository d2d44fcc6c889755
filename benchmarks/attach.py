"""How long a key takes: from the keyboard through procctl, procd, program and logger, and back to the screen.

    python benchmarks/attach.py [ROUNDS]

Starts a procd of its own with a program that shows what is typed, attaches to it on a terminal, and types one
key at a time: quietly, with a pause before each, and while another program floods its log.  Then a program that
floods its terminal, with somebody attached: how much of it arrives, and what it costs procd.
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

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.system.daemon import PROCCTL, Daemon
from tests.system.person import DETACH, Person

PROGRAMS = """
[programs.echo]
command = ["sh", "-c", "stty raw -echo; echo set; exec cat"]
terminal = true
[programs.flood]
command = ["sh", "-c", "while :; do head -c 1000000 /dev/zero | tr '\\\\0' x; echo; done"]
autostart = false
[programs.scroll]
command = ["sh", "-c", "read x; seq 3000000; echo end; read x"]
terminal = true
"""
PAUSE_S = 0.02


def keys(person: Person, rounds: int) -> list[float]:
    """Seconds that each key took."""
    found = []
    for number in range(rounds):
        time.sleep(PAUSE_S)
        key = b"%c" % (97 + number % 26)
        begun = time.perf_counter()
        os.write(person.keyboard, key)
        while key not in person.look():
            # Not in Person's own pace: that is what is measured.
            select.select([person.keyboard], [], [])
        found.append(time.perf_counter() - begun)
        person.seen = b""
    return sorted(found)


def show(what: str, found: list[float]) -> None:
    """Print the middle and the worst."""
    quantiles = statistics.quantiles(found, n=100)
    print(f"{what:28} median {quantiles[49] * 1000:5.2f} ms, 99 % under {quantiles[98] * 1000:5.2f} ms")


def cpu_s(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as place:
        daemon = Daemon(Path(place), PROGRAMS).start()
        try:
            daemon.until_output("echo", b"set")
            with Person([*PROCCTL, "-s", str(daemon.socket), "attach", "echo"]) as person:
                person.until(lambda: person.is_raw)
                person.sees(b"running\r\n")
                show("a key, quiet", keys(person, rounds))
                daemon.does("start", "flood")
                show("a key, beside a flood", keys(person, rounds))
                daemon.does("stop", "flood")
                person.types(DETACH)
                person.ends()
            with daemon.procctl_running("attach", "scroll", stdin=subprocess.PIPE) as procctl:
                assert procctl.stdin
                assert procctl.stdout
                before, begun = cpu_s(daemon.pid), time.perf_counter()
                procctl.stdin.write(b"\n")
                procctl.stdin.flush()
                size = 0
                for line in procctl.stdout:
                    size += len(line)
                    if line == b"end\r\n":
                        break
                took, used = time.perf_counter() - begun, cpu_s(daemon.pid) - before
                print(f"{size / 1e6:.0f} MB followed in {took:.2f} s: {size / took / 1e6:.0f} MB/s, "
                      f"{used * 1e9 / size:.1f} s of procd's processor time per GB")  # fmt: skip
        finally:
            daemon.end()


if __name__ == "__main__":
    main()
