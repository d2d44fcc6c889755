"""Connections: their bounds, their ends, and that a client that behaves badly hurts nobody else."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from structlog.testing import capture_logs

from procd.config.spec import Input
from procd.control import audit, connection
from procd.control.access import Peer
from procd.control.methods import METHODS, Method
from procd.core import State
from procd.errors import Refusal, TooLarge
from procd.wire import MAX_CHUNK_BYTES, Notification, Request, Response
from tests.kernel.children import in_loop, until
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from procd.control.connection import Connection


def closing(said: list[Any]) -> dict[str, Any]:
    """What the last thing was that a closed connection said: why."""
    assert isinstance(said[-1], Notification)
    assert said[-1].method == "closing"
    reason: dict[str, Any] = said[-1].params[0]
    return reason


async def only_connection(world: World) -> Connection:
    """The daemon's end of the one client."""
    await until(lambda: world._server._connections)
    (one,) = world._server._connections
    return one


class Held:
    """A method that answers when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.cancelled = 0
        self.release = asyncio.Event()
        monkeypatch.setitem(METHODS, "hold", Method(self.hold, METHODS["hello"].right))

    async def hold(self, call: object, sent: dict[str, Any]) -> dict[str, Any]:
        """Wait."""
        del call
        self.begun += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return sent


@in_loop
async def test_hello_says_who_answers_and_who_asks(tmp_path: Path) -> None:
    """The kernel's word for the peer, and what it may do."""
    async with World(tmp_path) as world:
        answer = await (await world.client()).call("hello")
        assert answer["protocol"] == 1
        assert answer["pid"] == answer["you"]["pid"] == os.getpid()
        assert answer["you"]["uid"] == os.getuid()
        assert "shutdown" in answer["you"]["rights"]


@in_loop
async def test_requests_that_come_together_are_answered_in_order(tmp_path: Path) -> None:
    """However they are cut into pieces."""
    async with World(tmp_path) as world:
        client = await world.client()
        frames = b"".join(client.wire.send(Request(number, "hello", {})) for number in range(50))
        for start in range(0, len(frames), 7):
            client.writer.write(frames[start : start + 7])
            await asyncio.sleep(0)
        for number in range(50):
            message = await client.next()
            assert isinstance(message, Response)
            assert message.id == number


@in_loop
async def test_no_more_than_a_few_requests_are_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others stay in the socket, and come when answers make room; nobody else is held up."""
    async with World(tmp_path) as world:
        held = Held(monkeypatch)
        client, other = await world.client(), await world.client()
        numbers = [client.ask("hold") for _ in range(3 * connection.MAX_IN_FLIGHT)]
        await until(lambda: held.begun == connection.MAX_IN_FLIGHT)
        await other.call("hello")
        assert held.begun == connection.MAX_IN_FLIGHT
        held.release.set()
        for number in numbers:
            assert await client.answer(number) == {}


@in_loop
async def test_answers_that_nobody_reads_stop_the_questions(tmp_path: Path) -> None:
    """What is held for one client is bounded, and others are served; when it reads it gets everything."""
    async with World(tmp_path) as world:
        world.add(*(world.spec(f"web@{number}") for number in range(100)), start=False)
        client = await world.client()
        number = 400
        for _ in range(number):
            client.ask("status")
        ours = await only_connection(world)
        await until(lambda: not ours._room.is_set())
        other = await world.client()
        for _ in range(3):
            await other.call("hello")
        one = len(ours._wire.send(Response(1, None, await other.call("status"))))
        assert ours._transport.get_write_buffer_size() <= connection.OUT_HIGH_BYTES + one
        for each in range(number):
            assert len((await client.answer(each + 1))["programs"]) == 100


@in_loop
async def test_a_flood_of_quick_requests_keeps_the_loop_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection has its turn, then the loop; all are answered."""
    monkeypatch.setattr(connection, "TURN_S", 0.0)
    async with World(tmp_path) as world:
        client = await world.client()
        client.writer.write(b"".join(client.wire.send(Request(each, "hello", {})) for each in range(1000)))
        await client.writer.drain()
        answered = 0
        await until(lambda: bool(world._server._connections))
        for each in range(1000):
            message = await client.next()
            assert isinstance(message, Response)
            assert message.id == each
            answered += 1
        assert answered == 1000


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "no message: 71", id="HTTP"),
        pytest.param(b"\xc1" * 100, "no type", id="a byte that has no meaning"),
        pytest.param(msgpack.packb([2, "hello", []]), "not for this side", id="a notification"),
        pytest.param(msgpack.packb([0, 1, "hello", ["x"]]), "other than one map", id="no map"),
        pytest.param(b"\xdd\xff\xff\xff\xff", "4294967295 values", id="a huge array"),
        pytest.param(b"\x91" * 1000, "containers within each other", id="deep nesting"),
    ],
)
@in_loop
async def test_garbage_ends_the_connection_with_a_reason(tmp_path: Path, sent: bytes, complaint: str) -> None:
    """And only that connection."""
    async with World(tmp_path) as world:
        client, other = await world.client(), await world.client()
        client.writer.write(client.wire.send(Request(1, "hello", {})) + sent)
        said = await client.until_closed()
        assert isinstance(said[0], Response)
        reason = closing(said)
        assert reason["code"] == "BAD_REQUEST"
        assert complaint in reason["message"]
        await other.call("hello")


