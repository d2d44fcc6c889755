"""Probes and descriptors with real sockets, servers and pipes."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from procd.checks.endpoints import Address
from procd.checks.fd_watch import FdWatch
from procd.checks.http import GOOD_STATUSES, MAX_ANSWER_BYTES, HttpProbe
from procd.checks.runner import Means, Readiness
from procd.checks.tcp import Connecting, TcpProbe, _met_itself
from procd.config.spec import Check, CheckKind
from tests.kernel.children import BOUND_S, in_loop, open_descriptors, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from procd.checks.probe import Probe


async def answer_of(probe: Probe) -> str:
    """Ask once."""
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    probe.ask(answered.set_result)
    async with asyncio.timeout(BOUND_S):
        return await answered


def tcp(address: str) -> TcpProbe:
    """A probe on the running loop."""
    return TcpProbe(asyncio.get_running_loop(), address)


def nobody() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


# TCP


@in_loop
async def test_a_server_that_accepts_passes() -> None:
    """It needs not even to call accept(2)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert await answer_of(tcp(f"127.0.0.1:{server.getsockname()[1]}")) == ""


@in_loop
async def test_a_port_without_a_server_fails_in_words() -> None:
    """The words name the address and the kernel's reason."""
    port = nobody()
    reason = await answer_of(tcp(f"127.0.0.1:{port}"))
    assert reason == f"connect to 127.0.0.1:{port}: connection refused"
    reason = await answer_of(tcp(f"localhost:{port}"))
    assert reason == f"connect to localhost:{port}: connection refused"


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
@in_loop
async def test_localhost_is_either_family() -> None:
    """A server that listens on ::1 only is there."""
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("there is no ::1 here")
    with server:
        port = server.getsockname()[1]
        assert await answer_of(tcp(f"localhost:{port}")) == ""
        assert await answer_of(tcp(f"[::1]:{port}")) == ""


