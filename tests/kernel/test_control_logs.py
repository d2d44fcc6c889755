"""Logs over the control socket, with a real logger: rotated on request, followed by many."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from procd.config.spec import Input, LogSpec, Output
from procd.control.streams import MAX_STREAMS
from tests.kernel.children import BOUND_S, in_loop
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
                {"name": "later", "ok": True, "state": "STOPPED", "reason": "nothing to rotate"},
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


@in_loop
async def test_whoever_runs_a_program_learns_where_its_output_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the first of it is in the log before the answer is made, behind what was there before."""
    async with World(tmp_path) as world:
        log = world.log_of("job")
        log.write_bytes(b"from long ago\n")
        begin = world.runtime.transients.start

        def start_and_wait(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - whatever it takes
            begin(*arguments, **options)
            world.runtime.around.logs._channel.flush()
            deadline_s = time.monotonic() + BOUND_S
            while b"up\n" not in log.read_bytes():
                assert time.monotonic() < deadline_s
                time.sleep(0.001)

        monkeypatch.setattr(world.runtime.transients, "start", start_and_wait)
        client = await world.client()
        spec = {"command": "echo up; exec sleep 1000", "shell": True, "name": "job"}
        record = await client.call("run", spec=spec)
        for stream in ("stdout", "stderr"):
            assert record["streams"][stream]["offset"] == len(b"from long ago\n")
        await client.call("logs", program="job", offset=record["streams"]["stdout"]["offset"], follow=True)
        assert await read_stream(client, 3) == b"up\n"


@pytest.mark.parametrize(
    ("stdout", "stderr", "stream", "hint"),
    [
        (Output.NULL, Output.STDOUT, "stdout", 'it is thrown away; to keep it, give it `stdout = "log"`'),
        (Output.NULL, Output.STDOUT, "stderr", 'it is thrown away; to keep it, give it `stderr = "log"`'),
        (Output.LOG, Output.NULL, "stderr", 'it is thrown away; to keep it, give it `stderr = "log"`'),
        (Output.LOG, Output.STDOUT, "stderr", "its stderr goes where its stdout goes: ask for that"),
        (Output.JOURNAL, Output.STDOUT, "stdout", "it goes to the system's journal: journalctl -t web"),
        (Output.JOURNAL, Output.STDOUT, "stderr", "it goes to the system's journal: journalctl -t web"),
    ],
)
def test_a_stream_without_a_log_says_where_it_goes(
    tmp_path: Path, stdout: Output, stderr: Output, stream: str, hint: str
) -> None:
    """And how it would have one."""

    async def ask() -> None:
        async with World(tmp_path) as world:
            world.add(world.spec(stdout=stdout, stderr=stderr), start=False)
            client = await world.client()
            refusal = await client.refusal("logs", program="web", stream=stream)
            assert (refusal["code"], refusal["hint"]) == ("WRONG_STATE", hint)

    asyncio.run(ask())


@in_loop
async def test_a_log_has_one_beginning(tmp_path: Path) -> None:
    """Two are a mistake of the client."""
    async with World(tmp_path) as world:
        world.add(world.spec(), start=False)
        client = await world.client()
        for where in ({"lines": 1, "since": 5}, {"offset": 0, "since": 5}, {"lines": 1, "offset": 0}):
            assert (await client.refusal("logs", program="web", **where))["code"] == "BAD_REQUEST"
        assert (await client.call("logs", program="web", since=4e9))["offset"] == 0