@in_loop
async def test_ten_megabytes_of_garbage_are_not_read(tmp_path: Path) -> None:
    """The first violation is the last thing that is read."""
    async with World(tmp_path) as world:
        client, other = await world.client(), await world.client()
        client.writer.write(os.urandom(10 << 20))
        await until(lambda: len(world._server._connections) == 1)
        await other.call("hello")


@in_loop
async def test_half_a_frame_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason says what was missing."""
    monkeypatch.setattr(connection, "HALF_FRAME_S", 0.02)
    async with World(tmp_path) as world:
        client = await world.client()
        client.writer.write(client.wire.send(Request(1, "hello", {}))[:5])
        reason = closing(await client.until_closed())
        assert reason["code"] == "TOO_LARGE"
        assert "the rest of a frame did not come within 0.02 s" in reason["message"]


@in_loop
async def test_a_busy_client_is_never_taken_for_a_slow_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose pieces always end in the middle of a frame, for longer than one frame may take."""
    monkeypatch.setattr(connection, "HALF_FRAME_S", 0.05)
    async with World(tmp_path) as world:
        client = await world.client()
        frame = client.wire.send(Request(1, "hello", {}))
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + 4 * connection.HALF_FRAME_S
        client.writer.write(frame[:5])
        while loop.time() < ends_at:
            client.writer.write(frame[5:] + frame[:5])
            assert isinstance(await client.next(), Response)
        client.writer.write(frame[5:])
        assert isinstance(await client.next(), Response)


@in_loop
async def test_a_client_that_is_not_served_is_not_taken_for_a_slow_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its half frame waits for us, not we for it."""
    monkeypatch.setattr(connection, "HALF_FRAME_S", 0.02)
    async with World(tmp_path) as world:
        held = Held(monkeypatch)
        client = await world.client()
        for _ in range(connection.MAX_IN_FLIGHT):
            client.ask("hold")
        frame = client.wire.send(Request(100, "hello", {}))
        client.writer.write(frame[:5])
        await until(lambda: held.begun == connection.MAX_IN_FLIGHT)
        patience_is_over = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(3 * connection.HALF_FRAME_S, patience_is_over.set_result, None)
        await patience_is_over
        client.writer.write(frame[5:])
        held.release.set()
        for number in range(connection.MAX_IN_FLIGHT):
            await client.answer(number + 1)
        assert await client.answer(100)


@in_loop
async def test_a_client_that_says_no_more_gets_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`printf request | nc -N` works; then the connection is closed from here."""
    async with World(tmp_path) as world:
        held = Held(monkeypatch)
        client = await world.client()
        number = client.ask("hold")
        client.writer.write_eof()
        await until(lambda: held.begun == 1)
        held.release.set()
        assert await client.answer(number) == {}
        assert await client.until_closed() == []
        await until(lambda: not world._server._connections)


