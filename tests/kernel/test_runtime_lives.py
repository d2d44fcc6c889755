"""Real lives under the runtime: spawn, end, restart, and what their output and their user find."""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
import signal
import sys
import time
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from procd.config.spec import Backoff, Credentials, Input, LogSpec, OnError, Output
from procd.core import Change, Start, State, Stop
from procd.runtime import runtime
from procd.runtime.explanation import why
from procd.runtime.present_memory import RecordedValues
from procd.runtime.record import record
from tests.kernel.children import NOBODY, PROGRAMS, in_loop, needs_root, until
from tests.world import TEST, WAITS, World

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@in_loop
async def test_a_program_runs_and_its_output_is_in_its_log(tmp_path: Path) -> None:
    """From Add to the first line, and to STOPPED with the exit known."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=f"echo $PROCD_PROGRAM; {WAITS}"))
        assert world.program().state is State.RUNNING
        await world.until_logged(b"web\n")
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        assert world.program().exit is not None
        assert world.program().exit.signal == signal.SIGTERM
        assert world.runtime.life("web") is None


@in_loop
async def test_a_program_that_dies_comes_back_and_nothing_of_its_output_is_out_of_order(tmp_path: Path) -> None:
    """Twenty lives, each of which writes its last words; every line once, in order."""
    script = "n=$(cat count 2>&- || echo 0); echo $((n + 1)) > count; echo $n; [ $n -lt 20 ] || exec sleep 1000"
    async with World(tmp_path) as world:
        world.add(world.spec(command=script, directory=str(tmp_path)))
        await world.until_logged(b"20\n")
        assert world.log_of("web").read_bytes() == b"".join(b"%d\n" % number for number in range(21))
        assert world.program().restarts == 20


@in_loop
async def test_a_command_that_does_not_exist_costs_one_try_for_each_step_of_the_backoff(tmp_path: Path) -> None:
    """The reason says which stage failed, and nothing stays open."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=["/nowhere"], backoff=Backoff(initial_s=1000, max_s=1000)))
        assert world.program().state is State.BACKOFF
        assert "exec '/nowhere' failed: No such file or directory (ENOENT)" in str(world.program().cause)
        assert world.runtime.life("web") is None


@in_loop
async def test_a_log_that_cannot_be_opened_stops_nobody(tmp_path: Path) -> None:
    """The program runs, what is wrong is shown and is an event; set right, all that came is logged."""
    async with World(tmp_path) as world:
        world.log_of("web").mkdir()
        log = LogSpec(str(world.log_of("web")), on_error=OnError.BLOCK)
        world.add(world.spec(command=f"echo kept; {WAITS}", stdout_log=log))
        await until(lambda: world.logs.trouble_of("web"))
        row = record(world.runtime, world.program())
        assert row["state"] == "RUNNING"
        assert row["reason"] == "log: Is a directory"
        assert row["streams"]["stdout"]["trouble"] == "Is a directory"
        assert why(world.runtime, "web")["reason"] == "log: Is a directory"
        world.log_of("web").rmdir()
        await world.until_logged(b"kept\n")
        await until(lambda: not world.logs.trouble_of("web"))
        assert record(world.runtime, world.program())["reason"] == "ready"
        noted = [each for each in world.runtime.journal.since(0, 100) if each.type.startswith("log ")]
        assert [(each.type, each.program) for each in noted] == [("log trouble", "web"), ("log well", "web")]


@in_loop
async def test_stderr_goes_where_it_is_told_to(tmp_path: Path) -> None:
    """With stdout in order, to a log of its own, or nowhere."""
    script = f"echo out; echo err >&2; echo done; {WAITS}"
    async with World(tmp_path) as world:
        world.add(
            world.spec("both", script),
            world.spec("apart", script, stderr=Output.LOG),
            world.spec("out", script, stderr=Output.NULL),
            world.spec("err", script, stdout=Output.NULL, stderr=Output.LOG),
            world.spec("none", script, stdout=Output.NULL),
        )
        for name in ("both", "apart", "out"):
            await world.until_logged(b"done\n", name)
        await until(lambda: (tmp_path / "err.err.log").read_bytes() == b"err\n")
        assert world.log_of("both").read_bytes() == b"out\nerr\ndone\n"
        assert world.log_of("apart").read_bytes() == b"out\ndone\n"
        assert (tmp_path / "apart.err.log").read_bytes() == b"err\n"
        assert world.log_of("out").read_bytes() == b"out\ndone\n"
        assert not world.log_of("none").exists()
        assert not (tmp_path / "out.err.log").exists()


