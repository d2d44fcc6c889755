"""Children and clients that do what nobody should: bounded memory, and no other program notices."""

from __future__ import annotations

import array
import contextlib
import fcntl
import random
import shutil
import socket
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from procd.wire import Connection, Request
from tests.kernel.children import needs_root
from tests.system.daemon import BOUND_S, PROCCTL, python, rss_bytes, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.daemon import Daemon

needs_setpriv = pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")

MIB = 1 << 20
#: What an attack may cost the daemon, from before to its worst: buffers of a few connections, and fragments.
MAY_GROW_BYTES = 12 * MIB

CONFIGURATION = f"""
[programs.other]
command = ["cat"]
stdin = "pipe"

[programs.deaf]
command = {python("sys_deaf_to_stdin.py")}
stdin = "pipe"

[programs.quiet]
command = {python("sys_closes_stdout.py")}

[programs.slow]
command = "trap '' TERM; echo up; exec sleep infinity"
shell = true
stop_timeout = "300ms"
"""


@contextlib.contextmanager
def harmless(daemon: Daemon) -> Iterator[None]:
    """The block costs the daemon little memory and no descriptor, and the program `other` nothing."""
    daemon.until_state("other", "RUNNING")
    before = daemon.process("other")
    Path(f"/proc/{daemon.supervisor}/clear_refs").write_text("5")  # VmHWM starts again from here (proc(5))
    memory = rss_bytes(daemon.supervisor, "VmHWM")
    descriptors = _descriptors(daemon)
    yield
    assert rss_bytes(daemon.supervisor, "VmHWM") - memory < MAY_GROW_BYTES
    assert daemon.process("other") == before
    said = daemon.output("other").count(b"\n")
    daemon.does("send", "other", "still there?")
    until(lambda: daemon.output("other").count(b"\n") == said + 1, "an answer of the other program")
    until(lambda: _descriptors(daemon) <= descriptors, "the daemon to close what it had opened")
    assert "Traceback" not in daemon.said.read_text()


def _descriptors(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.supervisor}/fd").iterdir()))


def _connect(daemon: Daemon) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(BOUND_S)
    connected.connect(str(daemon.socket))
    return connected


def _in_pipe(pid: int) -> int:
    """How many bytes wait in the standard input of a process."""
    count = array.array("i", [0])
    with Path(f"/proc/{pid}/fd/0").open("rb", buffering=0) as pipe:
        fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


# Children


