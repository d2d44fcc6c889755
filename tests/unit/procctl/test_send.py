"""`procctl send`: every byte is either counted as accepted or not sent."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from procctl.cli import run
from procctl.commands import stdin
from procd.errors import StdinClosed
from procd.wire import MAX_CHUNK_BYTES
from tests.unit.procctl.fake_daemon import SILENCE, FakeDaemon, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    StartDaemon = Callable[..., FakeDaemon]
    Capture = pytest.CaptureFixture[str]


class Pipe:
    """A program's stdin, with room for `room` bytes."""

    def __init__(self, room: int = 10**9) -> None:
        self.content = bytearray()
        self.room = room
        self.closed = False

    def write(self, _: Peer, params: dict[str, Any]) -> dict[str, Any]:
        """Take what there is room for; the rest is refused, as when the program closes its stdin."""
        taken = params["data"][: self.room - len(self.content)]
        self.content += taken
        if len(taken) < len(params["data"]):
            raise StdinClosed("web has closed its stdin", "start it again", {"accepted": len(taken)})
        return {"accepted": len(taken)}

    def close(self, _: Peer, params: dict[str, Any]) -> dict[str, Any]:
        """Note that it was closed."""
        assert params == {"program": "web", "stream": "stdin"}
        self.closed = True
        return {}


@pytest.fixture
def own_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Give procctl a standard input with some content."""

    def provide(content: bytes) -> None:
        path = tmp_path / "stdin"
        path.write_bytes(content)
        monkeypatch.setattr(stdin, "OWN_STDIN", os.open(path, os.O_RDONLY))

    return provide


def test_text_is_sent_with_a_newline(start_daemon: StartDaemon, capfd: Capture) -> None:
    """A line, as a person would type it; bytes of the argument that are no UTF-8 pass unharmed."""
    pipe = Pipe()
    start_daemon(write=pipe.write)
    assert run(["send", "web", "h\udcffi"]) == 0
    assert pipe.content == b"h\xffi\n"
    assert capfd.readouterr().out == "4 bytes accepted\n"
    assert not pipe.closed


def test_long_text_is_sent_in_chunks(start_daemon: StartDaemon) -> None:
    """No request is larger than what a pipe holds."""
    pipe = Pipe()
    daemon = start_daemon(write=pipe.write)
    assert run(["send", "web", "x" * (2 * MAX_CHUNK_BYTES)]) == 0
    assert pipe.content == b"x" * (2 * MAX_CHUNK_BYTES) + b"\n"
    assert [len(params["data"]) for _, params in daemon.requests] == [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 1]


def test_standard_input_is_passed_on_unchanged(
    start_daemon: StartDaemon, capfd: Capture, own_stdin: Callable[[bytes], None]
) -> None:
    """Without TEXT, to its end, and with --eof the program sees that end."""
    pipe = Pipe()
    start_daemon(write=pipe.write, close=pipe.close)
    content = bytes(range(256)) * 1000
    own_stdin(content)
    assert run(["send", "web", "--eof", "--json"]) == 0
    assert pipe.content == content
    assert pipe.closed
    assert json.loads(capfd.readouterr().out) == {"accepted": 256000}


def test_an_empty_standard_input_sends_nothing(
    start_daemon: StartDaemon, capfd: Capture, own_stdin: Callable[[bytes], None]
) -> None:
    """And says so."""
    daemon = start_daemon()
    own_stdin(b"")
    assert run(["send", "web"]) == 0
    assert capfd.readouterr().out == "0 bytes accepted\n"
    assert daemon.requests == []


def test_what_went_through_before_a_refusal_is_counted_exactly(
    start_daemon: StartDaemon, capfd: Capture, own_stdin: Callable[[bytes], None]
) -> None:
    """In the middle of a chunk, too: the number is what the program can read."""
    pipe = Pipe(room=MAX_CHUNK_BYTES + 17)
    start_daemon(write=pipe.write, close=pipe.close)
    own_stdin(b"x" * (3 * MAX_CHUNK_BYTES))
    assert run(["send", "web", "--eof"]) == 1
    out, err = capfd.readouterr()
    assert out == f"{MAX_CHUNK_BYTES + 17} bytes accepted\n"
    assert err == "procctl: web has closed its stdin\nstart it again\n"
    assert not pipe.closed


def test_what_went_through_before_the_daemon_was_lost_is_counted(
    start_daemon: StartDaemon, capfd: Capture, own_stdin: Callable[[bytes], None]
) -> None:
    """Only what was answered: the rest is not known to have arrived."""
    pipe = Pipe()

    def write(peer: Peer, params: dict[str, Any]) -> object:
        if pipe.content:
            peer.hang_up()
            return SILENCE
        return pipe.write(peer, params)

    start_daemon(write=write)
    own_stdin(b"x" * (2 * MAX_CHUNK_BYTES))
    assert run(["send", "web"]) == 6
    out, err = capfd.readouterr()
    assert out == f"{MAX_CHUNK_BYTES} bytes accepted\n"
    assert "closed the connection and did not answer `write`" in err


def test_a_daemon_that_takes_a_part_without_a_refusal_is_not_believed(
    start_daemon: StartDaemon, capfd: Capture
) -> None:
    """What follows would stand in the wrong place."""
    start_daemon(write=lambda _, __: {"accepted": 2})
    assert run(["send", "web", "hello"]) == 1
    out, err = capfd.readouterr()
    assert (out, err) == ("2 bytes accepted\n", "procctl: only 2 of 6 bytes were taken\n")
