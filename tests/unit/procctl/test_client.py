"""The client: answers, refusals, streams, and every way in which a daemon can be absent."""

from __future__ import annotations

import collections
import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest

from procctl.absence import START_HINT
from procctl.cli import run
from procctl.client import Client
from procctl.dialogue import CLOSING
from procctl.where import find_socket
from procd.errors import (
    BadRequest,
    LocalProtocolError,
    NoSuchProgram,
    NotPermitted,
    ShuttingDown,
    TimedOut,
    Unreachable,
)
from procd.wire import Connection, Notification
from tests.unit.procctl.fake_daemon import SILENCE, FakeDaemon, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    StartDaemon = Callable[..., FakeDaemon]


def echo(_: Peer, params: dict[str, Any]) -> dict[str, Any]:
    """A method that answers with its parameters."""
    return params


def silent(_: Peer, __: dict[str, Any]) -> object:
    """A method that does not answer."""
    return SILENCE


def test_a_call_returns_what_the_daemon_answers(start_daemon: StartDaemon) -> None:
    """Several calls share one connection."""
    daemon = start_daemon(echo=echo)
    with Client() as client:
        assert client.call("echo", method="a", data=b"\xff") == {"method": "a", "data": b"\xff"}
        assert client.call("echo", n=2) == {"n": 2}
    assert daemon.connections == 1


def test_a_refusal_is_raised_with_its_fields(start_daemon: StartDaemon) -> None:
    """A script can catch it by its class, and read what to do."""

    def refuse(_: Peer, __: dict[str, Any]) -> None:
        raise NoSuchProgram("no program matches 'wob'", "did you mean web?", {"pattern": "wob"})

    start_daemon(stop=refuse, echo=echo)
    with Client() as client:
        with pytest.raises(NoSuchProgram, match="no program matches 'wob'") as caught:
            client.call("stop", programs=["wob"])
        assert (caught.value.hint, caught.value.data) == ("did you mean web?", {"pattern": "wob"})
        assert client.call("echo") == {}, "a refusal does not end the connection"


def test_each_connection_begins_with_an_agreement(start_daemon: StartDaemon) -> None:
    """On the version, before anything else is asked."""
    daemon = start_daemon(echo=echo, hello=lambda _, __: {"protocol": 1})
    daemon.answers_agreement = True
    with Client() as client:
        client.call("echo")
        client.call("echo")
        client.close()
        client.call("echo")
    hello = ("hello", {"protocol": 1})
    assert daemon.requests == [hello, ("echo", {}), ("echo", {}), hello, ("echo", {})]


def test_a_daemon_of_another_protocol_is_asked_nothing(start_daemon: StartDaemon) -> None:
    """Its refusal is what every call raises; what it takes a word for may be something else there."""

    def refuse(_: Peer, __: dict[str, Any]) -> object:
        raise BadRequest("protocol 1 is not spoken here", "take a client for 2", {"protocols": [2]})

    daemon = start_daemon(shutdown=echo, hello=refuse)
    daemon.answers_agreement = True
    with Client() as client:
        for _ in range(2):
            with pytest.raises(BadRequest, match="not spoken here"):
                client.shutdown()
    assert [method for method, _ in daemon.requests] == ["hello", "hello"]


def test_a_command_line_that_asks_once_agrees_on_nothing(start_daemon: StartDaemon) -> None:
    """That would take it longer; the daemon refuses what it does not speak."""
    daemon = start_daemon(status=lambda _, __: {"programs": []})
    daemon.answers_agreement = True
    assert run(["status"]) == 0
    assert [method for method, _ in daemon.requests] == ["status"]


def test_answers_find_their_requests_in_any_order(start_daemon: StartDaemon) -> None:
    """Requests may overtake each other in the daemon."""
    held: list[Any] = []

    def later(_: Peer, params: dict[str, Any]) -> object:
        held.append(params)
        return SILENCE

    def now(peer: Peer, _: dict[str, Any]) -> object:
        peer.send_bytes(b"\x94\x01\x02\xc0\xa3two" + b"\x94\x01\x01\xc0\xa3one")
        return SILENCE

    start_daemon(later=later, now=now)
    with Client(agree=False) as client:
        one, two = client.begin("later"), client.begin("now")
        assert (client.finish(one), client.finish(two)) == ("one", "two")


