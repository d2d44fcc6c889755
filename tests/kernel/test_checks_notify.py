"""The notify socket with real datagrams: who is heard, and what comes along with them."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import shutil
import socket
import struct
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from procd.checks import Notification, NotifySocket, listen
from procd.checks.notification import MAX_BYTES
from procd.checks.notify import TURN_DATAGRAMS
from tests.kernel.children import BOUND_S, NOBODY, in_loop, needs_root, open_descriptors, run, start, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.process import Process

US = os.getpid()
READY = Notification(ready=True)


class Ear:
    """A notify socket that takes this process for the program `web`, and remembers what it hears."""

    def __init__(self, path: Path, owners: dict[int, str] | None = None) -> None:
        self.owners = {US: "web"} if owners is None else owners
        self.owner: str | None = None
        self.heard: list[tuple[str, Notification]] = []
        self.asked: list[int] = []
        self.ours = {US}
        self.path = str(path / "notify.sock")
        self.socket = NotifySocket(
            asyncio.get_running_loop(), listen(self.path),
            owner_of=self._owner_of, belongs=lambda _, pid: pid in self.ours, on_message=self._on_message,
        )  # fmt: skip

    def _owner_of(self, pid: int) -> str | None:
        self.asked.append(pid)
        return self.owners.get(pid, self.owner)

    def _on_message(self, name: str, notification: Notification) -> None:
        self.heard.append((name, notification))

    @contextlib.contextmanager
    def sender(self) -> Iterator[socket.socket]:
        """A socket that is connected to it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self.path)
            yield sock

    def send(self, datagram: bytes, *descriptors: int) -> None:
        """Say something."""
        rights = array.array("i", descriptors)
        with self.sender() as sock:
            sock.sendmsg([datagram], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else [])

    async def until(self, count: int) -> None:
        """Wait for so many messages to be heard or not listened to."""
        ear = self.socket
        await until(lambda: len(self.heard) + ear.strangers + ear.malformed >= count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.socket.close()


@in_loop
async def test_a_program_is_heard(tmp_path: Path) -> None:
    """By the name of the program that the sender belongs to; what says nothing is not passed on."""
    with Ear(tmp_path) as ear:
        ear.send(b"READY=1\nSTATUS=up")
        ear.send(b"FDSTORE=1")
        ear.send(b"STOPPING=1")
        await ear.until(2)
        assert ear.heard == [
            ("web", Notification(ready=True, status="up")), ("web", Notification(stopping=True)),
        ]  # fmt: skip


@in_loop
async def test_the_kernel_says_who_sent(tmp_path: Path) -> None:
    """A child of a program is somebody else than its parent, whatever it writes."""
    with Ear(tmp_path) as ear:
        sender = _python("s.send(b'READY=1\\nMAINPID=1')", ear.path)
        ear.owners[sender.pid] = "worker"
        await ear.until(1)
        assert ear.heard == [("worker", READY)]
        assert ear.asked == [sender.pid]
        assert ear.socket.foreign_pids == 1
        sender.close_stdin()


@needs_root
@in_loop
async def test_a_program_of_another_user_can_send() -> None:
    """The mode of the socket lets it."""
    with tempfile.TemporaryDirectory() as directory, Ear(Path(directory)) as ear:
        Path(directory).chmod(0o711)  # noqa: ASYNC240 - nothing waits for it
        os.seteuid(NOBODY)
        try:
            ear.send(b"READY=1")
        finally:
            os.seteuid(0)
        await ear.until(1)
        assert ear.heard == [("web", READY)]


@in_loop
async def test_strangers_are_counted_and_not_heard(tmp_path: Path) -> None:
    """Anybody can send; a flood of one of them is one question for its owner in each turn."""
    with Ear(tmp_path, owners={}) as ear:
        with ear.sender() as sock:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(b"READY=1")
        await ear.until(2)
        await until(lambda: ear.socket.strangers >= 2)
        assert not ear.heard
        assert len(ear.asked) <= 1 + ear.socket.strangers // 2


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\0", b"READY=1\0STATUS=x", b"x" * 20, b"STATUS=" + b"x" * MAX_BYTES, b"S=" + b"x" * 100_000],
)
@in_loop
async def test_bad_datagrams_are_counted_and_change_nothing(tmp_path: Path, datagram: bytes) -> None:
    """Empty, a NUL inside, no field, too long: what comes after them is heard."""
    with Ear(tmp_path) as ear:
        ear.send(datagram)
        ear.send(b"READY=1")
        await ear.until(2)
        assert ear.heard == [("web", READY)]
        assert ear.socket.malformed == 1


@in_loop
async def test_bytes_that_are_no_text_are_no_harm(tmp_path: Path) -> None:
    """They are shown as bytes."""
    with Ear(tmp_path) as ear:
        ear.send(b"STATUS=\xff\xfe\x1b[2J\nMAINPID=\xff")
        await ear.until(1)
        assert ear.heard == [("web", Notification(status="\\xff\\xfe\\x1b[2J"))]


