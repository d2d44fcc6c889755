"""`procctl logs`: bytes unchanged, and across the loss of a daemon none missing and none twice."""

from __future__ import annotations

import base64
import errno
import json
from typing import TYPE_CHECKING, Any

import pytest

from procctl import pieces
from procctl.cli import run
from procctl.dialogue import CLOSING
from procd.errors import NoSuchProgram, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.procctl.fake_daemon import FakeDaemon, Peer

    StartDaemon = Callable[..., FakeDaemon]
    Capture = pytest.CaptureFixture[str]

Body = dict[str, Any]
STREAM = 3


def log(*events: tuple[str, Body], offset: int | None = None) -> Callable[[Peer, Body], Body]:
    """A `logs` method that sends these events."""

    def answer(peer: Peer, _: Body) -> Body:
        for name, body in events:
            peer.notify_afterwards(name, *([body] if name == CLOSING else [STREAM, body]))
        return {"stream": STREAM} if offset is None else {"stream": STREAM, "offset": offset}

    return answer


def data(offset: int, piece: bytes) -> tuple[str, Body]:
    """A piece of the log."""
    return "stream.data", {"data": piece, "offset": offset}


def end(reason: str = "end of log") -> tuple[str, Body]:
    """The end of the stream."""
    return "stream.end", {"reason": reason}


def closing() -> tuple[str, Body]:
    """What a daemon says to every connection when it ends."""
    return CLOSING, ShuttingDown("procd has ended").to_wire()


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ([], {"lines": 10, "follow": False}),
        (["-n", "0"], {"lines": 0, "follow": False}),
        (["-n", "all"], {"follow": False}),
        (["--since", "@1763862000.5"], {"since": 1763862000.5, "follow": False}),
        (["-f", "-n3", "--stream", "stderr"], {"lines": 3, "follow": True, "stream": "stderr"}),
    ],
)
def test_the_options_become_parameters(start_daemon: StartDaemon, words: list[str], params: Body) -> None:
    """The last ten lines, unless more, all, or another stream is asked for."""
    daemon = start_daemon(logs=log(end()))
    assert run(["logs", "web", *words]) == 0
    assert daemon.requests == [("logs", {"program": "web"} | params)]


@pytest.mark.parametrize(
    "words", [["-n", "3", "--since", "1h"], ["--since", "soon"], ["-n", "few"], ["-n", "-1"]]
)
def test_what_is_no_beginning_is_refused_here(
    start_daemon: StartDaemon, capfd: Capture, words: list[str]
) -> None:
    """Before the daemon is asked."""
    daemon = start_daemon(logs=log(end()))
    assert run(["logs", "web", *words]) == 2
    assert daemon.requests == []
    assert capfd.readouterr().err


def test_a_log_that_lags_is_told(start_daemon: StartDaemon, capfd: Capture) -> None:
    """What is shown is right, and not all."""

    def behind(peer: Peer, params: Body) -> Body:
        answer = log(data(0, b"x\n"), end())(peer, params)
        return answer | {"offset": 0, "behind": "No space left on device"}

    start_daemon(logs=behind)
    assert run(["logs", "web"]) == 0
    out, err = capfd.readouterr()
    assert out == "x\n"
    assert err == "procctl: what it wrote last is not in the log yet: No space left on device\n"