def test_a_stream_gives_what_comes_up_to_its_end(start_daemon: StartDaemon) -> None:
    """Other streams' notifications, and those of no known shape, are not mixed in."""

    def logs(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify("stream.data", 8, {"data": b"not mine", "offset": 0})
        peer.notify_afterwards("stream.data", 7, {"data": b"mine", "offset": 0})
        peer.notify_afterwards("strange", 7, "no map")
        peer.notify_afterwards("stream.gap", 7, {"bytes": 3, "reason": "rotated"})
        peer.notify_afterwards("stream.end", 7, {"reason": "complete"})
        return {"stream": 7, "offset": 0}

    start_daemon(logs=logs)
    with Client() as client:
        stream = client.stream("logs", program="web")
        assert list(stream) == [
            ("stream.data", {"data": b"mine", "offset": 0}),
            ("stream.gap", {"bytes": 3, "reason": "rotated"}),
        ]
    assert stream.end_reason == "complete"
    assert stream.answer["offset"] == 0


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", "no message: 72", id="another protocol"),
        pytest.param(b"\x94\x01\x05\xc0\xc0", "answered what was never asked", id="an answer out of nothing"),
        pytest.param(b"\x94\x01\x01\xc0\xc0", "stream that has no id", id="a stream that is none"),
    ],
)
def test_a_peer_that_is_no_procd_is_named_as_such(
    start_daemon: StartDaemon, socket_path: Path, frame: bytes, complaint: str
) -> None:
    """$PROCD_SOCKET may point to the socket of something else."""

    def answer(peer: Peer, _: dict[str, Any]) -> object:
        peer.send_bytes(frame)
        return SILENCE

    start_daemon(logs=answer)
    with pytest.raises(Unreachable, match=complaint) as caught, Client(agree=False) as client:
        client.stream("logs")
    assert f"what answers on {socket_path} does not speak procd's protocol" in str(caught.value)


