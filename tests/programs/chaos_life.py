"""One life of a program of the chaos: it notes its birth and its end where no supervisor can forget them.

    chaos_life.py EVIDENCE WORK [ARGUMENT…]

EVIDENCE/NAME.lives gets a line for each fact: `birth NUMBER PID START COOKIE`, `end NUMBER HOW LINES`.
EVIDENCE/NAME.lock is held for as long as it lives: whoever finds it held is a second life, and says so.  Its
output is numbered, `LIFE LINE dots`.  It ends at SIGTERM, between two lines.

    lines PAUSE BATCH    writes so many lines, and again after so many seconds
    dies PAUSE BATCH     the same, and ends by itself, each life in a way of its own (`fate`)
    fed                  keeps what it reads from its stdin in EVIDENCE/NAME.got
    notifies, tells FD   lines, and says that it is ready: to NOTIFY_SOCKET, on the descriptor
    rests                does nothing
"""

import fcntl
import os
import select
import signal
import socket
import sys
import time

LINES_PAUSE_S = 0.05


def fate(name: str, number: int) -> tuple[str, float]:
    """How a life of `dies` ends, and after how many seconds; no two that follow each other alike."""
    seed = sum(name.encode()) * 31 + number
    after_s = 0.3 + (seed * 7919 % 1000) / 1000 * 4
    if seed % 7 == 0:
        return "signal 9", after_s
    if seed % 11 == 0:
        return "signal 10", after_s
    return f"exit {number % 200 + 1}", after_s


class Life:
    """Who this is, and what it has noted."""

    def __init__(self, evidence: str) -> None:
        self.name = f"{os.environ['PROCD_PROGRAM']}@{os.environ['PROCD_INSTANCE']}"
        self.place = f"{evidence}/{self.name}"
        self.written = 0
        self._lives = os.open(f"{self.place}.lives", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        lock = os.open(f"{self.place}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.note(f"overlap {os.getpid()} {os.environ.get('PROCD_COOKIE')}")
        size = os.fstat(self._lives).st_size
        self.number = os.pread(self._lives, size, 0).count(b"birth ")
        stat = os.read(os.open("/proc/self/stat", os.O_RDONLY), 4096).decode()
        start = stat.rpartition(")")[2].split()[19]
        self.note(f"birth {self.number} {os.getpid()} {start} {os.environ.get('PROCD_COOKIE')}")

    def note(self, fact: str) -> None:
        """Write a fact down."""
        os.write(self._lives, fact.encode() + b"\n")

    def lines(self, count: int) -> None:
        """Write numbered lines."""
        numbers = range(self.written, self.written + count)
        data = b"".join(b"%d %d %s\n" % (self.number, each, b"." * (each % 60)) for each in numbers)
        while data:
            data = data[os.write(1, data) :]
        self.written += count

    def end(self, how: str) -> None:
        """Note the end, and end in just that way."""
        self.note(f"end {self.number} {how} {self.written}")
        kind, value = how.split()
        if kind == "exit":
            os._exit(int(value))
        signal.signal(int(value), signal.SIG_DFL) if int(value) != signal.SIGKILL else None
        os.kill(os.getpid(), int(value))


def told_to_end(within_s: float) -> bool:
    """Wait for a SIGTERM, which is blocked from the first moment: no line is cut off by one."""
    return signal.sigtimedwait({signal.SIGTERM}, within_s) is not None


def go_on(life: Life, pause_s: float, batch: int, until_s: float = float("inf")) -> bool:
    """Write lines; whether that was ended by a SIGTERM."""
    while time.monotonic() < until_s:
        life.lines(batch)
        if told_to_end(min(pause_s, max(0.0, until_s - time.monotonic()))):
            return True
    return False


def fed(life: Life) -> None:
    """Keep what comes; at the end also what is in the pipe already."""
    got = os.open(f"{life.place}.got", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    ends = False
    while True:
        readable = select.select([0], [], [], 0.0 if ends else 0.05)[0]
        if readable:
            data = os.read(0, 1 << 16)
            if not data:
                life.end("exit 99")
            os.write(got, data)
        elif ends:
            return
        ends = ends or told_to_end(0)


def main() -> None:
    """Live."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _, evidence, work, *arguments = sys.argv
    life = Life(evidence)
    match work:
        case "lines":
            go_on(life, float(arguments[0]), int(arguments[1]))
        case "dies":
            how, after_s = fate(life.name, life.number)
            if not go_on(life, float(arguments[0]), int(arguments[1]), time.monotonic() + after_s):
                life.end(how)
        case "fed":
            fed(life)
        case "notifies":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
                said.sendto(b"READY=1\nSTATUS=life %d" % life.number, os.environ["NOTIFY_SOCKET"])
            go_on(life, LINES_PAUSE_S, 1)
        case "tells":
            os.write(int(arguments[0]), b"\n")
            go_on(life, LINES_PAUSE_S, 1)
        case "rests":
            signal.sigwait({signal.SIGTERM})
    life.end("exit 0")


if __name__ == "__main__":
    main()
