"""A real procd in a directory of its own, real procctl to talk to it, and waiting under a bound."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from procctl.client import Client
from procd.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: How long anything may take; one constant scales all bounds, for slow machines.
BOUND_S = 20.0 * float(os.environ.get("PROCD_TEST_PATIENCE", "1"))

PROGRAMS = Path(__file__).parent.parent / "programs"
ROOT = Path(__file__).parents[2]

#: Everything below a test's procd carries it, so that what is left can be found.
MARK = "PROCD_TEST_MARK"

#: Quick to be RUNNING, so that the tests are; what is about `min_uptime` says so itself.
HEAD = """
[daemon]
runtime_dir = "run"
state_dir = "state"
log_dir = "log"
[defaults]
min_uptime = "50ms"
"""


def _command(name: str) -> list[str]:
    """The command as it is installed beside the interpreter of the tests."""
    script = Path(sysconfig.get_path("scripts"), name)
    return [str(script)] if script.exists() else [sys.executable, "-m", name]


PROCD, PROCCTL = _command("procd"), _command("procctl")


def python(name: str, *arguments: object) -> str:
    """The value of `command` for one of tests/programs: a JSON array of strings is one of TOML, too."""
    return json.dumps([sys.executable, "-I", str(PROGRAMS / name), *map(str, arguments)])


def until(true: Callable[[], Any], what: str = "") -> Any:  # noqa: ANN401 - whatever was waited for
    """Wait for a condition that nobody announces; returns what it gave."""
    deadline_s = time.monotonic() + BOUND_S
    while not (found := true()):
        assert time.monotonic() < deadline_s, f"waited in vain for {what or true}"
        time.sleep(0.01)
    return found


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b") ")[2][:1] not in {b"Z", b"X"}


def rss_bytes(pid: int, field: str = "VmRSS") -> int:
    """A memory figure of /proc/PID/status; VmHWM is the most that was ever resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {field}")