@in_loop
async def test_a_server_that_is_full_can_be_given_up() -> None:
    """Connecting hangs where the queue is full; cancelled, nothing is left of it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        before = open_descriptors()
        attempt = tcp(f"127.0.0.1:{server.getsockname()[1]}").ask(_never)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        attempt.cancel()
        attempt.cancel()
        assert open_descriptors() == before
        for filler in fillers:
            filler.close()


@in_loop
async def test_the_first_address_that_works_is_taken() -> None:
    """And the reason of the first one is told when none does, also where the machine lacks a family."""
    loop = asyncio.get_running_loop()
    refused = Address(socket.AF_INET, ("127.0.0.1", nobody()))
    lacking = Address(cast("socket.AddressFamily", 999), ())
    outcome: asyncio.Future[str | socket.socket] = loop.create_future()
    async with asyncio.timeout(BOUND_S):
        Connecting(loop, [refused, lacking], _never, outcome.set_result)
        assert await outcome == "connection refused"
        outcome = loop.create_future()
        Connecting(loop, [lacking, refused], _never, outcome.set_result)
        assert await outcome == "address family not supported by protocol"
        outcome = loop.create_future()
        with socket.create_server(("127.0.0.1", 0)) as server:
            good = Address(socket.AF_INET, server.getsockname())
            Connecting(loop, [lacking, refused, good], outcome.set_result, _never)
            connected = await outcome
            assert isinstance(connected, socket.socket)
            connected.close()


@in_loop
async def test_a_socket_that_has_met_itself_is_no_server() -> None:
    """Linux connects a socket to itself when both ends get the same port."""
    with socket.socket() as itself:
        itself.bind(("127.0.0.1", 0))
        itself.connect(itself.getsockname())
        assert _met_itself(itself)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as other,
    ):
        assert not _met_itself(other)
    with socket.socket() as nowhere:
        assert not _met_itself(nowhere)


def _never(*_: object) -> None:
    raise AssertionError("this should not have been called")


# HTTP


class Server:
    """Answers every connection with the same bytes, piece by piece, and remembers the requests."""

    def __init__(self, *pieces: bytes, hangs: bool = False) -> None:
        self.pieces = pieces
        self.hangs = hangs
        self.requests: list[bytes] = []
        self.open = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Served(self), "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/health?x=1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await until(lambda: self.open == 0)


class _Served(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.open += 1

    def data_received(self, data: bytes) -> None:
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            self._server.requests.append(self._request)
            self._answer(iter(self._server.pieces))

    def _answer(self, pieces: Iterator[bytes]) -> None:
        piece = next(pieces, None)
        if piece is not None:
            self._transport.write(piece)
            asyncio.get_running_loop().call_soon(self._answer, pieces)
        elif not self._server.hangs:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._server.open -= 1


async def asked(server: Server, **options: Any) -> str:  # noqa: ANN401
    """Ask a server, and take its URL out of the words."""
    reason = await answer_of(HttpProbe(asyncio.get_running_loop(), server.url, **options))
    return reason.removeprefix(f"GET {server.url}: ")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@in_loop
async def test_a_good_status_passes_and_the_request_is_right() -> None:
    """GET, the Host of the URL, and no wish to stay."""
    async with Server(OK) as server:
        assert await asked(server) == ""
        lines = server.requests[0].split(b"\r\n")
        assert lines[0] == b"GET /health?x=1 HTTP/1.1"
        assert f"host: {server.url.split('/')[2]}".encode() in [line.lower() for line in lines]
        assert b"Connection: close" in lines


@pytest.mark.parametrize(
    ("answer", "statuses", "outcome"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", GOOD_STATUSES, ""),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", GOOD_STATUSES, ""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", GOOD_STATUSES, ""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, GOOD_STATUSES, ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", GOOD_STATUSES, ""),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", GOOD_STATUSES, "status 503"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", frozenset({404}), ""),
        (OK, frozenset({204}), "status 200"),
        (b"", GOOD_STATUSES, "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\n", GOOD_STATUSES, "closed before its answer was complete"),
        (b"SSH-2.0-OpenSSH\r\n", GOOD_STATUSES, "closed before its answer was complete"),
    ],
)
@in_loop
async def test_the_status_decides(answer: bytes, statuses: frozenset[int], outcome: str) -> None:
    """Redirects are not followed; one byte at a time is as good as all at once."""
    async with Server(answer) as server:
        assert await asked(server, statuses=statuses) == outcome
    async with Server(*(answer[i : i + 1] for i in range(len(answer)))) as server:
        assert await asked(server, statuses=statuses) == outcome


@pytest.mark.parametrize(
    "answer",
    [
        b"\x1b[2J\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ],
)  # fmt: skip
@in_loop
async def test_what_is_not_http_fails_in_words_that_can_be_shown(answer: bytes) -> None:
    """Another protocol, a cut answer, a head without end."""
    async with Server(answer) as server:
        reason = await asked(server)
        assert reason.startswith("not HTTP: ")
        assert reason.isprintable()


@in_loop
async def test_a_long_answer_is_not_read_to_its_end() -> None:
    """Its status has decided; nothing is downloaded."""
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * MAX_ANSWER_BYTES
    async with Server(body, hangs=True) as server:
        assert await asked(server) == ""


@in_loop
async def test_endless_interim_answers_end() -> None:
    """A server that never comes to the point has not answered."""
    async with Server(*[b"HTTP/1.1 102 Processing\r\n\r\n" * 100] * 40, hangs=True) as server:
        assert await asked(server) == "an answer without end"


@in_loop
async def test_a_server_that_is_not_there_fails_as_a_connection_does() -> None:
    """With the kernel's reason."""
    url = f"http://127.0.0.1:{nobody()}/"
    reason = await answer_of(HttpProbe(asyncio.get_running_loop(), url))
    assert reason == f"GET {url}: connection refused"