@in_loop
async def test_a_client_that_says_no_more_gets_its_stream_to_the_end(tmp_path: Path) -> None:
    """Then the connection is closed: nobody is there to ask for more."""
    async with World(tmp_path) as world:
        world.add(world.spec(), start=False)
        world.log_of("web").write_bytes(b"x" * 300_000)
        client = await world.client()
        number = client.ask("logs", program="web", offset=0)
        client.writer.write_eof()
        assert await client.answer(number) == {"stream": 1, "offset": 0}
        said = await client.until_closed()
        assert [message.method for message in said][-1] == "stream.end"
        assert sum(len(message.params[1]["data"]) for message in said[:-1]) == 300_000


@pytest.mark.parametrize("half_closed", [False, True])
@in_loop
async def test_a_follower_that_leaves_is_let_go_of(tmp_path: Path, half_closed: bool) -> None:
    """At once, although its log never grows."""
    async with World(tmp_path) as world:
        world.add(world.spec(), start=False)
        client = await world.client()
        await client.call("logs", program="web", follow=True)
        if half_closed:
            ours = await only_connection(world)
            client.writer.write_eof()
            await until(lambda: ours._ended)
            assert world._server._connections
        client.close()
        await until(lambda: not world._server._connections)


@pytest.mark.parametrize("asked", [1, connection.MAX_IN_FLIGHT, 3 * connection.MAX_IN_FLIGHT])
@in_loop
async def test_a_client_that_leaves_while_it_waits_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    """Also when nothing more was read from it; what it waited for is cancelled."""
    async with World(tmp_path) as world:
        held = Held(monkeypatch)
        client = await world.client()
        for _ in range(asked):
            client.ask("hold")
        await until(lambda: held.begun == min(asked, connection.MAX_IN_FLIGHT))
        client.close()
        await until(lambda: not world._server._connections)
        assert held.cancelled == held.begun


@in_loop
async def test_what_was_asked_before_leaving_is_done(tmp_path: Path) -> None:
    """Somebody may say `stop` and hang up."""
    async with World(tmp_path) as world:
        world.add(world.spec(), start=False)
        world.program().desired = type(world.program().desired).DOWN
        client = await world.client()
        client.ask("shutdown")
        await client.writer.drain()
        client.close()
        await until(lambda: world.asked)
        await until(lambda: not world._server._connections)


@in_loop
async def test_a_peer_that_reads_nothing_does_not_keep_a_closed_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had its time to read the reason."""
    monkeypatch.setattr(connection, "LINGER_S", 0.02)
    async with World(tmp_path) as world:
        world.add(*(world.spec(f"web@{number}") for number in range(100)), start=False)
        raw = socket.socket(socket.AF_UNIX)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, world.socket)
        frame = msgpack.packb([0, 1, "status", [{}]])
        await asyncio.get_running_loop().sock_sendall(raw, frame * 200)
        ours = await only_connection(world)
        await until(lambda: ours._transport.get_write_buffer_size() > 0)
        ours.close(TooLarge("enough"))
        await until(lambda: not world._server._connections)
        raw.close()


@in_loop
async def test_a_mistake_of_ours_is_told_and_logged_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once or later; the client learns nothing of the inside, the log has the traceback."""

    def wrong(call: object, sent: object) -> dict[str, Any]:
        raise RuntimeError(f"secret {call} {sent}")

    async def wrong_later(call: object, sent: object) -> dict[str, Any]:
        await asyncio.sleep(0)
        return wrong(call, sent)

    monkeypatch.setitem(METHODS, "wrong", Method(wrong, METHODS["hello"].right))
    monkeypatch.setitem(METHODS, "later", Method(wrong_later, METHODS["hello"].right))
    async with World(tmp_path) as world:
        client = await world.client()
        for method in ("wrong", "later"):
            with capture_logs() as logged:
                refusal = await client.refusal(method)
            assert refusal["code"] == "FAILED"
            assert "secret" not in str(refusal)
            assert logged[0]["event"] == "request failed"
            assert "secret" in str(logged[0]["exc_info"])
        await client.call("hello")


