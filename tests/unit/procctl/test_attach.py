"""`procctl attach` against a daemon of a test: what came with the answer, refusals, the end."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from procctl.cli import run
from procctl.commands import attach
from procd.errors import NotPermitted, ShuttingDown, StdinClosed
from tests.unit.procctl.fake_daemon import SILENCE, FakeDaemon, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    StartDaemon = Callable[..., FakeDaemon]
    Capture = pytest.CaptureFixture[str]

ANSWER = {"stream": 1, "terminal": True, "input": True}
END = {"reason": "exited with status 0", "exit": {"code": 0}, "ok": True}


def data(peer: Peer, offset: int, piece: bytes) -> None:
    """Send a piece of output."""
    peer.notify("stream.data", 1, {"data": piece, "offset": offset, "stream": "stdout"})


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Give procctl a standard input that is no terminal; what it types is written here."""
    reads, writes = os.pipe()
    monkeypatch.setattr(attach, "OWN_STDIN", reads)
    yield writes
    os.close(reads)
    os.close(writes)


@pytest.mark.usefixtures("keyboard")
def test_nothing_is_lost_that_comes_together_with_the_answer(
    start_daemon: StartDaemon, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Before it, in one piece with it, and behind it."""

    def answer(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify("stream.data", 7, {"data": b"of another stream", "offset": 0})
        for number in range(3):
            peer.notify_afterwards("stream.data", 1, {"data": b"%d" % number, "offset": number})
        peer.notify_afterwards("stream.end", 1, END)
        return ANSWER

    start_daemon(attach=answer)
    assert run(["attach", "web"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == b"012"
    assert err == b"procctl: web: exited with status 0\n"


def test_one_write_is_under_way_at_a_time(start_daemon: StartDaemon, keyboard: int) -> None:
    """And the next has all that was typed meanwhile: the program's pace is that of the answers."""
    pieces: list[bytes] = []

    def write(peer: Peer, params: dict[str, Any]) -> dict[str, Any]:
        pieces.append(params["data"])
        if len(pieces) == 1:
            os.write(keyboard, b"x" * 30_000)
            os.write(keyboard, b"y" * 30_000)
        if b"".join(pieces).endswith(b"y" * 30_000):
            peer.notify_afterwards("stream.end", 1, END)
        return {"accepted": len(params["data"])}

    start_daemon(attach=lambda *_: ANSWER, write=write)
    os.write(keyboard, b"first")
    assert run(["attach", "web"]) == 0
    assert b"".join(pieces) == b"first" + b"x" * 30_000 + b"y" * 30_000
    assert pieces[0] == b"first"
    assert len(pieces) <= 4


def test_keys_to_detach_are_seen_behind_what_they_follow(
    start_daemon: StartDaemon, keyboard: int, capfd: Capture
) -> None:
    """What was typed before is written first, nothing behind is."""
    written: list[bytes] = []

    def write(_: Peer, params: dict[str, Any]) -> dict[str, Any]:
        written.append(params["data"])
        return {"accepted": len(params["data"])}

    start_daemon(attach=lambda *_: ANSWER, write=write)
    os.write(keyboard, b"before\x10\x11after")
    assert run(["attach", "web"]) == 0
    assert b"".join(written) == b"before"
    assert capfd.readouterr().err == "procctl: detached from web\n"


def test_a_program_that_takes_nothing_does_not_hold_who_leaves(
    start_daemon: StartDaemon, keyboard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have waited for a moment."""
    monkeypatch.setattr("procctl.attachment.LEAVE_S", 0.01)
    start_daemon(attach=lambda *_: ANSWER, write=lambda *_: SILENCE)
    os.write(keyboard, b"before\x10\x11")
    assert run(["attach", "web"]) == 0


@pytest.mark.parametrize(
    "refusal", [StdinClosed("web has closed its stdin"), NotPermitted("uid 5 lacks a right")]
)
def test_a_refusal_ends_the_typing_and_not_the_looking(
    start_daemon: StartDaemon, keyboard: int, capfd: Capture, refusal: Exception
) -> None:
    """It is told once; the output goes on."""

    def write(peer: Peer, _: dict[str, Any]) -> None:
        peer.notify_afterwards("stream.data", 1, {"data": b"still here\n", "offset": 0})
        peer.notify_afterwards("stream.end", 1, END)
        raise refusal

    start_daemon(attach=lambda *_: ANSWER, write=write)
    os.write(keyboard, b"x")
    assert run(["attach", "web"]) == 0
    out, err = capfd.readouterr()
    assert out == "still here\n"
    assert err == f"procctl: {refusal}; what is typed goes nowhere now\nprocctl: web: exited with status 0\n"


def test_a_program_without_input_is_said_to_have_none(
    start_daemon: StartDaemon, keyboard: int, capfd: Capture
) -> None:
    """Nothing is read that nobody takes."""

    def answer(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify_afterwards(
            "stream.end", 1, {"reason": "killed by SIGKILL", "exit": {"signal": 9}, "ok": False}
        )
        return {"stream": 1, "terminal": False, "input": False}

    daemon = start_daemon(attach=answer)
    os.write(keyboard, b"x\n")
    assert run(["attach", "web"]) == 1
    assert "only looking at web: nothing can be typed" in capfd.readouterr().err
    assert [method for method, _ in daemon.requests] == ["attach"]


@pytest.mark.usefixtures("keyboard")
def test_a_daemon_that_ends_says_so_and_one_that_dies_is_gone(
    start_daemon: StartDaemon, capfd: Capture
) -> None:
    """Each with its exit status."""

    def closing(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify_afterwards("closing", ShuttingDown("procd is shutting down").to_wire())
        return ANSWER

    def dying(peer: Peer, _: dict[str, Any]) -> object:
        data(peer, 0, b"")
        peer.hang_up()
        return SILENCE

    daemon = start_daemon(attach=closing)
    assert run(["attach", "web"]) == 1
    assert "procd is shutting down" in capfd.readouterr().err
    daemon.methods["attach"] = dying
    assert run(["attach", "web"]) == 6


@pytest.mark.usefixtures("keyboard")
def test_what_is_missing_is_told(start_daemon: StartDaemon, capfd: Capture) -> None:
    """A gap in the log is one on the screen, too."""

    def answer(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify_afterwards("stream.gap", 1, {"bytes": 5, "reason": "rotated away", "stream": "stdout"})
        peer.notify_afterwards("stream.end", 1, END)
        return ANSWER

    start_daemon(attach=answer)
    assert run(["attach", "web"]) == 0
    assert "5 bytes are missing here: rotated away" in capfd.readouterr().err
    assert run(["--json", "attach", "web"]) == 0
    gap, end = map(json.loads, capfd.readouterr().out.splitlines())
    assert gap == {"gap_bytes": 5, "reason": "rotated away"}
    assert end == {"detached": False, **END}


@pytest.mark.usefixtures("keyboard")
def test_signals_are_as_before_afterwards(start_daemon: StartDaemon) -> None:
    """Whoever uses it as a library keeps theirs; and what was ignored stays so (nohup)."""

    def answer(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify_afterwards("stream.end", 1, END)
        return ANSWER

    start_daemon(attach=answer)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handlers = [signal.getsignal(number) for number in numbers]
        assert run(["attach", "web"]) == 0
        assert [signal.getsignal(number) for number in numbers] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)