@needs_root
@in_loop
async def test_a_program_of_another_user_can_open_its_stdout_again(tmp_path: Path) -> None:
    """As nginx does with /dev/stdout; the log itself it can not open."""
    user = Credentials(NOBODY, NOBODY, (), "nobody", "/", "/bin/sh")
    async with World(tmp_path) as world:
        world.add(world.spec(command=f"id -u; echo again > /dev/stdout; {WAITS}", credentials=user))
        await world.until_logged(b"again\n")
        assert world.log_of("web").read_bytes() == b"65534\nagain\n"
        assert world.log_of("web").stat().st_uid == 0


@in_loop
async def test_each_life_has_a_cookie_of_its_own(tmp_path: Path) -> None:
    """By which whatever it leaves behind is found; nobody else may give it one."""
    async with World(tmp_path) as world:
        world.add(world.spec(command='echo "<$PROCD_COOKIE>"', environment=(("PROCD_COOKIE", "mine"),)))
        await until(lambda: world.program().restarts >= 2)
        await world.until_moved()
        lines = world.log_of("web").read_bytes().split()
        assert len(lines) == len(set(lines))
        assert b"<mine>" not in lines


@in_loop
async def test_a_log_moves_with_the_next_life(tmp_path: Path) -> None:
    """A changed path is a restart; what the old life wrote stays in the old file."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=f"echo one; {WAITS}"))
        await world.until_logged(b"one\n")
        moved = world.spec(
            command=f"echo two; {WAITS}", stdout_log=type(world.program().spec.stdout_log)(f"{tmp_path}/b")
        )
        world.runtime.submit(Change(moved, TEST, restart=True))
        await until(lambda: (tmp_path / "b").exists() and (tmp_path / "b").read_bytes() == b"two\n")
        assert world.log_of("web").read_bytes() == b"one\n"


@in_loop
async def test_a_removed_program_leaves_its_log_and_no_descriptor(tmp_path: Path) -> None:
    """It is stopped, emptied and forgotten; it can come back under its name."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=f"echo one; {WAITS}"))
        await world.until_logged(b"one\n")
        world.remove("web")
        await until(lambda: "web" not in world.runtime.machine.programs)
        world.add(world.spec(command=f"echo two; {WAITS}"))
        await world.until_logged(b"one\ntwo\n")


@in_loop
async def test_a_stop_overtakes_a_spawn(tmp_path: Path) -> None:
    """Decided and not yet carried out: it is not started at all, and a later start finds it stopped."""
    async with World(tmp_path) as world:
        world.add(world.spec(), start=False)
        world.runtime._running = True  # as in the middle of a turn: what is decided is not carried out yet
        world.runtime.submit(Start("web", TEST))
        world.runtime.submit(Stop("web", TEST))
        assert world.program().state is State.STOPPING
        world.runtime._running = False
        world.runtime._run()
        assert world.program().state is State.STOPPED
        assert not world.log_of("web").exists()
        world.runtime.submit(Start("web", TEST))
        assert world.program().state is State.RUNNING


