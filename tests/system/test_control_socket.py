"""The control socket over time: removed, replaced, passed by the service manager, out of descriptors, full."""

from __future__ import annotations

import contextlib
import grp
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from procd.control.server import MAX_CONNECTIONS_PER_UID
from procd.wire import Connection, Notification, Request
from tests.kernel.children import needs_root
from tests.system.daemon import BOUND_S, rss_bytes, until, voluntary_switches
from tests.system.strangers import connecting_as

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

#: The request `hello`.
HELLO = b"\x94\x00\x01\xa5hello\x91\x80"
PROGRAM = '[programs.web]\ncommand = ["sleep", "1000"]\n'


def connect(path: Path) -> socket.socket:
    """A raw connection."""
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(BOUND_S)
    try:
        connected.connect(str(path))
    except OSError:
        connected.close()
        raise
    return connected


def answers(daemon: Daemon) -> bool:
    """Whether procd can be reached by its path."""
    with contextlib.suppress(OSError), connect(daemon.socket) as connected:
        connected.sendall(HELLO)
        return bool(connected.recv(100))
    return False


# Its file


def test_a_socket_whose_file_is_removed_is_bound_again(start_daemon: Callable[..., Daemon]) -> None:
    """At once, with its mode; whoever was connected stays so."""
    daemon = start_daemon('[control]\nmode = "0640"\n' + PROGRAM)
    with daemon.client() as before:
        before.call("hello")
        daemon.socket.unlink()
        until(lambda: answers(daemon), "the socket to be there again")
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o640
        assert before.call("status")["programs"]
    daemon.until_said("control socket was gone and is made again")


def test_a_socket_whose_file_was_moved_away_or_replaced_is_bound_again(
    start_daemon: Callable[..., Daemon],
) -> None:
    """By another file, too; the other one is not procd's to remove, and it is not."""
    daemon = start_daemon(PROGRAM)
    moved = daemon.socket.with_name("elsewhere")
    daemon.socket.rename(moved)
    until(lambda: answers(daemon), "the socket to be there again")
    other = daemon.socket.with_name("other")
    other.write_text("something else")
    other.rename(daemon.socket)
    until(lambda: answers(daemon), "the socket to be there again")
    daemon.stop()
    assert not daemon.socket.exists()
    assert moved.exists()


def test_a_directory_that_is_swept_away_is_made_again(start_daemon: Callable[..., Daemon]) -> None:
    """As a cleaner of temporary files does it."""
    daemon = start_daemon(PROGRAM)
    shutil.rmtree(daemon.socket.parent)
    until(lambda: answers(daemon), "the socket to be there again")


def test_two_daemons_at_one_path_do_not_fight_all_the_time(make_daemon: Callable[..., Daemon]) -> None:
    """Each waits longer before it takes the path again; both go on working."""
    first, second = make_daemon(PROGRAM), make_daemon(PROGRAM)
    first.start()
    second.write(f'[control]\nsocket = "{first.socket}"\n{PROGRAM}')
    second.socket = first.socket
    second.start()
    said = "is made again"
    until(lambda: said in first.said.read_text(), "the first to take it back")
    until(lambda: said in second.said.read_text(), "the second to take it back")
    count = [daemon.said.read_text().count(said) for daemon in (first, second)]
    assert max(count) <= 4, count
    for daemon in (first, second):
        daemon.signal(signal.SIGHUP)
    first.stop()
    second.stop()


def test_a_socket_that_cannot_be_made_is_tried_again(start_daemon: Callable[..., Daemon]) -> None:
    """Something is in the way for a while; it is told once each time, less and less often."""
    daemon = start_daemon(PROGRAM)
    daemon.socket.unlink()
    until(lambda: answers(daemon), "the socket to be there again")
    place = daemon.socket.parent
    shutil.rmtree(place)
    place.write_text("in the way")
    until(lambda: "cannot be made" in daemon.said.read_text(), "it to fail")
    place.unlink()
    until(lambda: answers(daemon), "the socket to be there again")


@needs_root
def test_a_group_can_open_it(start_daemon: Callable[..., Daemon]) -> None:
    """`group` alone: mode 0660, and its members get in; what they may do is another question."""
    group = grp.getgrgid(1).gr_name
    daemon = start_daemon(f'[control]\ngroup = "{group}"\n{PROGRAM}')
    found = daemon.socket.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 1)
    for groups, may in (([1], True), ([2], False)):
        with (
            socket.socket(socket.AF_UNIX) as connecting,
            connecting_as(daemon.socket, 65534, 65534, groups) as path,
        ):
            assert (connecting.connect_ex(path) == 0) is may


