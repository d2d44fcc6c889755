"""procctl as a process of its own: what it imports, terminals, pipes that close, signals."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.procctl.fake_daemon import BOUND_S, FakeDaemon, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    StartDaemon = Callable[..., FakeDaemon]

ROOT = Path(__file__).parents[3]
PROCCTL = [sys.executable, "-m", "procctl"]
RECORD = {"name": "web", "state": "RUNNING", "pid": 1, "uptime_s": 3.0, "cpu_s": 0.1, "rss_bytes": 4096}

# What a verb that only asks and prints has no use for, and what costs more than the rest of its start.
HEAVY = [
    "asyncio", "structlog", "msgspec", "rich", "json", "logging", "subprocess", "pathlib", "tempfile", "shutil",
    "email", "importlib.metadata", "hashlib", "ssl", "base64", "difflib", "click", "typing", "dataclasses",
    "inspect", "re", "contextlib", "unicodedata", "procctl.commands", "procctl.questions", "procctl.results",
    "procctl.remote",
]  # fmt: skip


def procctl(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: ANN401 - those of subprocess.run
    """Run procctl to its end."""
    return subprocess.run([*PROCCTL, *words], check=False, cwd=ROOT, timeout=BOUND_S, **options)


def on_a_terminal(*words: str, environment: dict[str, str] | None = None) -> bytes:
    """What procctl writes onto a terminal that is its standard output."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    with subprocess.Popen(
        [*PROCCTL, *words], cwd=ROOT, stdout=theirs, env=env | (environment or {})
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass  # EIO: Linux says so when the last process has closed the terminal
        process.wait(BOUND_S)
    os.close(ours)
    return shown


def test_status_imports_little(start_daemon: StartDaemon) -> None:
    """Its speed is the time that it takes to start; whatever comes in here is felt with every command."""
    start_daemon(status=lambda _, __: {"programs": [RECORD]})
    program = (
        "import sys; from procctl.cli import run; code = run(['status']); "
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, timeout=BOUND_S
    )
    assert done.stdout.splitlines()[-1] == b"0 []"


def test_a_terminal_gets_colours_and_a_pipe_does_not(start_daemon: StartDaemon) -> None:
    """Nor does a terminal where NO_COLOR is set, or that can do nothing."""
    start_daemon(status=lambda _, __: {"programs": [RECORD]})
    assert b"\x1b[32mRUNNING" in on_a_terminal("status")
    assert b"\x1b" not in on_a_terminal("status", environment={"NO_COLOR": "1"})
    assert b"\x1b" not in on_a_terminal("status", environment={"TERM": "dumb"})
    assert b"\x1b" not in procctl("status", stdout=subprocess.PIPE).stdout


def test_a_terminal_does_not_obey_a_program(start_daemon: StartDaemon) -> None:
    """Unless --raw is said."""

    def logs(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify_afterwards("stream.data", 1, {"data": b"a\tb\x1b[2J\n", "offset": 0})
        peer.notify_afterwards("stream.end", 1, {"reason": "end of log"})
        return {"stream": 1}

    start_daemon(logs=logs)
    assert on_a_terminal("logs", "web") == b"a\tb\\x1b[2J\r\n"
    assert on_a_terminal("logs", "web", "--raw") == b"a\tb\x1b[2J\r\n"


def flood(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
    """A `logs` method that writes without an end."""
    peer.send_bytes(b"\x94\x01\x01\xc0\x81\xa6stream\x01")
    offset = 0
    while True:
        peer.notify("stream.data", 1, {"data": b"line\n" * 1000, "offset": offset})
        offset += 5000


def test_a_reader_that_has_enough_ends_it_quietly(start_daemon: StartDaemon) -> None:
    """`procctl logs -f web | head -1` says nothing of a broken pipe; 141 is what a shell shows for SIGPIPE."""
    start_daemon(logs=flood)
    with subprocess.Popen(
        [*PROCCTL, "logs", "-f", "web"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline() == b"line\n"
        following.stdout.close()
        assert following.wait(BOUND_S) == 141
        assert following.stderr.read() == b""


def test_a_table_for_a_reader_that_is_gone_ends_quietly(start_daemon: StartDaemon) -> None:
    """The same for what is written at once."""
    start_daemon(status=lambda _, __: {"programs": [RECORD]})
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = procctl("status", stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


def test_ctrl_c_ends_it_quietly(start_daemon: StartDaemon) -> None:
    """Without a traceback, with the status that a shell shows for SIGINT."""
    following = threading.Event()

    def logs(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify_afterwards("stream.data", 1, {"data": b"x\n", "offset": 0})
        following.set()
        return {"stream": 1}

    start_daemon(logs=logs)
    with subprocess.Popen(
        [*PROCCTL, "logs", "-f", "web"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"x\n"
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=BOUND_S)
    assert (process.returncode, complaints) == (130, b"")


def test_a_full_disk_is_told_once(start_daemon: StartDaemon) -> None:
    """And not again by the interpreter at its end."""
    start_daemon(status=lambda _, __: {"programs": [RECORD]})
    with Path("/dev/full").open("wb") as full:
        done = procctl("status", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"procctl: No space left on device\n")


def test_closed_standard_streams_do_not_end_up_in_the_socket(start_daemon: StartDaemon) -> None:
    """With descriptor 1 closed, the connection would be descriptor 1, and the answer written to the daemon."""
    daemon = start_daemon(status=lambda _, __: {"programs": [RECORD]})
    command = f"{sys.executable} -m procctl status <&- >&- 2>&-"
    done = subprocess.run(["/bin/sh", "-c", command], check=False, cwd=ROOT, timeout=BOUND_S)
    assert done.returncode == 0
    assert daemon.requests == [("status", {"programs": ["*"]})]


def test_a_terminal_without_utf8_gets_escapes(start_daemon: StartDaemon) -> None:
    """A name from elsewhere is no reason for a traceback."""
    start_daemon(status=lambda _, __: {"programs": [RECORD | {"state": "FATAL", "reason": "wörd"}]})
    done = procctl("status", stdout=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert b"w\\xf6rd" in done.stdout


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["send", "--help"]])
def test_help_and_version_need_no_daemon(words: list[str]) -> None:
    """They are for who has none yet."""
    assert procctl(*words, stdout=subprocess.PIPE).returncode == 0


def test_standard_input_is_streamed_with_constant_memory(start_daemon: StartDaemon) -> None:
    """What is not accepted yet is not read: a program that does not read holds procctl up and nothing else."""
    sizes: list[int] = []

    def write(_: Peer, params: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(params["data"]))
        return {"accepted": sizes[-1]}

    start_daemon(write=write)
    program = (
        "import resource, sys; from procctl.cli import run; "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; code = run(['send', 'web']); "
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    amount = 32 * 1024 * 1024
    with (
        Path("/dev/zero").open("rb") as zeros,
        subprocess.Popen(["/usr/bin/head", "-c", str(amount)], stdin=zeros, stdout=subprocess.PIPE) as source,
    ):
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=True, cwd=ROOT, stdin=source.stdout, capture_output=True, timeout=BOUND_S,
        )  # fmt: skip
    accepted, measured = done.stdout.splitlines()
    assert accepted == f"{amount} bytes accepted".encode()
    assert sum(sizes) == amount
    code, grown_kib = map(int, measured.split())
    assert code == 0
    assert grown_kib < 8 * 1024