@in_loop
async def test_a_signal_that_is_not_permitted_stops_no_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that became another user is killed at its deadline all the same, as far as that goes."""
    async with World(tmp_path) as world:
        world.add(world.spec(stop_timeout_s=0.01))
        group = world.program().pid

        def refuse(number: int, _: int) -> None:
            raise PermissionError(1, f"not {number}")

        with monkeypatch.context() as patch, capture_logs() as logged:
            patch.setattr(os, "killpg", refuse)
            world.runtime.submit(Stop("web", TEST))
        assert [line["pid"] for line in logged if line["event"] == "program may not be signalled"] == [group]
        await world.until_state(State.STOPPED)
        assert "killed" in str(world.program().cause)


@in_loop
async def test_an_action_that_fails_leaves_the_others_and_the_clock_going(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours in one program is not the end of supervision."""
    async with World(tmp_path) as world:
        web, other = world.spec("web"), world.spec("other", min_uptime_s=0.01)

        def fail(name: str) -> None:
            raise RuntimeError(f"cannot hook {name}")

        spawn = world.runtime._spawn
        monkeypatch.setattr(world.runtime, "_spawn", lambda name: fail(name) if name == "web" else spawn(name))
        try:
            world.add(web, other)
        except RuntimeError as error:
            assert str(error) == "cannot hook web"  # noqa: PT017 - it may come here or from the loop
        await world.until_state(State.RUNNING, "other")
        monkeypatch.undo()
        world.runtime.submit(Stop("web", TEST))
        world.runtime._spawn("web")


@in_loop
async def test_a_turn_of_the_loop_has_one_turn_of_carrying_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often something happens in it: whoever asks for the status waits for one."""
    async with World(tmp_path) as world:
        monkeypatch.setattr(runtime, "TURN_S", -1.0)
        carried_out: list[object] = []
        carry_out = world.runtime._carry_out
        monkeypatch.setattr(
            world.runtime, "_carry_out", lambda action: (carried_out.append(action), carry_out(action))
        )
        for number in range(5):
            world.add(world.spec(f"web{number}", stdout=Output.NULL))
        counts = [len(carried_out)]
        while world.program("web4").state is not State.RUNNING:
            await asyncio.sleep(0)
            counts.append(len(carried_out))
        assert max(after - before for before, after in itertools.pairwise([0, *counts])) == 1
        monkeypatch.undo()


@in_loop
async def test_what_is_decided_is_recorded_before_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when this turn of the loop has had its turn of carrying out: whoever asked may be told at once."""
    memory = RecordedValues()
    async with World(tmp_path, memory) as world:
        world.add(*(world.spec(f"web{number}", stdout=Output.NULL) for number in range(3)))
        await world.until_state(State.RUNNING, "web2")
        monkeypatch.setattr(runtime, "TURN_S", -1.0)
        world.runtime.submit(Stop("web0", TEST), Stop("web1", TEST))
        world.runtime.submit(Stop("web2", TEST))
        assert b"down" in memory.values["program:web2"]
        monkeypatch.undo()


@in_loop
async def test_a_pipe_for_stdin_is_made_where_it_is_wanted(tmp_path: Path) -> None:
    """Otherwise it is /dev/null."""
    async with World(tmp_path) as world:
        world.add(world.spec("pipe", WAITS, stdin=Input.PIPE), world.spec("null", f"cat; echo end; {WAITS}"))
        await world.until_logged(b"end\n", "null")
        life = world.runtime.life("pipe")
        assert life is not None
        assert life.input is not None
        assert os.readlink(f"/proc/{life.pid}/fd/0").startswith("pipe:")  # noqa: PTH115 - it is no path


@in_loop
async def test_a_dead_program_does_not_become_a_running_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its group is waited for, past its `min_uptime`; its run was over when its main process died."""
    monkeypatch.setattr("procd.runtime.emptiness.CLEAN_UP_AFTER_S", 60.0)
    async with World(tmp_path) as world:
        command = shlex.join([sys.executable, str(PROGRAMS / "leaves_a_zombie.py")])
        backoff = Backoff(initial_s=60.0, max_s=60.0)
        began_s = time.monotonic()
        world.add(world.spec(command=f"exec {command}", min_uptime_s=0.5, backoff=backoff))
        await until(lambda: world.program().state is State.BACKOFF)
        assert time.monotonic() - began_s > 0.5, "nothing was left in its group, so this shows nothing"
        assert [each.new for each in world.program().history][-1:] == [State.BACKOFF]
        assert State.RUNNING not in {each.new for each in world.program().history}
        assert world.program().failures == 1