@in_loop
async def test_descriptors_that_come_along_are_closed(tmp_path: Path) -> None:
    """From anybody, in any number, with any message."""
    with Ear(tmp_path) as ear:
        before = open_descriptors()
        with open("/dev/null", "rb") as null:  # noqa: PTH123, ASYNC230 - a descriptor, not a file
            mine = open_descriptors()
            ear.send(b"READY=1\nFDSTORE=1", *[null.fileno()] * 253)
            ear.send(b"", null.fileno())
            ear.owners.clear()
            ear.send(b"READY=1", null.fileno(), null.fileno())
            await ear.until(3)
            assert open_descriptors() == mine
        assert open_descriptors() == before
        assert (len(ear.heard) + ear.socket.malformed, ear.socket.strangers) in {(2, 1), (1, 2)}


@in_loop
async def test_a_socket_that_lingers_does_not_hold_us_up(tmp_path: Path) -> None:
    """Closing it would wait for its peer, which does not read, for as long as its owner has set."""
    with Ear(tmp_path) as ear, socket.create_server(("127.0.0.1", 0)) as server:
        lingering = socket.create_connection(server.getsockname())
        lingering.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                lingering.send(b"x" * 65536)
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        ear.send(b"READY=1", lingering.fileno())
        # It is still open in the message, which makes ours the last close, the one that would wait.
        lingering.close()
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        await ear.until(1)
        # What ends a test that hangs is raised where it hangs, and the loop would only log it.
        assert not failures


@in_loop
async def test_a_barrier_is_answered_when_what_came_before_was_heard(tmp_path: Path) -> None:
    """As sd_notify_barrier(3) waits: for the other end of a pipe to be closed."""
    with Ear(tmp_path) as ear:
        ours, theirs = os.pipe()
        ear.send(b"STATUS=last words")
        ear.send(b"BARRIER=1", theirs)
        os.close(theirs)
        closed = asyncio.get_running_loop().create_future()
        heard_by_then: list[int] = []

        def answered() -> None:
            heard_by_then.append(len(ear.heard))
            asyncio.get_running_loop().remove_reader(ours)
            closed.set_result(os.read(ours, 1))

        asyncio.get_running_loop().add_reader(ours, answered)
        async with asyncio.timeout(BOUND_S):
            assert await closed == b""
        os.close(ours)
        assert heard_by_then == [2]
        assert ear.heard == [
            ("web", Notification(status="last words")), ("web", Notification(barrier=True)),
        ]  # fmt: skip


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="systemd is not installed")
@in_loop
async def test_systemd_notify_is_heard_and_waits_for_that(tmp_path: Path) -> None:
    """It speaks for its parent, and is gone after it: its barrier keeps it until it was heard."""
    with Ear(tmp_path) as ear:
        ear.owner = "web"
        environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": ear.path}
        _, end = await run(["systemd-notify", "--ready", "--status=serving"], environment=environment)
        assert end.code == 0
        assert ear.heard[0] == ("web", Notification(ready=True, status="serving"))


@in_loop
async def test_a_main_pid_has_to_be_of_the_program(tmp_path: Path) -> None:
    """Any other is dropped, and the rest of the message counts."""
    with Ear(tmp_path) as ear:
        ear.send(f"MAINPID={US}".encode())
        ear.send(b"MAINPID=1\nREADY=1")
        await ear.until(2)
        assert ear.heard == [("web", Notification(main_pid=US)), ("web", READY)]
        assert ear.socket.foreign_pids == 1


@in_loop
async def test_a_flood_is_read_in_bounded_turns(tmp_path: Path) -> None:
    """All of 10,000 are heard, in order, and the loop has its turns in between."""
    count = 10_000
    with Ear(tmp_path) as ear:
        turns: list[int] = []
        sender = _python(f"for n in range({count}): s.send(b'STATUS=%d' % n)", ear.path)
        ear.owners[sender.pid] = "web"
        async with asyncio.timeout(BOUND_S):
            while len(ear.heard) < count:
                turns.append(len(ear.heard))
                await asyncio.sleep(0)
        assert [said.status for _, said in ear.heard] == [str(n) for n in range(count)]
        assert max(after - before for before, after in pairwise(turns)) <= TURN_DATAGRAMS
        sender.close_stdin()


@in_loop
async def test_the_socket_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    """That of a daemon that died; and a name that is not one is left alone."""
    with Ear(tmp_path):
        pass
    with Ear(tmp_path) as ear:
        ear.send(b"READY=1")
        await ear.until(1)
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        listen(str(tmp_path / "directory"))


@in_loop
async def test_whoever_hears_a_message_may_close_it(tmp_path: Path) -> None:
    """In the middle of a turn, with more of them waiting."""
    with Ear(tmp_path) as ear:
        ear.socket._on_message = lambda *_: ear.socket.close()
        ear.send(b"READY=1")
        ear.send(b"READY=1")
        await until(lambda: ear.socket._socket.fileno() < 0)


def _python(code: str, path: str) -> Process:
    """Start a program that sends, and stays until its stdin is closed: nobody is asked for one that is gone."""
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        f"s.connect({path!r})\n"
        f"{code}\n"
        "sys.stdin.read()\n"
    )
    return start([sys.executable, "-I", "-c", script])
