"""The bridge that ssh starts: bytes both ways, the end of each way, and readers that leave."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

from tests.unit.procctl.fake_daemon import BOUND_S
from tests.unit.procctl.test_process import PROCCTL, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

import pytest

MEGABYTE = 1 << 20


@pytest.fixture
def listener(socket_path: Path) -> Iterator[socket.socket]:
    """A socket in the place of the daemon's; what is behind it, each test says."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.settimeout(BOUND_S)
        listening.bind(str(socket_path))
        listening.listen()
        yield listening


def bridge(*words: str) -> subprocess.Popen[bytes]:
    """Start it."""
    return subprocess.Popen(
        [*PROCCTL, *words, "--stdio"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _serve(listener: socket.socket, answer: Callable[[socket.socket], None]) -> threading.Thread:
    def serve() -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(BOUND_S)
            answer(accepted)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_all_bytes_pass_both_ways(listener: socket.socket) -> None:
    """Megabytes at once in both directions, more than all buffers on the way hold."""
    there: list[bytes] = []

    def answer(accepted: socket.socket) -> None:
        sending = threading.Thread(target=accepted.sendall, args=(b"down" * MEGABYTE,))
        sending.start()
        while chunk := accepted.recv(1 << 16):
            there.append(chunk)
        sending.join(BOUND_S)

    served = _serve(listener, answer)
    with bridge() as process:
        out, err = process.communicate(b"up" * MEGABYTE, timeout=BOUND_S)
    served.join(BOUND_S)
    assert (process.returncode, err) == (0, b"")
    assert out == b"down" * MEGABYTE
    assert b"".join(there) == b"up" * MEGABYTE


def test_the_end_of_input_is_passed_on_and_the_answer_still_comes(listener: socket.socket) -> None:
    """`printf … | ssh host procctl --stdio` gets what it asked for."""

    def answer(accepted: socket.socket) -> None:
        asked = b""
        while chunk := accepted.recv(1 << 16):
            asked += chunk
        accepted.sendall(b"you asked " + asked)

    served = _serve(listener, answer)
    with bridge() as process:
        out, _ = process.communicate(b"this", timeout=BOUND_S)
    served.join(BOUND_S)
    assert out == b"you asked this"


def test_it_ends_with_the_daemon(listener: socket.socket) -> None:
    """Although nobody has closed its input."""
    served = _serve(listener, lambda accepted: accepted.sendall(b"bye"))
    with bridge() as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"bye"
        assert process.wait(BOUND_S) == 0
    served.join(BOUND_S)


@pytest.mark.parametrize("reader", ["pipe", "socket"])
def test_it_ends_with_its_reader(listener: socket.socket, reader: str) -> None:
    """Also when the daemon has nothing to say, and would not be told by a write."""
    ended = threading.Event()

    def answer(accepted: socket.socket) -> None:
        while accepted.recv(1 << 16):
            pass
        ended.set()

    served = _serve(listener, answer)
    ours, theirs = os.pipe() if reader == "pipe" else _socket_pair()
    command = [*PROCCTL, "--stdio"]
    holds_input, input_ = os.pipe()
    process = subprocess.Popen(command, cwd=ROOT, stdin=holds_input, stdout=theirs)
    os.close(theirs)
    os.close(holds_input)
    os.write(input_, b"x")
    os.close(ours)
    assert process.wait(BOUND_S) == 0
    os.close(input_)
    served.join(BOUND_S)
    assert ended.is_set()


def _socket_pair() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def test_without_a_daemon_it_says_so_and_exits_with_6(socket_path: Path) -> None:
    """The procctl at the other end of ssh reads that."""
    with bridge() as process:
        out, err = process.communicate(b"", timeout=BOUND_S)
    assert (process.returncode, out) == (6, b"")
    assert err.startswith(f"procctl: no daemon answers on {socket_path}".encode())


def test_it_stands_alone(socket_path: Path) -> None:
    """It has no answer that could be shown in any way."""
    with bridge("-s", str(socket_path), "--json") as process:
        _, err = process.communicate(b"", timeout=BOUND_S)
    assert (process.returncode, b"--stdio stands alone" in err) == (2, True)
