"""The asyncio client: every way in which a daemon can be absent, or too fast."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from procctl import AsyncClient, LogPiece
from procctl.dialogue import CLOSING
from procd.errors import BadRequest, Failed, NotPermitted, TimedOut, Unreachable
from tests.unit.procctl.fake_daemon import BOUND_S, SILENCE, FakeDaemon, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    StartDaemon = Callable[..., FakeDaemon]


def call(method: str, timeout_s: float | None = BOUND_S, **params: Any) -> Any:  # noqa: ANN401 - what travels on the wire
    """One call on a connection of its own."""

    async def ask() -> Any:  # noqa: ANN401 - the same
        async with AsyncClient(timeout_s=timeout_s) as client:
            return await client.call(method, **params)

    return asyncio.run(ask())


def test_a_call_returns_what_the_daemon_answers(start_daemon: StartDaemon) -> None:
    """As it travelled."""
    start_daemon(echo=lambda _, params: params)
    assert call("echo", data=b"\xff", n=1) == {"data": b"\xff", "n": 1}


def test_each_connection_begins_with_an_agreement(start_daemon: StartDaemon) -> None:
    """Also when it is refused: then nothing else is asked."""
    daemon = start_daemon(echo=lambda _, params: params, hello=lambda _, __: {"protocol": 1})
    daemon.answers_agreement = True
    assert call("echo", n=1) == {"n": 1}
    assert daemon.requests == [("hello", {"protocol": 1}), ("echo", {"n": 1})]

    def refuse(_: Peer, __: dict[str, Any]) -> object:
        raise BadRequest("protocol 1 is not spoken here")

    daemon.methods["hello"] = refuse
    with pytest.raises(BadRequest, match="not spoken here"):
        call("echo", n=2)
    assert [method for method, _ in daemon.requests] == ["hello", "echo", "hello"]


def garbage(peer: Peer, _: dict[str, Any]) -> object:
    """Answer as another protocol would."""
    peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\n")
    return SILENCE


def unasked(peer: Peer, _: dict[str, Any]) -> object:
    """Answer what nobody asked."""
    peer.send_bytes(b"\x94\x01\x05\xc0\xc0")
    return SILENCE


def leave(peer: Peer, _: dict[str, Any]) -> object:
    """Close the connection."""
    peer.hang_up()
    return SILENCE


def refuse(peer: Peer, _: dict[str, Any]) -> object:
    """End the connection with a reason."""
    peer.notify(CLOSING, NotPermitted("too many connections", "close some").to_wire())
    peer.hang_up()
    return SILENCE


@pytest.mark.parametrize(
    ("method", "kind", "words"),
    [
        (garbage, Unreachable, "does not speak procd's protocol: a frame that is no message"),
        (unasked, Unreachable, "answered what was never asked"),
        (leave, Unreachable, "closed the connection and did not answer `status`"),
        (refuse, NotPermitted, "too many connections"),
    ],
)
def test_a_connection_that_ends_is_told(
    start_daemon: StartDaemon,
    method: Callable[[Peer, dict[str, Any]], object],
    kind: type[Exception],
    words: str,
) -> None:
    """To whoever waits for an answer on it; the next call opens another."""
    daemon = start_daemon(status=method, echo=lambda _, params: params)

    async def scenario() -> None:
        async with AsyncClient(timeout_s=BOUND_S) as client:
            waiting = asyncio.ensure_future(client.call("status"))
            with pytest.raises(kind, match=words):
                await waiting
            assert await client.call("echo", n=1) == {"n": 1}

    asyncio.run(scenario())
    assert daemon.connections == 2


def test_an_answer_that_does_not_come_is_given_up(start_daemon: StartDaemon) -> None:
    """After the time limit of the client."""
    start_daemon(stop=lambda _, __: SILENCE)
    with pytest.raises(TimedOut, match="did not answer `stop` within 50ms"):
        call("stop", timeout_s=0.05)


def test_nobody_there_is_unreachable(socket_path: Path) -> None:
    """With the path."""
    with pytest.raises(Unreachable, match=str(socket_path)):
        call("hello")


def test_a_stream_that_is_none_is_no_procd(start_daemon: StartDaemon) -> None:
    """An answer without a number."""
    start_daemon(logs=lambda _, __: {})

    async def scenario() -> None:
        async with AsyncClient() as client:
            with pytest.raises(Unreachable, match="stream that has no id"):
                await anext(client.logs("web"))

    asyncio.run(scenario())


def test_a_log_that_ends_early_is_a_failure(start_daemon: StartDaemon) -> None:
    """What was read is not all of it."""

    def logs(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.notify_afterwards("stream.data", 1, {"data": b"x", "offset": 0})
        peer.notify_afterwards("stream.end", 1, {"reason": "the log cannot be read: Input/output error"})
        return {"stream": 1, "offset": 0}

    start_daemon(logs=logs)
    read: list[Any] = []

    async def scenario() -> None:
        async with AsyncClient() as client, client.logs("web") as log:
            async for piece in log:
                read.append(piece)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(Failed, match="the log ended early: the log cannot be read"):
        asyncio.run(scenario())
    assert read == [LogPiece(0, b"x")]


def test_who_does_not_take_is_not_read_for(start_daemon: StartDaemon) -> None:
    """A flood waits in the daemon: what was sent stays within a few megabytes, and all of it arrives."""
    piece, pieces = bytes(60_000), 500
    sent = [0]

    def logs(peer: Peer, _: dict[str, Any]) -> dict[str, Any]:
        peer.send_bytes(b"\x94\x01\x02\xc0\x82\xa6stream\x01\xa6offset\x00")
        for _ in range(pieces):
            peer.notify("stream.data", 1, {"data": piece, "offset": sent[0]})
            sent[0] += len(piece)
        peer.notify("stream.end", 1, {"reason": "end of log"})
        return SILENCE  # type: ignore[return-value]

    start_daemon(logs=logs)

    async def scenario() -> int:
        async with AsyncClient() as client, client.logs("web") as log:
            size = len((await anext(log)).data)  # type: ignore[union-attr]
            before = -1
            async with asyncio.timeout(BOUND_S):
                while before != sent[0]:  # until it has come to rest
                    before = sent[0]
                    await asyncio.sleep(0.2)
            assert before < 8 << 20
            async for each in log:
                size += len(each.data)  # type: ignore[union-attr]
        return size

    assert asyncio.run(scenario()) == len(piece) * pieces