def test_an_answer_among_notifications_must_have_been_asked_for(start_daemon: StartDaemon) -> None:
    """While a stream is read, no answer is awaited."""

    def logs(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify("hurry")
        return {"stream": 1}

    def forge(peer: Peer, _: dict[str, Any]) -> object:
        peer.send_bytes(b"\x94\x01\x63\xc0\xc0")
        return SILENCE

    start_daemon(logs=logs, forge=forge)
    with Client() as client:
        client.call("logs")
        assert next(client.notifications()).method == "hurry"
        client.begin("forge")
        with pytest.raises(Unreachable, match="never asked"):
            list(client.notifications())


def test_a_daemon_that_leaves_in_the_middle_is_told(start_daemon: StartDaemon, socket_path: Path) -> None:
    """What was asked for may have happened, and the hint says so."""

    def leave(peer: Peer, _: dict[str, Any]) -> object:
        peer.hang_up()
        return SILENCE

    start_daemon(stop=leave)
    with Client() as client, pytest.raises(Unreachable) as caught:
        client.call("stop")
    assert str(caught.value) == f"the daemon on {socket_path} closed the connection and did not answer `stop`"
    assert caught.value.__notes__ == ["what was asked for may have happened; look with `procctl status`"]


def test_the_reason_for_a_closed_connection_is_raised(start_daemon: StartDaemon) -> None:
    """A daemon that refuses a whole connection says why, to whatever was asked."""

    def refuse(peer: Peer, _: dict[str, Any]) -> object:
        peer.notify(CLOSING, NotPermitted("too many connections", "close some").to_wire())
        peer.hang_up()
        return SILENCE

    start_daemon(status=refuse)
    with Client() as client, pytest.raises(NotPermitted, match="too many connections"):
        client.call("status")


def test_the_reason_is_read_even_when_nothing_can_be_sent(socket_path: Path) -> None:
    """The daemon may have said it, and closed, before the first request."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        client = Client(agree=False)
        client._connected()
        accepted, _ = listener.accept()
        accepted.sendall(Connection.of_daemon().send(Notification(CLOSING, [ShuttingDown("bye").to_wire()])))
        accepted.close()
        with pytest.raises(ShuttingDown, match="bye"):
            client.call("status")


def test_a_connection_that_is_reset_is_lost(socket_path: Path) -> None:
    """A daemon that dies with a request unread resets the connection (unix(7): ECONNRESET)."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        with Client(agree=False) as client:
            number = client.begin("status")
            listener.accept()[0].close()
            with pytest.raises(Unreachable, match=r"closed the connection \(Connection reset by peer\)"):
                client.finish(number)
            client.begin("shutdown")
            listener.accept()[0].close()
            client.wait_for_end()


def test_a_request_that_cannot_be_sent_is_lost(
    start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whatever reason the kernel gives."""

    def fail(_: socket.socket, __: bytes) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    start_daemon(echo=echo)
    monkeypatch.setattr(socket.socket, "sendall", fail)
    with Client() as client, pytest.raises(Unreachable, match="No buffer space available"):
        client.call("echo")
    monkeypatch.undo()


def test_the_next_call_connects_again(start_daemon: StartDaemon) -> None:
    """A client may outlive a daemon."""

    def leave(peer: Peer, _: dict[str, Any]) -> object:
        peer.hang_up()
        return SILENCE

    daemon = start_daemon(stop=leave, echo=echo)
    with Client() as client:
        with pytest.raises(Unreachable):
            client.call("stop")
        assert client.call("echo") == {}
    assert daemon.connections == 2


@pytest.mark.parametrize("timeout_s", [0.0, 0.05])
def test_an_answer_that_does_not_come_is_given_up(start_daemon: StartDaemon, timeout_s: float) -> None:
    """The limit is said, and that the request may still be carried out."""
    start_daemon(stop=silent)
    with (
        Client(timeout_s=timeout_s, agree=False) as client,
        pytest.raises(TimedOut, match="did not answer `stop`") as caught,
    ):
        client.call("stop")
    assert "may still happen" in caught.value.hint


def test_a_daemon_that_reads_nothing_is_given_up(socket_path: Path) -> None:
    """The limit holds for sending, too, and for a backlog that is full."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen(0)
        client = Client(timeout_s=0.05, agree=False)
        with client, pytest.raises(TimedOut, match="did not answer `write`"):
            collections.deque(client.begin("write", data=bytes(65536)) for _ in range(1000))
        # That connection was never accepted: it fills the backlog.
        with Client(timeout_s=0.05) as client, pytest.raises(TimedOut, match="took no connection within"):
            client.call("status")


def test_the_end_of_the_daemon_can_be_waited_for(start_daemon: StartDaemon) -> None:
    """Its connection closes when it ends, and not sooner."""

    def last_words(peer: Peer, _: dict[str, Any]) -> object:
        peer.notify(CLOSING, ShuttingDown("procd has ended").to_wire())
        peer.hang_up()
        return SILENCE

    start_daemon(shutdown=echo, last_words=last_words)
    with Client(timeout_s=0.05) as client:
        client.call("shutdown")
        with pytest.raises(TimedOut, match="did not end within"):
            client.wait_for_end()
    with Client() as client:
        client.begin("last_words")
        client.wait_for_end()


def test_nobody_on_the_socket_is_unreachable(socket_path: Path) -> None:
    """Where it was looked for, why it failed, and what to do."""
    with pytest.raises(Unreachable) as caught, Client() as client:
        client.call("status")
    assert str(caught.value) == f"no daemon answers on {socket_path} (No such file or directory)"
    assert caught.value.__notes__ == [START_HINT]


def test_a_socket_that_was_left_behind_is_unreachable(socket_path: Path) -> None:
    """A file is no daemon."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))
    with pytest.raises(Unreachable, match="Connection refused"), Client() as client:
        client.call("status")


def test_a_path_that_no_socket_can_have_is_unreachable() -> None:
    """sun_path holds 108 bytes (unix(7))."""
    with pytest.raises(Unreachable, match="too long"), Client("/" + "x" * 200) as client:
        client.call("status")


def test_a_socket_without_permission_is_not_permitted(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a daemon, for others; starting one would not help."""

    def refuse(_: socket.socket, __: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Tests may run as root, for whom no socket is closed.
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(NotPermitted, match=f"may not connect to {socket_path}") as caught, Client() as client:
        client.call("status")
    assert "mode of the socket" in caught.value.hint


def test_what_cannot_be_said_is_not_sent(start_daemon: StartDaemon) -> None:
    """A mistake of the caller costs neither the daemon nor the connection anything."""
    daemon = start_daemon(echo=echo)
    with Client() as client:
        with pytest.raises(LocalProtocolError):
            client.call("echo", value=object())
        assert client.call("echo") == {}
    assert len(daemon.requests) == 1


@pytest.mark.parametrize(
    ("named", "uid", "runtime_directory", "expected"),
    [
        ("/named", 0, "/run/user/0", "/named"),
        ("", 0, "/run/user/0", "/run/procd/procd.sock"),
        ("", 1000, "/run/user/1000", "/run/user/1000/procd/procd.sock"),
    ],
)
def test_the_socket_is_looked_for_in_the_documented_order(
    monkeypatch: pytest.MonkeyPatch, named: str, uid: int, runtime_directory: str, expected: str
) -> None:
    """$PROCD_SOCKET, then the place of root, or of the user; never the current directory."""
    monkeypatch.setenv("PROCD_SOCKET", named)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_directory)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert find_socket() == expected


def test_a_user_without_a_runtime_directory_must_name_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is guessed."""
    monkeypatch.delenv("PROCD_SOCKET", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Unreachable, match="XDG_RUNTIME_DIR is not set"):
        Client()