def test_a_child_that_never_reads_costs_no_memory(start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """1 GiB is offered to it; what fits into its pipe is accepted, and the rest stays with the sender."""
    daemon = start_daemon(CONFIGURATION)
    daemon.until_output("deaf", b"up")
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(1 << 30)
    with harmless(daemon):
        deaf = daemon.process("deaf")
        with big.open("rb") as file, daemon.procctl_running("send", "deaf", stdin=file.fileno()) as sending:
            until(lambda: _in_pipe(deaf) >= 65536, "its pipe to be full")
            assert daemon.procctl("--timeout", "200ms", "send", "deaf", "one more").code == 7
            assert sending.poll() is None
            daemon.does("stop", "deaf")
            assert sending.wait(BOUND_S) == 1
            assert sending.stdout is not None
            assert sending.stderr is not None
            assert sending.stdout.read() == b"65536 bytes accepted\n"
            assert b"deaf has closed its stdin" in sending.stderr.read()


def test_a_client_that_does_not_wait_for_answers_is_not_read_from(start_daemon: Callable[..., Daemon]) -> None:
    """It pushes writes as fast as the socket takes them; the daemon stops taking them, and serves others."""
    daemon = start_daemon(CONFIGURATION)
    daemon.until_output("deaf", b"up")
    frame = Connection.of_client().send(Request(1, "write", {"program": "deaf", "data": b"x" * 65536}))
    with harmless(daemon), _connect(daemon) as pushing:
        pushing.settimeout(0.3)
        pushed = 0
        with contextlib.suppress(TimeoutError):
            while pushed < 1 << 30:
                pushed += pushing.send(frame)
        assert pushed < 4 * MIB


def test_a_child_that_closes_its_stdout_lives_on(start_daemon: Callable[..., Daemon]) -> None:
    """Its log has what it said; the daemon does not spin on the closed pipe."""
    daemon = start_daemon(CONFIGURATION)
    with harmless(daemon):
        daemon.until_output("quiet", b"last words\n")
        pid = daemon.until_state("quiet", "RUNNING")["pid"]
        assert daemon.does("logs", "quiet") == "last words\n"
        spent = _cpu_ticks(daemon.supervisor)
        daemon.procctl("--timeout", "300ms", "wait", "quiet", "--for", "stopped")
        assert _cpu_ticks(daemon.supervisor) - spent <= 10
        assert daemon.process("quiet") == pid
        daemon.does("stop", "quiet")


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_child_that_floods_its_stdout_costs_no_memory(start_daemon: Callable[..., Daemon]) -> None:
    """200 MB are in its log, every byte, while others are served."""
    daemon = start_daemon(
        f"{CONFIGURATION}[programs.floods]\ncommand = {python('flood.py', 200_000_000)}\n"
        "restart = 'never'\nautostart = false\nlog.max_size = 0\n"
    )
    with harmless(daemon):
        daemon.does("start", "floods")
        daemon.until_state("floods", "EXITED")
        assert daemon.record("floods")["streams"]["stdout"]["offset"] == 200_000_000
        assert (daemon.directory / "log/floods.log").stat().st_size == 200_000_000


# Clients that leave


def _frame(method: str, **params: object) -> bytes:
    return Connection.of_client().send(Request(1, method, params))


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([b""], id="before it says anything"),
        pytest.param([_frame("status")[:3]], id="in the middle of a frame"),
        pytest.param([_frame("status") * 200], id="before it reads 200 answers"),
        pytest.param([_frame("logs", program="other", follow=True)], id="while it follows a log"),
        pytest.param([_frame("wait", program="other", **{"for": "stopped"})], id="while it waits for a state"),
        pytest.param([_frame("write", program="deaf", data=b"x" * 65536)] * 6, id="while its bytes wait"),
        pytest.param([_frame("write", program="other", data=b"x" * 65536)[:40_000]], id="amid a write"),
        pytest.param([_frame("restart", programs=["quiet"])], id="while a program restarts"),
        pytest.param([_frame("stop", programs=["slow"])], id="while a program stops"),
        pytest.param([_frame("reload")], id="during a reload"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rudely", [False, True], ids=["politely", "rudely"])
def test_a_client_may_leave_at_any_time(shared: Daemon, frames: list[bytes], *, rudely: bool) -> None:
    """What it had asked for is carried out or forgotten; twenty of them leave nothing behind."""
    shared.until_state("deaf", "RUNNING")
    with harmless(shared):
        for _ in range(20):
            with _connect(shared) as leaving:
                for frame in frames:
                    leaving.settimeout(0.02)
                    with contextlib.suppress(TimeoutError):
                        leaving.sendall(frame)
                if not rudely:
                    leaving.shutdown(socket.SHUT_WR)


def test_a_stop_goes_on_when_whoever_asked_has_left(shared: Daemon) -> None:
    """It was accepted; it is done."""
    shared.does("start", "slow")
    shared.until_output("slow", b"up")
    with _connect(shared) as leaving:
        leaving.sendall(_frame("stop", programs=["slow"]))
        shared.until_state("slow", "STOPPING")
    assert "killed" in shared.until_state("slow", "STOPPED")["reason"]


# Clients that talk nonsense


def _random() -> bytes:
    return random.Random(2).randbytes(10 * MIB)  # noqa: S311 - garbage has to be the same each time


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(_random, id="noise"),
        pytest.param(lambda: bytes(10 * MIB), id="zeros"),
        pytest.param(lambda: b"GET / HTTP/1.1\r\nHost: procd\r\n\r\n" * 350_000, id="http"),
        pytest.param(lambda: b"\x91" * (10 * MIB), id="nested arrays"),
        pytest.param(lambda: b"\xdd\xff\xff\xff\xff" * (2 * MIB), id="an array of 4 G elements"),
        pytest.param(lambda: b"\xdf\xff\xff\xff\xff" * (2 * MIB), id="a map of 4 G entries"),
        pytest.param(lambda: b"\xc6\xff\xff\xff\xff" + bytes(10 * MIB), id="4 GiB of binary"),
        pytest.param(
            lambda: b"\x94\x00\x01\xa6status\x91\xdb\xff\xff\xff\xff" + b"x" * 10 * MIB, id="4 GiB of text"
        ),
    ],
)  # fmt: skip
def test_garbage_ends_its_connection_and_nothing_else(shared: Daemon, garbage: Callable[[], bytes]) -> None:
    """10 MB of it: the daemon says why and hangs up."""
    with harmless(shared), _connect(shared) as talking:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            talking.sendall(garbage())
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := talking.recv(65536):
                received += piece
        assert received == b"" or b"closing" in received


