"""Logs over the control socket, with a real logger: rotated on request, followed by many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from procd.config.spec import Input, LogSpec
from procd.control.streams import MAX_STREAMS
from tests.kernel.children import in_loop
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Client


async def read_stream(client: Client, size: int) -> bytes:
    """The next bytes of the one stream of a client, which has no gap."""
    got = bytearray()
    while len(got) < size:
        method, body = await client.notification()
        assert method == "stream.data", (method, body)
        got += body["data"]
    return bytes(got)


@in_loop
async def test_a_log_is_rotated_on_request(tmp_path: Path) -> None:
    """The files change, the offsets do not; an empty one, or one that is not kept, is left as it is."""
    async with World(tmp_path) as world:
        world.add(world.spec(command="echo one; exec sleep 1000"))
        world.add(world.spec("later"), start=False)
        await world.until_logged(b"one\n")
        client = await world.client()
        answer = await client.call("rotate", programs=["*"])
        assert answer == {
            "programs": [
                {"name": "web", "ok": True, "state": "RUNNING", "reason": ""},
                {"name": "later", "ok": True, "state": "STOPPED", "reason": ""},
            ]
        }
        assert (tmp_path / "web.log.1").read_bytes() == b"one\n"
        assert world.log_of("web").read_bytes() == b""
        await client.call("rotate", programs=["web"])
        assert not (tmp_path / "web.log.2").exists()
        record = (await client.call("status", programs=["web"]))["programs"][0]
        assert record["streams"]["stdout"]["offset"] == 4


@in_loop
async def test_a_log_that_cannot_be_rotated_is_told(tmp_path: Path) -> None:
    """Each of its streams, in words; it goes on as it was."""
    async with World(tmp_path) as world:
        (tmp_path / "web.log.1").mkdir()
        (tmp_path / "web.log.1/full").touch()
        log = LogSpec(str(world.log_of("web")), keep=1)
        world.add(world.spec(command="echo one; exec sleep 1000", stdout_log=log))
        await world.until_logged(b"one\n")
        client = await world.client()
        row = (await client.call("rotate", programs=["web"]))["programs"][0]
        assert not row["ok"]
        assert row["reason"].startswith("stdout: ")
        assert world.log_of("web").read_bytes() == b"one\n"


@in_loop
async def test_a_hundred_followers_get_every_byte_of_a_flood(tmp_path: Path) -> None:
    """Also those of one connection, and over rotations; a follower that does not read keeps nobody waiting."""
    expected = b"".join(b"%d\n" % number for number in range(1, 150_001))
    async with World(tmp_path) as world:
        log = LogSpec(str(world.log_of("web")), max_size=100_000, keep=100)
        flood = "read x; seq 150000; exec sleep 1000"
        world.add(world.spec(command=flood, stdin=Input.PIPE, stdout_log=log))
        clients = [await world.client() for _ in range(100)]
        for client in clients:
            await client.call("logs", program="web", follow=True)
        idle = await world.client()
        for _ in range(MAX_STREAMS):
            await idle.call("logs", program="web", follow=True)
        await clients[0].call("write", program="web", data=b"\n")
        for got in await asyncio.gather(*(read_stream(client, len(expected)) for client in clients)):
            assert got == expected
        assert (tmp_path / "web.log.9").exists()
