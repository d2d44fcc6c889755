"""write, close and logs on real children: accepted means in the pipe, and what was written is read."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from procd.config.spec import Input, Output
from procd.control.connection import MAX_IN_FLIGHT
from procd.core import State
from procd.errors import StdinClosed
from procd.wire import MAX_CHUNK_BYTES
from tests.kernel.children import in_loop, until
from tests.world import WAITS, World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Client


async def write_all(client: Client, content: bytes) -> int:
    """Write as `procctl send` does, with several requests in flight: how much was accepted."""
    chunks = [content[at : at + MAX_CHUNK_BYTES] for at in range(0, len(content), MAX_CHUNK_BYTES)]
    accepted, waiting = 0, []
    for chunk in chunks:
        waiting.append(client.ask("write", program="web", data=chunk))
        if len(waiting) == MAX_IN_FLIGHT:
            accepted += (await client.answer(waiting.pop(0)))["accepted"]
    for number in waiting:
        accepted += (await client.answer(number))["accepted"]
    return accepted


@in_loop
async def test_everything_that_is_sent_arrives_in_order_and_then_the_end(tmp_path: Path) -> None:
    """Five megabytes through a program that hashes its stdin; the close comes after the last byte."""
    content = os.urandom(5_000_000)
    async with World(tmp_path) as world:
        world.add(world.spec(command=f"sha256sum; {WAITS}", stdin=Input.PIPE))
        client = await world.client()
        assert await write_all(client, content) == len(content)
        await client.call("close", program="web", stream="stdin")
        await world.until_logged(hashlib.sha256(content).hexdigest().encode())
        refusal = await client.refusal("write", program="web", data=b"x")
        assert refusal["code"] == "STDIN_CLOSED"
        assert refusal["data"] == {"accepted": 0}


@in_loop
async def test_a_program_that_does_not_read_holds_only_who_writes_to_it(tmp_path: Path) -> None:
    """The answer waits until the bytes are in the pipe, and memory is that of the requests in flight."""
    async with World(tmp_path) as world:
        world.add(world.spec(stdin=Input.PIPE), world.spec("other", "cat", stdin=Input.PIPE))
        client, other = await world.client(), await world.client()
        assert (await client.call("write", program="web", data=bytes(MAX_CHUNK_BYTES)))["accepted"] == 65536
        numbers = [client.ask("write", program="web", data=bytes(MAX_CHUNK_BYTES)) for _ in range(20)]
        await other.call("write", program="other", data=b"meanwhile\n")
        await world.until_logged(b"meanwhile\n", "other")
        life = world.runtime.life("web")
        assert life is not None
        assert life.input is not None
        pipe, queue = life.process.descriptor(0), life.input._queue
        await until(lambda: len(queue) == MAX_IN_FLIGHT)
        assert pipe.buffered <= MAX_CHUNK_BYTES
        client.close()
        await until(lambda: len(queue) == 1)
        # Whoever comes back again and again to a program that never reads leaves nothing behind.
        for _ in range(3):
            again = await world.client()
            for _ in numbers:
                again.ask("write", program="web", data=bytes(MAX_CHUNK_BYTES))
            await until(lambda: len(queue) == 1 + MAX_IN_FLIGHT)
            again.close()
            await until(lambda: len(queue) == 1)


@in_loop
async def test_a_reader_that_leaves_in_the_middle_is_told_to_the_byte(tmp_path: Path) -> None:
    """What was accepted went into the pipe; the rest did not, and its sender knows how much that is."""
    async with World(tmp_path) as world:
        world.add(
            world.spec(command=f"head -c 1000 > /dev/null; exec <&-; echo closed; {WAITS}", stdin=Input.PIPE)
        )
        client = await world.client()
        with pytest.raises(StdinClosed, match="web has closed its stdin") as closed:
            await write_all(client, bytes(10_000_000))
        life = world.runtime.life("web")
        assert life is not None
        written = life.process.descriptor(0).bytes_written
        assert 1000 <= written <= 1000 + 2 * MAX_CHUNK_BYTES
        assert closed.value.data["accepted"] == written % MAX_CHUNK_BYTES
        assert world.program().state is State.RUNNING


@in_loop
async def test_several_senders_take_turns_and_nothing_is_mixed(tmp_path: Path) -> None:
    """Each request is in the pipe as a whole, before the next."""
    async with World(tmp_path) as world:
        world.add(world.spec(command="cat", stdin=Input.PIPE))
        clients = [await world.client() for _ in range(4)]
        asked = [
            (client, client.ask("write", program="web", data=bytes([65 + index]) * 30_000 + b"\n"))
            for _ in range(MAX_IN_FLIGHT)
            for index, client in enumerate(clients)
        ]
        for client, number in asked:
            assert (await client.answer(number))["accepted"] == 30_001
        await until(lambda: world.log_of("web").stat().st_size == 30_001 * len(asked))
        lines = world.log_of("web").read_bytes().split(b"\n")[:-1]
        assert all(len(line) == 30_000 and len(set(line)) == 1 for line in lines)


@in_loop
async def test_who_has_no_stdin_or_is_not_running_is_not_written_to(tmp_path: Path) -> None:
    """Each with its next step."""
    async with World(tmp_path) as world:
        world.add(world.spec("null"))
        world.add(world.spec("idle", stdin=Input.PIPE), start=False)
        client = await world.client()
        refusal = await client.refusal("write", program="null", data=b"x")
        assert (refusal["code"], refusal["message"]) == ("STDIN_CLOSED", "null has no stdin to write to")
        refusal = await client.refusal("write", program="idle", data=b"x")
        assert (refusal["code"], refusal["hint"]) == ("STDIN_CLOSED", "start it first")
        assert (await client.refusal("close", program="idle", stream="stdin"))["code"] == "STDIN_CLOSED"


@in_loop
async def test_a_program_that_is_stopped_tells_who_waits_to_write(tmp_path: Path) -> None:
    """The pipe is gone with its reader, and nobody waits for ever."""
    async with World(tmp_path) as world:
        world.add(world.spec(stdin=Input.PIPE))
        client, other = await world.client(), await world.client()
        await client.call("write", program="web", data=bytes(MAX_CHUNK_BYTES))
        numbers = [client.ask("write", program="web", data=bytes(MAX_CHUNK_BYTES)) for _ in range(3)]
        await other.call("stop", programs=["web"])
        for number in numbers:
            with pytest.raises(StdinClosed) as closed:
                await client.answer(number)
            assert closed.value.data == {"accepted": 0}


@in_loop
async def test_an_output_can_be_closed_once(tmp_path: Path) -> None:
    """The program soon gets EPIPE; what it had written is kept."""
    script = (
        'echo before; while [ ! -e go ]; do sleep 0.01; done; trap "" PIPE; '
        "while echo after; do sleep 0.01; done; echo broken >&2; "
    )
    async with World(tmp_path) as world:
        world.add(world.spec(command=script + WAITS, directory=str(tmp_path), stderr=Output.LOG))
        client = await world.client()
        await world.until_logged(b"before\n")
        assert await client.call("close", program="web", stream="stdout") == {}
        (tmp_path / "go").touch()
        await until(lambda: (tmp_path / "web.err.log").read_bytes().endswith(b"broken\n"))
        assert world.log_of("web").read_bytes().replace(b"after\n", b"") == b"before\n"
        refusal = await client.refusal("close", program="web", stream="stdout")
        assert refusal["code"] == "WRONG_STATE"


@in_loop
async def test_a_log_is_read_followed_and_cancelled(tmp_path: Path) -> None:
    """From the answer on: the offset, then what is there, then what comes."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=f"echo one; echo two; exec cat; {WAITS}", stdin=Input.PIPE))
        client, writer = await world.client(), await world.client()
        await world.until_logged(b"two\n")
        answer = await client.call("logs", program="web", lines=1, follow=True)
        assert answer == {"stream": 1, "offset": 4}
        assert await client.notification() == ("stream.data", {"data": b"two\n", "offset": 4})
        await writer.call("write", program="web", data=b"three\n")
        assert await client.notification() == ("stream.data", {"data": b"three\n", "offset": 8})
        assert await client.call("cancel", stream=1) == {}
        assert (await client.refusal("cancel", stream=1))["message"] == "no stream 1 on this connection"
        await client.call("logs", program="web", offset=4)
        assert await client.notification() == ("stream.data", {"data": b"two\nthree\n", "offset": 4})
        assert await client.notification() == ("stream.end", {"reason": "end of log"})