@in_loop
async def test_a_server_that_resets_fails_in_words() -> None:
    """A reset is an answer too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]

        def reset() -> None:
            peer, _ = server.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()

        asyncio.get_running_loop().add_reader(server, reset)
        reason = await answer_of(HttpProbe(asyncio.get_running_loop(), f"http://127.0.0.1:{port}/"))
        asyncio.get_running_loop().remove_reader(server)
        assert reason == f"GET http://127.0.0.1:{port}/: connection reset by peer"


@in_loop
async def test_a_server_that_says_nothing_is_given_up_and_nothing_is_left() -> None:
    """The timeout is over everything, and the end of a life comes at any time."""
    async with Server(hangs=True) as server:
        told: list[str] = []
        failed = asyncio.Event()
        check = Check(kind=CheckKind.HTTP, url=server.url, interval_s=60.0, timeout_s=0.05)

        def on_failed(reason: str) -> None:
            told.append(reason)
            failed.set()

        readiness = Readiness(check, _means(), on_ready=_never, on_failed=on_failed)
        async with asyncio.timeout(BOUND_S):
            await failed.wait()
        readiness.cancel()
        assert told == [f"GET {server.url}: no answer within 50ms"]
        await until(lambda: server.open == 0)


def _means(ready_fd: int = -1) -> Means:
    return Means(asyncio.get_running_loop(), _no_commands, ready_fd=ready_fd)


def _no_commands(_argv: tuple[str, ...], _on_end: Callable[[str], None]) -> Callable[[], None]:
    raise AssertionError("no command should be run")


# Readiness by tcp and by descriptor


@in_loop
async def test_readiness_comes_when_the_server_does() -> None:
    """Asked again and again until somebody listens."""
    port = nobody()
    ready = asyncio.Event()
    servers: list[socket.socket] = []

    def on_failed(reason: str) -> None:
        assert reason.endswith("connection refused")
        if not servers:
            servers.append(socket.create_server(("127.0.0.1", port)))

    check = Check(kind=CheckKind.TCP, address=f"127.0.0.1:{port}", interval_s=0.01, timeout_s=5.0)
    readiness = Readiness(check, _means(), on_ready=ready.set, on_failed=on_failed)
    async with asyncio.timeout(BOUND_S):
        await ready.wait()
    readiness.cancel()
    servers[0].close()


class Pipe:
    """A pipe whose read end is watched; it remembers what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.changed = asyncio.Event()
        read_end, self.write_end = os.pipe()
        self.watch = FdWatch(
            asyncio.get_running_loop(), read_end, lambda: self._tell("ready"), lambda: self._tell("lost")
        )

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.changed.set()

    async def until_told(self) -> list[str]:
        """Wait for it to be decided."""
        async with asyncio.timeout(BOUND_S):
            await self.changed.wait()
        return self.told

    def close(self) -> None:
        """End the program."""
        os.close(self.write_end)


@pytest.mark.parametrize("written", [b"\n", b"ready\n", b"a\nb\nc", b"\0\xff\n"])
@in_loop
async def test_a_newline_is_ready(written: bytes) -> None:
    """Whatever stands around it."""
    pipe = Pipe()
    os.write(pipe.write_end, written)
    assert await pipe.until_told() == ["ready"]
    pipe.close()


@in_loop
async def test_an_end_without_a_newline_is_not() -> None:
    """A program that closes the descriptor, or dies, does not become ready by it."""
    pipe = Pipe()
    os.write(pipe.write_end, b"ready")
    pipe.close()
    assert await pipe.until_told() == ["lost"]


@in_loop
async def test_the_line_may_come_in_pieces() -> None:
    """And be longer than anything that is read at once."""
    pipe = Pipe()
    os.write(pipe.write_end, b"x" * 10_000)
    os.write(pipe.write_end, b"\n")
    assert await pipe.until_told() == ["ready"]
    pipe.close()


@in_loop
async def test_a_cancelled_watch_has_closed_its_end() -> None:
    """The life is over, or something else made it ready."""
    before = open_descriptors()
    pipe = Pipe()
    pipe.watch.cancel()
    pipe.watch.cancel()
    pipe.close()
    assert open_descriptors() == before


@in_loop
async def test_readiness_by_descriptor_says_when_it_was_lost() -> None:
    """It is not ready, and will not be: the words say so."""
    read_end, write_end = os.pipe()
    failed = asyncio.Event()
    readiness = Readiness(
        Check(kind=CheckKind.FD, fd=3), _means(read_end), on_ready=_never, on_failed=lambda _: failed.set()
    )
    assert readiness.reason == "has not written a newline to descriptor 3"
    os.close(write_end)
    async with asyncio.timeout(BOUND_S):
        await failed.wait()
    assert readiness.reason == "has not written a newline to descriptor 3, and closed it"
    readiness.cancel()
