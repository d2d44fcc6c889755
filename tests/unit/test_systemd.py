"""The notifier: what systemd hears, and that nothing of it can fail procd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from procd.systemd import Notifier
from tests.kernel.children import BOUND_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PID = 4711


class Manager:
    """The service manager's end: a datagram socket that is read without waiting."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(address)

    def hears(self) -> list[str]:
        """The lines of the next datagram."""
        return self.socket.recv(4096).decode().split("\n")

    def drain(self) -> None:
        """Hear everything that was said."""
        with contextlib.suppress(BlockingIOError):
            while self.hears():
                pass


@pytest.fixture
def address(tmp_path: Path) -> str:
    """Where the manager listens."""
    return str(tmp_path / "notify")


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    """A manager that listens at `address`."""
    listening = Manager(address)
    yield listening
    listening.socket.close()


@pytest.fixture
def notifier(manager: Manager, address: str) -> Iterator[Notifier]:
    """A notifier that speaks to `manager`."""
    del manager
    speaking = Notifier({"NOTIFY_SOCKET": address}, PID)
    yield speaking
    speaking.close()


def test_each_message_has_the_fields_of_its_protocol(notifier: Notifier, manager: Manager) -> None:
    """READY, STATUS, RELOADING with its time, STOPPING, and the request for more time."""
    notifier.ready("3 RUNNING")
    assert manager.hears() == ["READY=1", "STATUS=3 RUNNING"]
    notifier.status("2 RUNNING")
    assert manager.hears() == ["STATUS=2 RUNNING"]
    notifier.reloading()
    reloading, since = manager.hears()
    assert reloading == "RELOADING=1"
    assert since.removeprefix("MONOTONIC_USEC=").isdigit()
    notifier.stopping("Stopping")
    assert manager.hears() == ["STOPPING=1", "STATUS=Stopping"]
    notifier.extend_timeout(2.5)
    assert manager.hears() == ["EXTEND_TIMEOUT_USEC=2500000"]


def test_an_abstract_address_begins_with_an_at() -> None:
    """As sd_notify(3) writes it; the kernel wants a NUL there."""
    name = f"procd-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"}, PID)
    notifier.status("here")
    assert manager.hears() == ["STATUS=here"]
    notifier.close()
    manager.socket.close()


def test_a_newline_in_a_value_cannot_become_a_field(notifier: Notifier, manager: Manager) -> None:
    """What a program is called must not tell systemd that procd is stopping (as CVE-2018-15686 did)."""
    notifier.status("web\nSTOPPING=1\nMAINPID=1")
    assert manager.hears() == ["STATUS=web STOPPING=1 MAINPID=1"]


def test_what_cannot_be_encoded_is_replaced(notifier: Notifier, manager: Manager) -> None:
    """A lone surrogate is no reason to fail."""
    notifier.status("a\udcffb")
    assert manager.hears() == ["STATUS=a?b"]


def test_the_variables_are_taken_out_of_the_environment(address: str, manager: Manager) -> None:
    """No program inherits them; the others stay."""
    del manager
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(PID), "HOME": "/"}
    notifier = Notifier(environ, PID)
    assert environ == {"HOME": "/"}
    assert notifier.listens
    assert notifier.watchdog_s == 1.0
    notifier.close()
    assert not notifier.listens


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, None, id="not asked for"),
        pytest.param({"WATCHDOG_USEC": "500000"}, 0.5, id="without a PID it is for us"),
        pytest.param({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None, id="for another process"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="zero is off"),
        pytest.param({"WATCHDOG_USEC": "-5"}, None, id="negative"),
        pytest.param({"WATCHDOG_USEC": "many"}, None, id="no number"),
        pytest.param({"WATCHDOG_USEC": "\u0665"}, None, id="a digit that is not ASCII"),
    ],
)
def test_the_watchdog_is_only_what_is_meant_for_this_process(
    environ: dict[str, str], expected: float | None
) -> None:
    """sd_watchdog_enabled(3); a variable that was inherited from somewhere is none of ours."""
    notifier = Notifier(environ, PID)
    assert notifier.watchdog_s == expected
    assert environ == {}


def test_the_watchdog_beats_at_half_its_interval(address: str, manager: Manager) -> None:
    """At once, and again before systemd loses patience; never after `close`."""

    async def beat() -> None:
        loop = asyncio.get_running_loop()
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000"}, PID)
        notifier.start_watchdog(loop)
        for _ in range(3):
            async with asyncio.timeout(BOUND_S):
                assert await loop.sock_recv(manager.socket, 100) == b"WATCHDOG=1"
        notifier.close()
        manager.drain()
        assert not notifier.listens

    asyncio.run(beat())


def test_without_a_watchdog_there_is_no_beat(notifier: Notifier, manager: Manager) -> None:
    """An idle procd does not wake up."""

    async def start() -> None:
        notifier.start_watchdog(asyncio.get_running_loop())

    asyncio.run(start())
    with pytest.raises(BlockingIOError):
        manager.hears()


def test_nobody_listening_is_silence() -> None:
    """Without a service manager every message is nothing."""
    notifier = Notifier({}, PID)
    assert not notifier.listens
    notifier.ready("x")
    notifier.close()


def test_an_address_that_is_no_unix_socket_is_told_once() -> None:
    """Such as vsock, between virtual machines: procd runs all the same."""
    with capture_logs() as logged:
        notifier = Notifier({"NOTIFY_SOCKET": "vsock:2:1"}, PID)
    assert not notifier.listens
    assert [line["event"] for line in logged] == ["service manager cannot be notified"]


def test_a_manager_that_does_not_read_stops_nobody(notifier: Notifier, manager: Manager) -> None:
    """Messages that do not fit are lost, with one line for all of them, and later ones are heard."""
    with capture_logs() as logged:
        for _ in range(2000):
            notifier.status("x" * 1000)
    assert [line["event"] for line in logged] == ["service manager cannot be notified"]
    manager.drain()
    notifier.status("again")
    assert manager.hears() == ["STATUS=again"]


def test_a_manager_that_was_started_again_is_heard_by(address: str) -> None:
    """Its socket is another one at the same address."""
    first = Manager(address)
    notifier = Notifier({"NOTIFY_SOCKET": address}, PID)
    notifier.status("first")
    assert first.hears() == ["STATUS=first"]
    first.socket.close()
    notifier.status("nobody")
    os.unlink(address)  # noqa: PTH108 - the address is a string
    second = Manager(address)
    notifier.status("second")
    assert second.hears() == ["STATUS=second"]
    notifier.close()
    second.socket.close()