# Passed by the service manager

LAUNCH = """
import os, socket, sys
listening = socket.socket(socket.AF_UNIX, getattr(socket, sys.argv[2]))
listening.bind(sys.argv[1])
if sys.argv[2] == "SOCK_STREAM":
    listening.listen()
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid() + int(sys.argv[4])))
os.environ.update(LISTEN_FDS=sys.argv[3], LISTEN_FDNAMES=sys.argv[5])
if sys.argv[3] == "2":
    os.dup2(3, 4)
os.execvp(sys.argv[6], sys.argv[6:])
"""


def launched(
    daemon: Daemon, *, kind: str = "SOCK_STREAM", count: int = 1, other_pid: bool = False, names: str = "x"
) -> Path:
    """Have the daemon started by something that passes it a socket; the path of that."""
    path = daemon.directory / "passed"
    daemon._prefix = [
        sys.executable, "-c", LAUNCH, str(path), kind, str(count), "1" if other_pid else "0", names,
    ]  # fmt: skip
    return path


def test_a_socket_that_is_passed_is_used(make_daemon: Callable[..., Daemon]) -> None:
    """Its own is not bound; what waits in the backlog is served; its file is not procd's to remove."""
    daemon = make_daemon("[programs.web]\ncommand = ['env']\nrestart = 'never'\n")
    own = daemon.socket
    path = launched(daemon)
    daemon.socket = path
    daemon.start()
    assert not own.exists()
    daemon.until_output("web", b"PROCD_PROGRAM")
    assert b"LISTEN_" not in daemon.output("web")
    path.chmod(0o600)
    assert daemon.stop() == 0
    assert path.exists()


@pytest.mark.parametrize(("count", "names"), [(2, "metrics:control"), (2, "control:metrics")])
def test_among_several_the_one_that_is_called_control_is_used(
    make_daemon: Callable[..., Daemon], count: int, names: str
) -> None:
    """FileDescriptorName of the socket's unit."""
    daemon = make_daemon(PROGRAM)
    daemon.socket = launched(daemon, count=count, names=names)
    daemon.start()
    daemon.until_state("web", "RUNNING")


def test_what_is_meant_for_another_process_is_left_alone(make_daemon: Callable[..., Daemon]) -> None:
    """LISTEN_PID names somebody else, so procd binds its own."""
    daemon = make_daemon(PROGRAM)
    launched(daemon, other_pid=True)
    daemon.start()
    assert daemon.socket.exists()


@pytest.mark.parametrize(
    ("kind", "count", "names", "words"),
    [
        ("SOCK_DGRAM", 1, "control", "no Unix stream socket"),
        ("SOCK_STREAM", 2, "a:b", "none is called 'control'"),
    ],
)
def test_what_is_passed_and_cannot_be_it_is_refused(
    make_daemon: Callable[..., Daemon], kind: str, count: int, names: str, words: str
) -> None:
    """With the status of a wrong configuration, because starting again changes nothing."""
    daemon = make_daemon(PROGRAM)
    launched(daemon, kind=kind, count=count, names=names)
    done = subprocess.run(
        [*daemon._prefix, sys.executable, "-m", "procd", "run", "-c", str(daemon.configuration)],
        capture_output=True, text=True, timeout=BOUND_S, check=False, cwd=daemon.directory,
    )  # fmt: skip
    assert done.returncode == 78, done
    assert words in done.stderr


# Many, and too many


def closing(connected: socket.socket) -> str:
    """The code with which procd has closed a connection."""
    wire = Connection.of_client()
    while data := connected.recv(65536):
        for message in wire.receive(data):
            assert isinstance(message, Notification)
            assert message.method == "closing"
            return str(message.params[0]["code"])
    return "closed without a word"


