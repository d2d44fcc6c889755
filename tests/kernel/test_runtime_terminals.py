"""Programs with a terminal: typed at, sized, logged, hung up."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import stat
from typing import TYPE_CHECKING

from procd.config.spec import Input
from procd.core import State, Stop
from procd.errors import StdinClosed
from procd.process import credentials_for
from procd.runtime import console as consoles
from procd.runtime.console import Console, Size
from tests.kernel.children import NOBODY, in_loop, needs_root, until
from tests.world import TEST, WAITS, World

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.world import Client


def terminal(world: World, command: str, **keys: object) -> Console:
    """Add and start a program with a terminal; its console."""
    world.add(world.spec(command=command, terminal=True, stdin=Input.PIPE, **keys))
    return console(world)


def console(world: World) -> Console:
    """Look up the console of the program."""
    life = world.runtime.life("web")
    assert life is not None
    assert life.console is not None
    return life.console


@in_loop
async def test_its_output_is_in_the_log_and_what_is_written_is_typed(tmp_path: Path) -> None:
    """A shell that thinks it is in front of somebody: sized, controlled, echoing."""
    async with World(tmp_path) as world:
        terminal(world, "stty size; tty; read x; echo got $x; " + WAITS)
        await world.until_logged(b"24 80\r\n/dev/pts/")
        client = await world.client()
        assert await client.call("write", program="web", data=b"helxx\x7f\x7flo\n") == {"accepted": 10}
        await world.until_logged(b"got hello\r\n")
        # A line that it echoes, too.
        assert b"\r\nhelxx" in world.log_of("web").read_bytes()


@in_loop
async def test_close_types_the_end_of_the_input(tmp_path: Path) -> None:
    """Twice within a line, which the first only ends; and whoever reads may read on."""
    async with World(tmp_path) as world:
        terminal(world, "cat >first; cat >second; echo done; " + WAITS, directory=str(tmp_path))
        client = await world.client()
        await client.call("write", program="web", data=b"one\n")
        await client.call("close", program="web", stream="stdin")
        await until((tmp_path / "second").exists)
        await client.call("write", program="web", data=b"two")
        await client.call("close", program="web", stream="stdin")
        await world.until_logged(b"done\r\n")
        assert (tmp_path / "first").read_bytes() == b"one\n"
        assert (tmp_path / "second").read_bytes() == b"two"


@in_loop
async def test_a_key_that_the_program_chose_ends_the_input(tmp_path: Path) -> None:
    """As the terminal has it; and Ctrl-D where it has none."""
    async with World(tmp_path) as world:
        script = "stty eof ^E; echo set; cat; stty eof undef; stty raw; echo raw; head -c 1 | od; "
        terminal(world, script + WAITS)
        client = await world.client()
        await world.until_logged(b"set\r\n")
        await client.call("close", program="web", stream="stdin")
        await world.until_logged(b"raw")
        await client.call("close", program="web", stream="stdin")
        await world.until_logged(b"0000000 000004")


@in_loop
async def test_a_megabyte_is_typed_at_the_pace_of_who_reads(tmp_path: Path) -> None:
    """Accepted means that the kernel has it; nothing is lost in raw mode, whatever its bytes."""
    content = os.urandom(1_000_000)
    async with World(tmp_path) as world:
        script = f"stty raw -echo; echo set; head -c {len(content)} >copy; echo read; " + WAITS
        terminal(world, script, directory=str(tmp_path))
        await world.until_logged(b"set")
        client = await world.client()
        for at in range(0, len(content), 50_000):
            piece = content[at : at + 50_000]
            assert await client.call("write", program="web", data=piece) == {"accepted": 50_000}
        await world.until_logged(b"read")
        assert (tmp_path / "copy").read_bytes() == content


@in_loop
async def test_a_writer_is_told_when_the_program_ends_before_it_reads(tmp_path: Path) -> None:
    """Also while a descendant holds the terminal open: nobody waits for ever."""
    async with World(tmp_path) as world:
        terminal(world, "stty raw -echo; setsid sleep 1000 & echo set; " + WAITS)
        await world.until_logged(b"set")
        client, other = await world.client(), await world.client()
        numbers = [client.ask("write", program="web", data=bytes(65536)) for _ in range(4)]
        life = world.runtime.life("web")
        assert life is not None
        assert life.input is not None
        await until(lambda: life.process.descriptor(1).buffered)
        await other.call("stop", programs=["web"])
        answers = [await _accepted(client, number) for number in numbers]
        assert sum(answers) < 4 * 65536
        assert answers == sorted(answers, reverse=True)


async def _accepted(client: Client, number: int) -> int:
    try:
        return int((await client.answer(number))["accepted"])
    except StdinClosed as closed:
        return int(closed.data["accepted"])


@in_loop
async def test_everything_that_it_showed_is_logged_before_its_next_life(tmp_path: Path) -> None:
    """The last words of each of twenty lives, in order."""
    script = (
        'n=$(cat n); echo $((n + 1)) >n; seq 200; printf "life %d ends" $n; [ $n -lt 20 ] || exec sleep 1000'
    )
    (tmp_path / "n").write_text("1\n")
    async with World(tmp_path) as world:
        terminal(world, script, directory=str(tmp_path))
        await world.until_logged(b"life 20 ends")
        life = b"".join(b"%d\r\n" % number for number in range(1, 201))
        await world.until_moved()
        assert world.log_of("web").read_bytes() == b"".join(life + b"life %d ends" % n for n in range(1, 21))


@in_loop
async def test_a_killed_logger_costs_no_byte_of_a_terminal(tmp_path: Path) -> None:
    """Ten times, while three megabytes are shown: all of it is in the log, once, in order."""
    async with World(tmp_path) as world:
        terminal(world, "for n in 1 2 3 4 5 6 7 8 9 10; do seq 50000; echo part $n; done; " + WAITS)
        for part in range(1, 11):
            await world.until_logged(b"part %d\r\n" % part)
            pid = world.logs.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda killed=pid: world.logs.pid not in {None, killed})
        lines = b"".join(b"%d\r\n" % number for number in range(1, 50_001))
        expected = b"".join(lines + b"part %d\r\n" % part for part in range(1, 11))
        await until(lambda: len(world.log_of("web").read_bytes()) >= len(expected))
        assert world.log_of("web").read_bytes() == expected


@in_loop
async def test_its_death_hangs_up_and_a_stop_leaves_nobody(tmp_path: Path) -> None:
    """The foreground gets SIGHUP from the kernel; who ignores that is found by a stop as ever."""
    script = (
        "(trap '' TERM; trap 'echo hung up; exit' HUP; echo a >ready; while :; do sleep 0.01; done) & "
        "(trap '' HUP TERM; echo b >deaf; exec setsid sleep 1000) & "
        "while [ ! -e ready ]; do sleep 0.01; done; exec sleep 1000"
    )
    async with World(tmp_path) as world:
        terminal(world, script, directory=str(tmp_path), stop_timeout_s=1.0)
        await until((tmp_path / "ready").exists)
        await until((tmp_path / "deaf").exists)
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        await world.until_moved()
        assert b"hung up" in world.log_of("web").read_bytes()


@in_loop
async def test_what_a_descendant_shows_later_is_logged_too(tmp_path: Path) -> None:
    """As with pipes: whoever still has the terminal open is read until it has let go."""
    script = (
        "(trap '' HUP TERM; setsid sh -c 'while [ ! -e go ]; do sleep 0.01; done; echo late') & "
        "[ -e once ] && exec sleep 1000; touch once; exit 0"
    )
    async with World(tmp_path) as world:
        terminal(world, script, directory=str(tmp_path))
        await until((tmp_path / "once").exists)
        (tmp_path / "go").touch()
        await world.until_logged(b"late\r\n")


@in_loop
async def test_closing_its_output_hangs_up(tmp_path: Path) -> None:
    """A terminal that nobody reads would hold its program for ever."""
    async with World(tmp_path) as world:
        terminal(world, "trap 'exit 9' HUP; echo there; while :; do sleep 0.01; done")
        await world.until_logged(b"there")
        life = world.runtime.life("web")
        assert life is not None
        client = await world.client()
        assert await client.call("close", program="web", stream="stdout") == {}
        await until(lambda: life.process.exit)
        assert life.process.exit is not None
        assert life.process.exit.code == 9


@in_loop
async def test_a_program_that_lets_go_of_its_terminal_lives_on_without(tmp_path: Path) -> None:
    """Nothing turns in circles, and who would type is told."""
    async with World(tmp_path) as world:
        terminal(world, "trap '' HUP; echo before; exec setsid --wait sleep 1000 </dev/null >/dev/null 2>&1")
        await world.until_logged(b"before")
        life = world.runtime.life("web")
        assert life is not None
        await until(lambda: life.process.descriptor(1).disconnected)
        assert world.program().state is State.RUNNING
        client = await world.client()
        assert (await client.refusal("write", program="web", data=b"x"))["code"] == "STDIN_CLOSED"
        assert (await client.refusal("close", program="web", stream="stdin"))["code"] == "STDIN_CLOSED"
        console(world).look("a", Size(10, 10))
        console(world).leave("a")


@needs_root
@in_loop
async def test_it_is_its_users_and_nobody_elses(tmp_path: Path) -> None:
    """Owner and mode; who owns it may open it again by its name."""
    async with World(tmp_path) as world:
        terminal(
            world, "stat -c '%u %a' $(tty); echo again >$(tty); " + WAITS,
            credentials=credentials_for(NOBODY, None),
        )  # fmt: skip
        await world.until_logged(b"%d 600\r\nagain\r\n" % NOBODY)


@in_loop
async def test_no_terminal_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when only the second descriptor of it cannot be had; nothing is left (counted afterwards)."""
    real = os.dup

    def fail(fd: int) -> int:
        if stat.S_ISCHR(os.fstat(fd).st_mode):
            raise OSError(errno.EMFILE, "no more")
        return real(fd)

    async with World(tmp_path) as world:
        with monkeypatch.context() as patch:
            patch.setattr(os, "dup", fail)
            world.add(world.spec("web", WAITS, terminal=True, stdin=Input.PIPE))
            await world.until_state(State.BACKOFF)
        assert re.search("terminal failed", str(world.program().cause))