@in_loop
async def test_an_answer_that_is_too_large_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not a client that hangs up on us."""

    def much(call: object, sent: object) -> dict[str, Any]:
        del call, sent
        return {"much": [bytes(MAX_CHUNK_BYTES)] * 257}

    monkeypatch.setitem(METHODS, "much", Method(much, METHODS["hello"].right))
    async with World(tmp_path) as world:
        client = await world.client()
        assert (await client.refusal("much"))["code"] == "TOO_LARGE"
        await client.call("hello")


@in_loop
async def test_an_unknown_method_is_refused(tmp_path: Path) -> None:
    """Also one that is an attribute of something."""
    async with World(tmp_path) as world:
        client = await world.client()
        for method in ("__init__", "programs", "_status", "x\x1b[31m"):
            refusal = await client.refusal(method)
            assert refusal["code"] == "UNKNOWN_METHOD"
            assert repr(method) in refusal["message"]


@in_loop
async def test_a_stranger_is_refused_everything_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its parameters are looked at; what would change something leaves a line."""
    monkeypatch.setattr(Peer, "of", lambda _: Peer(42, os.geteuid() + 1, 100))
    monkeypatch.setattr(audit, "MAX_REFUSED", 1000)
    async with World(tmp_path) as world:
        client = await world.client()
        assert (await client.call("hello"))["you"]["rights"] == []
        for name, method in METHODS.items():
            if method.right is not METHODS["hello"].right:
                refusal = await client.refusal(name, nonsense=True)
                assert refusal["code"] == "NOT_PERMITTED"
        with capture_logs() as logged:
            await client.refusal("stop", programs=["web", 5, "x" * 100_000, {}], program="other")
        assert logged == [
            {
                "event": "request", "log_level": "info", "method": "stop", "outcome": "NOT_PERMITTED",
                "programs": ["web", "x" * 256], "uid": os.geteuid() + 1, "gid": 100,
                "peer_pid": 42,
            }
        ]  # fmt: skip


@in_loop
async def test_what_changes_something_leaves_a_line_and_what_is_written_does_not(tmp_path: Path) -> None:
    """A line for each 64 KiB of somebody's pipe would be a flood."""
    async with World(tmp_path) as world:
        world.add(world.spec(command="cat", stdin=Input.PIPE))
        client = await world.client()
        with capture_logs() as logged:
            await client.call("write", program="web", data=b"x")
            await client.call("status", programs=["web"])
            await client.call("signal", programs=["web"], signal="CONT")
            await client.refusal("write", program="nothing", data=b"x")
        lines = [line for line in logged if line["event"] == "request"]
        assert [(line["method"], line["programs"], line["outcome"]) for line in lines] == [
            ("signal", ["web"], "done"),
            ("write", ["nothing"], "NO_SUCH_PROGRAM"),
        ]
        assert {line["peer_pid"] for line in lines} == {os.getpid()}


@in_loop
async def test_a_thousand_idle_connections_cost_nobody_anything(tmp_path: Path) -> None:
    """They are accepted, and another one is served; the file of each is given back."""
    async with World(tmp_path) as world:
        loop = asyncio.get_running_loop()
        idle = []
        for _ in range(400):
            each = socket.socket(socket.AF_UNIX)
            each.setblocking(False)
            await loop.sock_connect(each, world.socket)
            idle.append(each)
        await (await world.client()).call("hello")
        await until(lambda: len(world._server._connections) == 401)
        # Gone by a reset, not by an orderly end.
        for each in idle:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
        await until(lambda: len(world._server._connections) == 1)
        assert world.runtime.machine.programs == {}


@in_loop
async def test_a_client_of_a_daemon_that_ends_is_told(tmp_path: Path) -> None:
    """SHUTTING_DOWN, so that procctl knows that it may wait for the next one."""
    async with World(tmp_path) as world:
        world.add(world.spec(), start=False)
        client = await world.client()
        await client.call("logs", program="web", follow=True)
        world._server.close()
        said = await client.until_closed()
        assert Refusal.from_wire(closing(said)).code == "SHUTTING_DOWN"
        assert world.program().state is State.STOPPED
