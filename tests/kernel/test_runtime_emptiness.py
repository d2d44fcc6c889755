"""Stopped means empty: whatever a program leaves behind is told to stop, killed at the deadline, and named."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from procd.core import Restart, Start, State, Stop
from tests.kernel.children import in_loop, until
from tests.world import DEAF, TEST, WAITS, World

#: Runs a script as a daemon does: in a session of its own, its parent gone, its PID in the log.
DAEMON = "(setsid sh -c '{0}' &); "
QUIET_DAEMON = DAEMON.format("echo daemon $$; exec sleep 1000")
DEAF_DAEMON = DAEMON.format('trap "" TERM; echo daemon $$; exec sleep 1000')


def alive(pid: int) -> bool:
    """Whether a process lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def name_of(pid: int) -> bytes:
    """What a process calls itself."""
    return Path(f"/proc/{pid}/comm").read_bytes()


async def daemon_of(world: World) -> int:
    """The PID that a daemon wrote to the log of its program."""
    await world.until_logged(b"daemon ")
    await until(lambda: re.search(rb"daemon \d+\n", world.log_of("web").read_bytes()))
    return int(world.log_of("web").read_bytes().partition(b"daemon ")[2].split()[0])


@in_loop
async def test_a_daemon_is_found_and_told_to_stop(tmp_path: Path) -> None:
    """It gets the stop signal, cleans up, and only then is the program stopped; nobody had to be killed."""
    clean = 'trap "echo clean; exit 0" TERM; echo daemon $$; while :; do sleep 0.01; done'
    async with World(tmp_path) as world:
        world.add(world.spec(command=DAEMON.format(clean) + WAITS))
        daemon = await daemon_of(world)
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        assert not alive(daemon)
        assert world.log_of("web").read_bytes().endswith(b"clean\n")
        assert str(world.program().cause) == "test"


@in_loop
async def test_a_daemon_that_ignores_the_signal_is_killed_and_named(tmp_path: Path) -> None:
    """At the deadline, after the main process had gone in time."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=DEAF_DAEMON + WAITS, stop_timeout_s=0.1))
        daemon = await daemon_of(world)
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        assert not alive(daemon)
        assert f"(pid {daemon})" in str(world.program().cause)
        assert "killed" in str(world.program().cause)


@in_loop
async def test_a_daemon_is_killed_also_when_the_main_process_had_to_be(tmp_path: Path) -> None:
    """Both ignore SIGTERM: the deadline passes while the main process lives, and there is no other."""
    async with World(tmp_path) as world:
        command = DEAF_DAEMON + DEAF
        world.add(world.spec(command=command, stop_timeout_s=0.1))
        daemon = await daemon_of(world)
        await world.until_logged(b"deaf\n")
        main = world.program().pid
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        assert main is not None
        assert not alive(main)
        assert not alive(daemon)
        assert f"(pid {daemon})" in str(world.program().cause)


@in_loop
async def test_a_second_start_waits_until_the_first_life_is_empty(tmp_path: Path) -> None:
    """Never two lives side by side, however the restart was asked for."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=DEAF_DAEMON + WAITS, stop_timeout_s=0.1))
        daemon = await daemon_of(world)
        world.runtime.submit(Stop("web", TEST))
        world.runtime.submit(Start("web", TEST))
        assert world.program().state is State.STOPPING
        await world.until_state(State.RUNNING)
        assert not alive(daemon)


@in_loop
async def test_many_programs_that_ignore_the_signal_take_one_timeout(tmp_path: Path) -> None:
    """Their stops run side by side, and one look at /proc serves them all."""
    names = [f"web@{number}" for number in range(20)]
    async with World(tmp_path) as world:
        world.add(*(world.spec(name, DEAF, stop_timeout_s=0.2) for name in names))
        for name in names:
            await world.until_logged(b"deaf\n", name)
        before = world.runtime.around.loop.time()
        world.runtime.submit(*(Stop(name, TEST) for name in names))
        for name in names:
            await world.until_state(State.STOPPED, name)
        assert world.runtime.around.loop.time() - before < 20 * 0.2


@in_loop
async def test_who_is_left_in_the_group_of_a_crashed_program_does_not_meet_the_next_life(
    tmp_path: Path,
) -> None:
    """Its worker holds the port: it is killed before the restart."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=f"sleep 1000 & echo $!; {WAITS}"))
        await world.until_logged(b"\n")
        worker = int(world.log_of("web").read_bytes())
        main = world.program().pid
        assert main is not None
        os.kill(main, signal.SIGKILL)
        await until(lambda: world.program().restarts == 1 and world.program().pid not in {None, main})
        assert not alive(worker)


@in_loop
async def test_a_process_whose_name_is_no_text_can_be_told_of(tmp_path: Path) -> None:
    """PR_SET_NAME takes any bytes; the record of the program must still be one that can be sent."""
    rename = r'printf "\377\033[31m" > /proc/self/comm'
    async with World(tmp_path) as world:
        # The shell itself writes, so it is the shell that is renamed.
        deaf = f'trap "" TERM; echo daemon $$; {rename}; while :; do sleep 1000; done'
        world.add(world.spec(command=f"(setsid sh -c '{deaf}' &); {WAITS}", stop_timeout_s=0.1))
        daemon = await daemon_of(world)
        await until(lambda: name_of(daemon).startswith(b"\xff"))
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        reason = str(world.program().cause)
        assert "\\udcff\\x1b[31m" in reason
        client = await world.client()
        assert (await client.call("status"))["programs"][0]["reason"] == reason


@pytest.mark.parametrize("request_of", [Restart, Stop])
@in_loop
async def test_a_process_of_another_program_is_never_touched(
    tmp_path: Path, request_of: type[Restart | Stop]
) -> None:
    """Neither by a stop nor by a restart of its neighbour."""
    async with World(tmp_path) as world:
        world.add(world.spec("web"), world.spec("other", QUIET_DAEMON + WAITS))
        await world.until_logged(b"daemon ", "other")
        before = world.program("other").pid
        first = world.program("web").pid
        world.runtime.submit(request_of("web", TEST))
        await until(
            lambda: world.program("web").pid != first and world.program("web").state is not State.STOPPING
        )
        assert world.program("other").pid == before
        assert world.program("other").state is State.RUNNING
        assert alive(int(world.log_of("other").read_bytes().split()[-1]))
