"""attach and resize on real children: all output from now on, the size of the screen, the end of the life."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from procd.config.access import Right, Rule
from procd.config.spec import Input, Output, Restart
from procd.control.access import Access
from procd.errors import BadRequest, WrongState
from tests.kernel.children import in_loop, until
from tests.world import WAITS, World

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.world import Client

#: Says what is typed, in a form that echo cannot have.
SAYS = "stty -echo; echo set; while read x; do echo said $x; done"
SIZES = "trap 'stty size' WINCH; echo set; while :; do sleep 0.01; done"


def terminal(world: World, command: str, **keys: Any) -> None:  # noqa: ANN401 - fields of a spec
    """Add and start a program with a terminal."""
    world.add(world.spec(command=command, terminal=True, stdin=Input.PIPE, **keys))


async def heard(client: Client, wanted: bytes, stream: str = "stdout") -> bytes:
    """Hear what comes until something was in it; all of it."""
    got, offset = b"", None
    while wanted not in got:
        method, body = await client.notification()
        assert (method, body["stream"]) == ("stream.data", stream)
        assert offset in {None, body["offset"]}
        offset = body["offset"] + len(body["data"])
        got += body["data"]
    return got


async def end(client: Client) -> tuple[bytes, dict[str, Any]]:
    """Hear the stream to its end: what came, and the end."""
    got = b""
    while True:
        method, body = await client.notification()
        if method == "stream.end":
            return got, body
        got += body["data"]


@in_loop
async def test_everybody_who_is_attached_sees_everything_from_then_on(tmp_path: Path) -> None:
    """What one types, all see answered; what was before is in the log."""
    async with World(tmp_path) as world:
        terminal(world, SAYS)
        await world.until_logged(b"set\r\n")
        first, second = await world.client(), await world.client()
        assert await first.call("attach", program="web") == {"stream": 1, "terminal": True, "input": True}
        await first.call("write", program="web", data=b"one\n")
        assert await heard(first, b"\n") == b"said one\r\n"
        await second.call("attach", program="web", rows=50, columns=100)
        await second.call("write", program="web", data=b"two\n")
        assert await heard(first, b"\n") == await heard(second, b"\n") == b"said two\r\n"
        assert await second.call("cancel", stream=1) == {}
        await first.call("write", program="web", data=b"three\n")
        assert await heard(first, b"\n") == b"said three\r\n"
        assert not second.heard


@in_loop
async def test_the_size_is_that_of_the_screens(tmp_path: Path) -> None:
    """On attach, on resize, and when one of two goes away, by cancel or by closing the connection."""
    async with World(tmp_path) as world:
        terminal(world, SIZES)
        await world.until_logged(b"set\r\n")
        first, second, third = await world.client(), await world.client(), await world.client()
        await first.call("attach", program="web", rows=50, columns=100)
        await heard(first, b"50 100\r\n")
        await second.call("attach", program="web", rows=40, columns=120)
        await heard(first, b"40 100\r\n")
        await third.call("attach", program="web", rows=40, columns=90)
        await heard(first, b"40 90\r\n")
        await first.call("resize", stream=1, rows=30, columns=200)
        await heard(first, b"30 90\r\n")
        third.close()
        await heard(first, b"30 120\r\n")
        await second.call("cancel", stream=1)
        await heard(first, b"30 200\r\n")


@in_loop
async def test_whoever_comes_new_has_everything_drawn(tmp_path: Path) -> None:
    """Also with the size that the terminal has; without a size nothing changes."""
    async with World(tmp_path) as world:
        terminal(world, SIZES)
        await world.until_logged(b"set\r\n")
        client, blind = await world.client(), await world.client()
        await blind.call("attach", program="web")
        await client.call("attach", program="web", rows=24, columns=80)
        assert await heard(client, b"24 80\r\n") == b"23 80\r\n24 80\r\n"


@in_loop
async def test_the_end_of_the_life_is_the_end_of_the_stream(tmp_path: Path) -> None:
    """After the last byte; how it ended; the next life is not shown, nor is it there to resize."""
    async with World(tmp_path) as world:
        terminal(world, "stty -echo; echo set; read x; seq 20000; exit $x", min_uptime_s=0.0)
        for life, status in enumerate((3, 0), 1):
            client = await world.client()
            await world.until_logged(b"set\r\n")
            await until(lambda life=life: world.log_of("web").read_bytes().count(b"set\r\n") == life)
            await client.call("attach", program="web")
            await client.call("write", program="web", data=b"%d\n" % status)
            got, last = await end(client)
            lines = b"".join(b"%d\r\n" % number for number in range(1, 20_001))
            # It restarts at once, and its first word may come with the last of its former life.
            assert got.removesuffix(b"set\r\n") == lines
            assert last == {
                "reason": f"exited with status {status}",
                "exit": {"code": status},
                "ok": status == 0,
            }


@in_loop
async def test_an_attachment_that_is_over_has_no_size(tmp_path: Path) -> None:
    """Or the terminal would keep it for good: right after a cancel as well as later."""
    async with World(tmp_path) as world:
        terminal(world, SIZES)
        await world.until_logged(b"set\r\n")
        client = await world.client()
        await client.call("attach", program="web", rows=30, columns=90)
        await heard(client, b"30 90\r\n")
        numbers = [client.ask("cancel", stream=1)]
        numbers += [client.ask("resize", stream=1, rows=20, columns=20) for _ in range(5)]
        assert await client.answer(numbers.pop(0)) == {}
        for number in numbers:
            with contextlib.suppress(BadRequest, WrongState):
                await client.answer(number)
        life = world.runtime.life("web")
        assert life is not None
        assert life.console is not None
        sizes = life.console._sizes
        await until(lambda: not sizes)
        refusal = await client.refusal("resize", stream=1, rows=20, columns=20)
        assert refusal["code"] == "BAD_REQUEST"


@in_loop
async def test_a_program_that_is_stopped_ends_well(tmp_path: Path) -> None:
    """Somebody wanted that; one that dies of a signal by itself does not."""
    async with World(tmp_path) as world:
        terminal(world, WAITS)
        client, other = await world.client(), await world.client()
        await client.call("attach", program="web")
        await other.call("stop", programs=["web"])
        _, last = await end(client)
        assert (last["reason"], last["ok"]) == ("it was stopped", True)
        await other.call("start", programs=["web"])
        await client.call("attach", program="web")
        await other.call("signal", programs=["web"], signal="KILL")
        _, last = await end(client)
        assert (last["reason"], last["exit"]["signal"], last["ok"]) == ("killed by SIGKILL", 9, False)


@in_loop
async def test_a_program_with_pipes_is_shown_with_both_its_outputs(tmp_path: Path) -> None:
    """Each marked with its stream; written to if it has a stdin; without a size."""
    async with World(tmp_path) as world:
        script = "while read x; do echo out $x; echo err $x >&2; done; echo last; exit 4"
        world.add(world.spec(command=script, stdin=Input.PIPE, stderr=Output.LOG, restart=Restart.NEVER))
        client = await world.client()
        answer = await client.call("attach", program="web")
        assert answer == {"stream": 1, "terminal": False, "input": True}
        await client.call("write", program="web", data=b"1\n")
        said = {(await client.notification())[1]["stream"] for _ in range(2)}
        assert said == {"stdout", "stderr"}
        refusal = await client.refusal("resize", stream=1, rows=1, columns=1)
        assert (refusal["code"], refusal["hint"]) == ("WRONG_STATE", "give it `terminal = true`")
        await client.call("close", program="web", stream="stdin")
        got, last = await end(client)
        assert (got, last["exit"]) == (b"last\n", {"code": 4})


@in_loop
async def test_who_cannot_be_attached_to_says_why(tmp_path: Path) -> None:
    """Not running, no log; half a size; a stream that is none; and nothing stays behind."""
    async with World(tmp_path) as world:
        world.add(world.spec("idle"), start=False)
        world.add(world.spec("mute", stdout=Output.NULL), world.spec("quiet"))
        client = await world.client()
        refusal = await client.refusal("attach", program="idle")
        assert (refusal["code"], refusal["message"]) == ("WRONG_STATE", "idle is STOPPED")
        refusal = await client.refusal("attach", program="mute")
        assert (refusal["code"], "keeps no log" in refusal["message"]) == ("WRONG_STATE", True)
        for wrong in ({"rows": 24}, {"columns": 80}, {"rows": 0, "columns": 1}, {"rows": 1, "columns": 65536}):
            assert (await client.refusal("attach", program="quiet", **wrong))["code"] == "BAD_REQUEST"
        assert (await client.refusal("resize", stream=7, rows=1, columns=1))["code"] == "BAD_REQUEST"
        await client.call("events", follow=True)
        assert (await client.refusal("resize", stream=1, rows=1, columns=1))["code"] == "BAD_REQUEST"
        answer = await client.call("attach", program="quiet")
        assert answer == {"stream": 2, "terminal": False, "input": False}


@in_loop
async def test_a_program_that_is_removed_takes_its_viewers_along(tmp_path: Path) -> None:
    """It is stopped first, and that is what they learn."""
    async with World(tmp_path) as world:
        terminal(world, WAITS)
        client = await world.client()
        await client.call("attach", program="web")
        world.remove("web")
        _, last = await end(client)
        assert last["ok"] is True


@in_loop
async def test_a_viewer_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Neither the program nor the others; it misses nothing, and its end comes last."""
    async with World(tmp_path) as world:
        terminal(world, "stty -echo; echo set; read x; seq 300000; exit 0", restart=Restart.NEVER)
        await world.until_logged(b"set")
        slow, quick = await world.client(), await world.client()
        await slow.call("attach", program="web")
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await quick.call("attach", program="web")
        await quick.call("write", program="web", data=b"\n")
        got, _ = await end(quick)
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await end(slow) == (got, {"reason": "exited with status 0", "exit": {"code": 0}, "ok": True})
        assert got == b"".join(b"%d\r\n" % number for number in range(1, 300_001))


@in_loop
async def test_who_may_only_look_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right to attach is one, that to write another."""
    async with World(tmp_path) as world:
        terminal(world, WAITS)
        client = await world.client()
        world.access = Access([Rule(everybody=True, rights=frozenset({Right.ATTACH}))], own_uid=1)
        # We are root, perhaps.
        monkeypatch.setattr(world.access, "is_master", lambda _: False)
        answer = await client.call("attach", program="web")
        assert answer["input"] is False
        assert (await client.refusal("write", program="web", data=b"x"))["code"] == "NOT_PERMITTED"