def test_without_descriptors_nobody_spins_and_everybody_is_served_later(
    start_daemon: Callable[..., Daemon],
) -> None:
    """EMFILE: the log tells it once, the processor rests, and whoever waited is served when there is room."""
    daemon = start_daemon(PROGRAM, prefix=["prlimit", "--nofile=100:100"])
    with contextlib.ExitStack() as crowd, socket.socket(socket.AF_UNIX) as waiting:
        for _ in range(110):
            crowd.enter_context(connect(daemon.socket))
        daemon.until_said("connections cannot be accepted")
        before = cpu_ticks(daemon.supervisor)
        waiting.connect(str(daemon.socket))
        waiting.sendall(HELLO)
        waiting.settimeout(2.5)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        # Some tries, one a second: milliseconds.
        assert cpu_ticks(daemon.supervisor) - before <= 20
        assert daemon.said.read_text().count("connections cannot be accepted") == 1
        waiting.settimeout(BOUND_S)
        crowd.close()
        assert waiting.recv(100)
    daemon.until_said("connections are accepted again")
    assert daemon.does("status", "web")
    assert "Traceback" not in daemon.said.read_text()


def cpu_ticks(pid: int) -> int:
    """Processor time of a process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    return int(fields[11]) + int(fields[12])


@needs_root
def test_one_user_cannot_take_all_connections(start_daemon: Callable[..., Daemon]) -> None:
    """It is told that it has too many; others, root among them, are served; one that leaves makes room."""
    daemon = start_daemon('[control]\nmode = "0666"\n' + PROGRAM)
    with contextlib.ExitStack() as stack:
        opened = []
        with connecting_as(daemon.socket, 65534) as path:
            for _ in range(MAX_CONNECTIONS_PER_UID + 1):
                each = stack.enter_context(socket.socket(socket.AF_UNIX))
                each.settimeout(BOUND_S)
                each.connect(path)
                opened.append(each)
        assert closing(opened[-1]) == "TOO_LARGE"
        with socket.socket(socket.AF_UNIX) as other:
            other.settimeout(BOUND_S)
            with connecting_as(daemon.socket, 65533) as path:
                other.connect(path)
            other.sendall(HELLO)
            assert other.recv(100)
        daemon.until_state("web", "RUNNING")
        assert daemon.does("status", "web")
        opened[0].close()

        def let_in() -> bool:
            with socket.socket(socket.AF_UNIX) as again, connecting_as(daemon.socket, 65534) as path:
                again.settimeout(BOUND_S)
                again.connect(path)
                again.sendall(HELLO)
                return again.recv(2) == b"\x94\x01"

        until(let_in, "room for another connection")


def test_a_thousand_idle_connections_cost_little_and_wake_nobody(start_daemon: Callable[..., Daemon]) -> None:
    """Some kilobytes each, and not one turn of the loop."""
    daemon = start_daemon(PROGRAM)
    daemon.until_state("web", "RUNNING")
    before = rss_bytes(daemon.supervisor)
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(connect(daemon.socket))
        with daemon.client() as client:
            until(lambda: client.call("metrics")["connections"] >= 1001, "all to be accepted")
            assert rss_bytes(daemon.supervisor) - before < 24 << 20
            switches = voluntary_switches(daemon.supervisor)
            with connect(daemon.socket) as watched:
                watched.settimeout(2.0)
                with pytest.raises(TimeoutError):
                    watched.recv(1)
            # The connection that was made and left; nothing for the thousand.
            assert voluntary_switches(daemon.supervisor) - switches < 20
            assert client.call("status")["programs"]
    until(lambda: daemon.record("web"), "an answer")


def test_a_client_that_stops_reading_a_flood_costs_bounded_memory(start_daemon: Callable[..., Daemon]) -> None:
    """It follows a program that writes all the time, reads a little, and then nothing."""
    daemon = start_daemon(
        '[programs.flood]\ncommand = "exec cat /dev/zero"\nshell = true\n'
        'log = { max_size = "8MiB", keep = 2 }\n',
    )
    daemon.until_state("flood", "RUNNING")
    with contextlib.ExitStack() as stack:
        before = rss_bytes(daemon.supervisor)
        for _ in range(8):
            following = stack.enter_context(connect(daemon.socket))
            request = Request(1, "logs", {"program": "flood", "follow": True, "offset": 0})
            following.sendall(Connection.of_client().send(request))
            assert following.recv(100_000)
        until(lambda: daemon.record("flood")["streams"]["stdout"]["offset"] > 100 << 20, "a flood")
        assert rss_bytes(daemon.supervisor) - before < 24 << 20
        assert daemon.does("status", "flood")