def test_requests_that_are_wrong_are_refused_and_the_connection_lives(shared: Daemon) -> None:
    """An unknown method, unknown parameters, wrong types: each has its answer."""
    wrong: list[tuple[str, dict[str, object], str]] = [
        ("no_such_method", {}, "UNKNOWN_METHOD"),
        ("__class__", {}, "UNKNOWN_METHOD"),
        ("status", {"program": "x"}, "BAD_REQUEST"),
        ("status", {"programs": "x"}, "BAD_REQUEST"),
        ("stop", {}, "BAD_REQUEST"),
        ("signal", {"programs": ["other"], "signal": "NOSUCH"}, "BAD_REQUEST"),
        ("write", {"program": "other", "data": "text"}, "BAD_REQUEST"),
        ("wait", {"program": "other", "for": "ever"}, "BAD_REQUEST"),
        ("wait", {"program": "other", "for": "stopped", "timeout": -1}, "BAD_REQUEST"),
        ("cancel", {"stream": 7}, "BAD_REQUEST"),
    ]
    wire = Connection.of_client()
    with harmless(shared), _connect(shared) as asking:
        for number, (method, params, code) in enumerate(wrong):
            asking.sendall(wire.send(Request(number, method, params)))
            answers = []
            while not answers:
                answers = list(wire.receive(asking.recv(65536)))
            assert (answers[0].id, answers[0].error["code"]) == (number, code)  # type: ignore[union-attr]


def test_a_thousand_idle_connections_do_not_matter(shared: Daemon) -> None:
    """Nor do they keep anybody else from being served."""
    with harmless(shared), contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(_connect(shared))
        assert shared.procctl("status", "other").code == 0


def test_a_reader_that_never_reads_is_not_buffered_for(shared: Daemon) -> None:
    """It asks for a log of megabytes and goes to sleep; what it gets waits in the log."""
    log = shared.directory / "log/other.log"
    with log.open("ab") as file:
        file.write((b"x" * 1023 + b"\n") * 30 * 1024)
    with harmless(shared), contextlib.ExitStack() as stack:
        for _ in range(10):
            sleeping = stack.enter_context(_connect(shared))
            sleeping.sendall(_frame("logs", program="other", offset=0, follow=True))
        assert shared.procctl("status", "other").code == 0


# Strangers


@needs_root
@needs_setpriv
@pytest.mark.parametrize("mode", ["0600", "0666"])
def test_nobody_else_may_use_the_socket(make_daemon: Callable[..., Daemon], mode: str) -> None:
    """Neither where the socket's mode stops them, nor where only procd itself can."""
    daemon = make_daemon("[control]\nmode = '" + mode + "'\n" + CONFIGURATION)
    daemon.start()
    before = daemon.until_state("other", "RUNNING")["pid"]
    # The capability to read directories, because the interpreter of the tests may lie in a home directory.
    stranger = [
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
        "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", *PROCCTL, "-s", str(daemon.socket),
    ]  # fmt: skip
    for verb in (
        ["status"],
        ["stop", "other"],
        ["send", "other", "x"],
        ["logs", "other"],
        ["reload"],
        ["shutdown"],
    ):
        done = run([*stranger, *verb])
        assert done.code == 5, done
        assert done.out in {"", "0 bytes accepted\n"}
    assert daemon.process("other") == before
    if mode == "0666":
        assert "uid 65534" in done.err
        daemon.until_said("outcome=NOT_PERMITTED")