@in_loop
async def test_a_log_that_is_not_kept_is_refused_with_where_it_is(tmp_path: Path) -> None:
    """A stderr that goes where stdout goes, an output that goes nowhere; two beginnings."""
    async with World(tmp_path) as world:
        world.add(world.spec("merged"), world.spec("none", stdout=Output.NULL), start=False)
        client = await world.client()
        refusal = await client.refusal("logs", program="merged", stream="stderr")
        assert refusal["code"] == "WRONG_STATE"
        assert "ask for that" in refusal["hint"]
        refusal = await client.refusal("logs", program="none")
        assert 'give it `stdout = "log"`' in refusal["hint"]
        refusal = await client.refusal("logs", program="merged", lines=1, offset=1)
        assert refusal["code"] == "BAD_REQUEST"
        world.log_of("merged").mkdir()
        refusal = await client.refusal("logs", program="merged")
        assert (refusal["code"], "regular file" in refusal["message"]) == ("FAILED", True)


@in_loop
async def test_a_follower_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Neither the program, whose log grows, nor other clients, nor our memory; it misses nothing."""
    async with World(tmp_path) as world:
        world.add(world.spec(command="cat", stdin=Input.PIPE))
        slow, writer = await world.client(), await world.client()
        await slow.call("logs", program="web", follow=True)
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        content = os.urandom(3_000_000)
        assert await write_all(writer, content) == len(content)
        await until(lambda: world.log_of("web").stat().st_size == len(content))
        held = [each._transport.get_write_buffer_size() for each in world._server._connections]
        assert max(held) < 400_000
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        got = b""
        while len(got) < len(content):
            method, body = await slow.notification()
            assert (method, body["offset"]) == ("stream.data", len(got))
            got += body["data"]
        assert got == content