def voluntary_switches(pid: int) -> int:
    """How often a process went to sleep: once for each time that it was woken."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def marked(mark: str) -> dict[int, str]:
    """PID and command line of every living process that was started with a mark in its environment."""
    needle = f"{MARK}={mark}".encode()
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if needle in (place / "environ").read_bytes().split(b"\0") and alive(int(place.name)):
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | int | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Done:
    """Run a command to its end; `stdin` is text, or a descriptor."""
    text, descriptor = (stdin, None) if isinstance(stdin, str) else (None, stdin)
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=3 * BOUND_S, cwd=directory,
        env={**os.environ, **(environment or {})}, input=text,
        stdin=None if text is not None else subprocess.DEVNULL if descriptor is None else descriptor,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


class Daemon:
    """One procd, its configuration, its socket and its logs, all below `directory`.

    `prefix` is put before its command, as in `["prlimit", "--nofile=512:4096"]`.
    """

    def __init__(self, directory: Path, programs: str, *, head: str = HEAD, prefix: Sequence[str] = ()) -> None:
        self.directory = directory
        self.mark = secrets.token_hex(8)
        self.configuration = directory / "procd.toml"
        self.socket = directory / "run/procd.sock"
        self.said = directory / "procd.err"
        self._head = head
        self._prefix = list(prefix)
        self._process: subprocess.Popen[bytes] | None = None
        self.write(programs)

    # Life

    def write(self, programs: str) -> None:
        """Write another configuration; it is in force after a reload."""
        self.configuration.write_text(self._head + programs)

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Daemon:
        """Run procd until it listens."""
        words = arguments or ("run", "-c", str(self.configuration))
        with self.said.open("ab") as said:
            self._process = subprocess.Popen(
                [*self._prefix, *PROCD, *words], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, env={**os.environ, MARK: self.mark, **(environment or {})}, start_new_session=True,
            )  # fmt: skip
        until(self._listens, "procd to listen")
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"procd ended at once:\n{self.said.read_text()}"
        with contextlib.suppress(Unreachable, OSError), self.client() as client:
            return bool(client.call("hello"))
        return False

    @property
    def pid(self) -> int:
        """The PID of the keeper, which is procd to whoever has started it."""
        assert self._process is not None
        return self._process.pid

    @property
    def keeper(self) -> int:
        """The PID of the keeper that holds the runtime directory now: another one, if that was killed."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.directory / "run/procd.lock").read_text())
        return self.pid

    @property
    def supervisor(self) -> int:
        """The PID of the supervisor; waits until there is one."""
        pid: int = until(lambda: self.supervisor_now, "a supervisor")
        return pid

    @property
    def supervisor_now(self) -> int | None:
        """The PID of the supervisor; None while there is none."""
        return self._child("supervise")

    @property
    def logger(self) -> int:
        """The PID of the logger; waits until there is one."""
        pid: int = until(lambda: self.logger_now, "a logger")
        return pid

    @property
    def logger_now(self) -> int | None:
        """The PID of the logger; None while there is none."""
        return self._child("log")

    def _child(self, verb: str) -> int | None:
        """The PID of the child of the keeper that was started with this verb."""
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{self.keeper}/task/{self.keeper}/children").read_text().split():
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                    if (
                        words[3:4] == [verb.encode()]
                        and words[2].endswith(b"__main__.py")
                        and alive(int(child))
                    ):
                        return int(child)
        return None

    def kill_supervisor(self) -> None:
        """Kill the supervisor, and wait until that has happened; the next one comes by itself."""
        pid = self.supervisor
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid), "the supervisor to be dead")

    @contextlib.contextmanager
    def unsupervised(self) -> Iterator[None]:
        """In this block the supervisor is dead, and no other one comes; afterwards somebody answers again."""
        self.signal(signal.SIGSTOP)
        try:
            self.kill_supervisor()
            yield
        finally:
            self.signal(signal.SIGCONT)
        with self.client() as client:
            client.call("hello")

    def kill_all(self) -> None:
        """Kill everything at once, programs too: what is left is what a power cut leaves, but for the disk."""
        # First nobody is to start anybody again, or to follow who is dead.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in marked(self.mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        while left := marked(self.mark):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Signal the daemon."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the daemon to end; its exit status."""
        assert self._process is not None
        return self._process.wait(BOUND_S)

    def stop(self) -> int:
        """End the daemon as an init does; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """Leave nothing behind, whatever has happened; and complain if a stop did."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired, AssertionError):
            self._end_keeper()
        left = marked(self.mark)
        self.kill_all()
        assert not left, f"procd has left processes behind: {left}"

    def _end_keeper(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self.stop()
        keeper = self.keeper
        if keeper in marked(self.mark):
            os.kill(keeper, signal.SIGTERM)
            until(lambda: not alive(keeper), "a keeper to end that we have not started")

    # Talking to it

    def client(self) -> Client:
        """A connection without a procctl around it."""
        return Client(str(self.socket), timeout_s=BOUND_S)

    def procctl(self, *words: str, stdin: str | int | None = None) -> Done:
        """Run procctl against this daemon."""
        return run([*PROCCTL, "-s", str(self.socket), *words], stdin=stdin)

    def does(self, *words: str, stdin: str | int | None = None) -> str:
        """Run procctl, which must succeed; what it printed."""
        done = self.procctl(*words, stdin=stdin)
        assert done.code == 0, done
        return done.out

    def json(self, *words: str) -> Any:  # noqa: ANN401 - what travelled on the wire
        """Run procctl with --json, which must succeed; its answer."""
        return json.loads(self.does("--json", *words))

    @contextlib.contextmanager
    def procctl_running(
        self, *words: str, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A procctl that goes on, until the end of the block at most."""
        command = [*PROCCTL, "-s", str(self.socket), *words]
        with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                process.kill()

    # Looking at it

    def record(self, name: str) -> dict[str, Any]:
        """The record of one instance."""
        with self.client() as client:
            records: list[dict[str, Any]] = client.call("status", programs=[name])["programs"]
        assert len(records) == 1, records
        return records[0]

    def records(self) -> dict[str, dict[str, Any]]:
        """The records of all instances, by name."""
        with self.client() as client:
            return {record["name"]: record for record in client.call("status")["programs"]}

    def pids(self) -> dict[str, int | None]:
        """The PID of each instance."""
        return {name: record["pid"] for name, record in self.records().items()}

    def process(self, name: str) -> int:
        """The PID of an instance that runs."""
        pid = self.record(name)["pid"]
        assert isinstance(pid, int), self.record(name)
        return pid

    def until_state(self, name: str, state: str) -> dict[str, Any]:
        """Wait until an instance is in a state; its record."""
        until(lambda: self.record(name)["state"] == state, f"{name} to be {state}: {self.record(name)}")
        return self.record(name)

    def output(self, name: str, stream: str = "stdout") -> bytes:
        """What an instance has written, as far as it is in its log."""
        suffix = "err.log" if stream == "stderr" else "log"
        with contextlib.suppress(FileNotFoundError):  # not yet, or not in this moment: a rotation
            return (self.directory / "log" / f"{name}.{suffix}").read_bytes()
        return b""

    def until_said(self, *words: str) -> str:
        """Wait until procd itself has said a line with these words: the logger writes it. Returns the line."""

        def line() -> str | None:
            said = self.said.read_text(errors="replace").splitlines()
            return next((line for line in said if all(word in line for word in words)), None)

        found: str = until(line, f"{words} to be said")
        return found

    def until_output(self, name: str, text: bytes, stream: str = "stdout") -> bytes:
        """Wait until an instance has written something; all that it wrote."""
        until(lambda: text in self.output(name, stream), f"{text!r} in the log of {name}")
        return self.output(name, stream)
