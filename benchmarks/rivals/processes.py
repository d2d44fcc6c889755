"""The processes below this one: who they are, what they use, when they end, and their end."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What a program is called in /proc.
CHILD = "peers-child"
#: How long anything may take.
PATIENCE_S = 120.0
#: prctl(2)
PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):  # noqa: N818 - what a peer has done, not what is wrong here
    """A peer did not do what was asked of it."""


def prepare() -> None:
    """Become whose descendants all stay, with as many descriptors as are allowed, which the peers inherit."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Peers write their bytecode at an unmeasured start, as they do where they are installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def compile_child(place: Path) -> None:
    """Compile child.c; raises SystemExit where that is not possible."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("this needs a C compiler, and there is no cc on the PATH")
    command = [compiler, "-O2", "-o", str(place / CHILD), str(Path(__file__).parents[1] / "child.c")]
    # A static program starts faster; where there is no static libc, all have the same slower one.
    if subprocess.run([*command, "-static"], capture_output=True, check=False).returncode != 0:
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise SystemExit(f"cc could not compile child.c:\n{built.stderr}")


def descendants() -> dict[int, str]:
    """All processes below this one that are not yet dead: PID and name."""
    names: dict[int, str] = {}
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text(errors="replace")
        except OSError:  # it has ended
            continue
        name, rest = stat.split("(", 1)[1].rsplit(")", 1)
        state, parent = rest.split()[:2]
        below.setdefault(int(parent), []).append(int(entry.name))
        if state not in "ZX":
            names[int(entry.name)] = name
    found, waiting = {}, list(below.get(os.getpid(), []))
    while waiting:
        pid = waiting.pop()
        waiting += below.get(pid, [])
        if pid in names:
            found[pid] = names[pid]
    return found


def programs_and_supervisors() -> tuple[list[int], list[int]]:
    """The PIDs of the programs, and of all others below this process."""
    found = descendants()
    programs = [pid for pid, name in found.items() if name == CHILD]
    return programs, [pid for pid, name in found.items() if name != CHILD]


def end_everything() -> None:
    """Kill all descendants, supervisors first, until there are none, and reap them; no signal interrupts it."""
    deadline_s = time.monotonic() + PATIENCE_S
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        while not _reaped():
            if time.monotonic() > deadline_s:
                raise Failed("processes that cannot be killed are left")
            programs, supervisors = programs_and_supervisors()
            for pid in [*supervisors, *programs]:
                with suppress(ProcessLookupError):  # its parent has reaped it
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _reaped() -> bool:
    """Reap who is dead; whether nobody is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


class Ends:
    """Waits for processes to end, by pidfd_open(2): no poll interval is in what is measured."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._epoll = select.epoll()
        self._pids: dict[int, int] = {}
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            self._pids[fd] = pid
            self._epoll.register(fd, select.EPOLLIN)

    def wait(self) -> dict[int, float]:
        """When each ended, on the monotonic clock; raises Failed if one does not."""
        ended: dict[int, float] = {}
        deadline_s = time.monotonic() + PATIENCE_S
        while len(ended) < len(self._pids):
            events = self._epoll.poll(max(0.0, deadline_s - time.monotonic()))
            if not events:
                raise Failed(f"{len(self._pids) - len(ended)} processes are left after {PATIENCE_S:.0f} s")
            for fd, _ in events:
                ended[self._pids[fd]] = time.monotonic()
                self._epoll.unregister(fd)
        return ended

    def close(self) -> None:
        """Forget them."""
        self._epoll.close()
        for fd in self._pids:
            os.close(fd)


def pss_kib(pid: int) -> int:
    """The proportional set size of a process; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def voluntary_switches(pids: Iterable[int]) -> int:
    """How often all threads of these processes have gone to sleep."""
    switches = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            switches += int(status.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return switches