def test_bytes_are_written_unchanged(
    start_daemon: StartDaemon, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Into a file or a pipe: half characters, NUL, escape sequences and a last line without an end."""
    pieces = [b"caf\xc3", b"\xa9\x00\x1b[31m\xff\r\n", b"no newline"]
    start_daemon(logs=log(*(data(n, piece) for n, piece in enumerate(pieces)), end()))
    assert run(["logs", "web"]) == 0
    assert capfdbinary.readouterr() == (b"".join(pieces), b"")


def test_a_gap_is_told_beside_the_output(start_daemon: StartDaemon, capfd: Capture) -> None:
    """A loss is never silent, and never in the bytes."""
    gaps = [("stream.gap", {"bytes": size, "reason": "rotated away"}) for size in (1, 512)]
    gaps.append(("stream.gap", {"bytes": 0, "reason": "the log goes on in /x", "next": 517}))
    other = ("stream.note", {"from": "a later version"})
    start_daemon(logs=log(data(0, b"one\n"), other, *gaps, data(517, b"two\n"), end()))
    assert run(["logs", "web"]) == 0
    out, err = capfd.readouterr()
    assert out == "one\ntwo\n"
    assert err.splitlines() == [
        "procctl: 1 byte is missing here: rotated away",
        "procctl: 512 bytes are missing here: rotated away",
        "procctl: the log goes on in /x",
    ]


def test_json_has_a_line_for_each_piece(start_daemon: StartDaemon, capfd: Capture) -> None:
    """Text where it is text, base64 where it is not, and the gaps."""
    gap = ("stream.gap", {"bytes": 5, "reason": "disk full"})
    start_daemon(logs=log(data(0, "hé\n".encode()), gap, data(9, b"\xff\n"), end()))
    assert run(["logs", "web", "--json"]) == 0
    assert [json.loads(line) for line in capfd.readouterr().out.splitlines()] == [
        {"offset": 0, "text": "hé\n"},
        {"gap_bytes": 5, "reason": "disk full"},
        {"offset": 9, "base64": base64.b64encode(b"\xff\n").decode()},
    ]


def test_a_terminal_shows_control_characters_and_whole_characters(
    start_daemon: StartDaemon, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one is cut in two, where it is none, and where the log ends within one."""
    monkeypatch.setattr("os.isatty", lambda _: True)
    gap = ("stream.gap", {"bytes": 5, "reason": "x"})
    daemon = start_daemon(logs=log(data(0, b"caf\xc3"), data(4, b"\xa9\t\x1b[2J\xff\n\xe2\x82"), gap, end()))
    assert run(["logs", "web"]) == 0
    assert capfd.readouterr().out == "café\t\\x1b[2J\\xff\n\\xe2\\x82"
    daemon.methods["logs"] = log(data(0, b"\x1b[1mbold"), end())
    assert run(["logs", "web", "--raw"]) == 0
    assert capfd.readouterr().out == "\x1b[1mbold"


@pytest.mark.parametrize("words", [["-n", "all"], ["-f"]])
def test_a_log_that_ends_early_is_a_failure(
    start_daemon: StartDaemon, capfd: Capture, words: list[str]
) -> None:
    """Who pipes a log into a file must learn that it is not whole."""
    start_daemon(logs=log(data(0, b"half"), end("the log cannot be read: Input/output error")))
    assert run(["logs", "web", *words]) == 1
    out, err = capfd.readouterr()
    assert out == "half"
    assert "the log ended early: the log cannot be read: Input/output error" in err


def test_a_log_is_not_waited_for_without_follow(start_daemon: StartDaemon, capfd: Capture) -> None:
    """What the daemon says when it ends is the error then."""
    start_daemon(logs=log(data(0, b"half"), closing()))
    assert run(["logs", "web"]) == 1
    assert capfd.readouterr() == ("half", "procctl: procd has ended\n")


def dying(*events: tuple[str, Body]) -> Callable[[Peer, Body], Body]:
    """A `logs` method that sends these events and closes the connection without an end."""

    def answer(peer: Peer, _: Body) -> Body:
        peer.send_bytes(b"\x94\x01\x01\xc0\x81\xa6stream\x03")
        for name, body in events:
            peer.notify(name, STREAM, body)
        peer.hang_up()
        raise ConnectionResetError

    return answer


def test_following_survives_the_loss_of_the_daemon(start_daemon: StartDaemon, capfd: Capture) -> None:
    """The next one is asked for what comes after the last byte that was shown; people are told."""
    gap = ("stream.gap", {"bytes": 100, "reason": "rotated", "next": 144})

    def first(peer: Peer, params: Body) -> Body:
        daemon.methods["logs"] = second
        return dying(data(40, b"one\n"), gap)(peer, params)

    def second(peer: Peer, params: Body) -> Body:
        daemon.methods["logs"] = third
        return log(data(144, b"two\n"), closing())(peer, params)

    third = log(data(148, b"three\n"), end())
    daemon = start_daemon(logs=first)
    assert run(["logs", "web", "-f", "-n", "1"]) == 0
    out, err = capfd.readouterr()
    assert out == "one\ntwo\nthree\n"
    gone = "procctl: the daemon is gone; waiting for it to come back (Ctrl-C ends this)"
    back = "procctl: the daemon is back"
    assert err.splitlines() == ["procctl: 100 bytes are missing here: rotated", gone, back, gone, back]
    assert [params for _, params in daemon.requests] == [
        {"program": "web", "follow": True, "lines": 1},
        {"program": "web", "follow": True, "offset": 144},
        {"program": "web", "follow": True, "offset": 148},
    ]


def test_following_resumes_where_it_began_when_nothing_came(start_daemon: StartDaemon) -> None:
    """The daemon says where a stream begins, so what is written while it is away is not lost."""

    def first(peer: Peer, params: Body) -> Body:
        daemon.methods["logs"] = log(end())
        return log(closing(), offset=77)(peer, params)

    daemon = start_daemon(logs=first)
    assert run(["logs", "web", "-f", "-n", "0"]) == 0
    assert daemon.requests[1] == ("logs", {"program": "web", "follow": True, "offset": 77})


def test_following_asks_for_the_lines_again_when_no_byte_is_known(start_daemon: StartDaemon) -> None:
    """Nothing was shown, not even a position: nothing can come twice."""
    gap = ("stream.gap", {"bytes": 100, "reason": "rotated"})

    def first(peer: Peer, params: Body) -> Body:
        daemon.methods["logs"] = log(end())
        return log(gap, closing())(peer, params)

    daemon = start_daemon(logs=first)
    assert run(["logs", "web", "-f", "-n", "5"]) == 0
    assert daemon.requests[1] == ("logs", {"program": "web", "follow": True, "lines": 5})


def test_following_waits_for_the_daemon_with_growing_patience(
    start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Often at first, then rarely; a daemon that is still going down counts as gone."""
    pauses: list[float] = []

    def shutting_down(_: Peer, __: Body) -> Body:
        raise ShuttingDown("the daemon is shutting down")

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            old.stop()
        if len(pauses) == 8:
            start_daemon(logs=log(end()))

    def first(peer: Peer, params: Body) -> Body:
        old.methods["logs"] = shutting_down
        return log(data(0, b"x"), closing())(peer, params)

    monkeypatch.setattr(pieces, "sleep", sleep)
    old = start_daemon(logs=first)
    assert run(["logs", "web", "-f"]) == 0
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])


def test_following_ends_when_the_program_is_gone(start_daemon: StartDaemon, capfd: Capture) -> None:
    """A new daemon that does not know it will not know it later."""

    def first(peer: Peer, params: Body) -> Body:
        daemon.methods["logs"] = unknown
        return log(closing())(peer, params)

    def unknown(_: Peer, __: Body) -> Body:
        raise NoSuchProgram("there is no program web", "")

    daemon = start_daemon(logs=first)
    assert run(["logs", "web", "-f"]) == 4
    assert "there is no program web" in capfd.readouterr().err


@pytest.mark.usefixtures("socket_path")
def test_following_without_a_daemon_does_not_wait() -> None:
    """What was never there is not coming back."""
    assert run(["logs", "web", "-f"]) == 6


def test_ctrl_c_ends_following_quietly(
    start_daemon: StartDaemon, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """130 is what a shell shows for SIGINT."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    def first(peer: Peer, params: Body) -> Body:
        daemon.methods["logs"] = going
        return log(data(0, b"x\n"), closing())(peer, params)

    def going(_: Peer, __: Body) -> Body:
        raise ShuttingDown("not yet")

    monkeypatch.setattr(pieces, "sleep", interrupt)
    daemon = start_daemon(logs=first)
    assert run(["logs", "web", "-f"]) == 130
    out, err = capfd.readouterr()
    assert out == "x\n"
    assert len(err.splitlines()) == 1


def test_a_full_disk_behind_standard_output_is_told(
    start_daemon: StartDaemon, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the daemon's fault, and not silent."""

    def full(_: int, __: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    start_daemon(logs=log(data(0, b"x\n"), end()))
    code = run(["logs", "web"])
    monkeypatch.undo()
    assert code == 1
    assert capfd.readouterr().err == "procctl: No space left on device\n"