SIZES = "trap 'stty size' WINCH; echo set; while :; do sleep 0.01; done"


@in_loop
async def test_viewers_share_the_smallest_size(tmp_path: Path) -> None:
    """Rows and columns each for itself; who leaves gives room; the last size stays."""
    async with World(tmp_path) as world:
        there = terminal(world, SIZES)
        await world.until_logged(b"set")
        there.look("a", Size(50, 100))
        await world.until_logged(b"50 100\r\n")
        there.look("b", Size(60, 90))
        await world.until_logged(b"50 90\r\n")
        there.look("b", Size(40, 120))
        await world.until_logged(b"40 100\r\n")
        there.leave("a")
        await world.until_logged(b"40 120\r\n")
        there.leave("b")
        there.leave("b")
        there.look("c", Size(41, 120))
        await world.until_logged(b"41 120\r\n")
        sizes = [line for line in world.log_of("web").read_bytes().split(b"\r\n") if b" " in line]
        assert sizes == [b"50 100", b"50 90", b"40 100", b"40 120", b"41 120"]


@in_loop
async def test_a_viewer_of_the_same_size_has_everything_drawn_anew(tmp_path: Path) -> None:
    """By a size that is different for a moment: a program that compares sizes sees a change."""
    async with World(tmp_path) as world:
        there = terminal(world, SIZES)
        await world.until_logged(b"set")
        there.look("a", Size(24, 80))
        await world.until_logged(b"23 80\r\n24 80\r\n")
        there.look("b", Size(24, 80))
        await world.until_logged(b"23 80\r\n24 80\r\n23 80\r\n24 80\r\n")
        there.look("b", Size(24, 80))
        there.look("c", Size(1, 80))
        await world.until_logged(b"\n1 80\r\n")
        there.look("d", Size(1, 80))
        await world.until_logged(b"\n1 80\r\n2 80\r\n1 80\r\n")


@in_loop
async def test_a_redraw_that_a_resize_or_the_end_overtakes_is_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer of the moment sets what is right then, and does not outlive the life."""
    monkeypatch.setattr(consoles, "REDRAW_S", 0.3)
    async with World(tmp_path) as world:
        there = terminal(world, SIZES)
        await world.until_logged(b"set")
        there.look("a", Size(24, 80))
        there.look("a", Size(30, 80))
        await world.until_logged(b"30 80\r\n")
        there.look("b", Size(30, 80))
        client = await world.client()
        await client.call("stop", programs=["web"])
        assert there._settling is None
        await asyncio.sleep(0)
        assert b"24 80" not in world.log_of("web").read_bytes()
