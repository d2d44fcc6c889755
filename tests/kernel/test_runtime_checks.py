"""Readiness, health, hooks and sockets under the runtime, with real children."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from procctl.render_why import explanation
from procd.checks.notification import Notification
from procd.config.spec import Check, CheckKind, Health, Hooks, Kind, Restart, SocketSpec
from procd.core import Desired, State, Stop
from procd.runtime.explanation import why
from procd.runtime.record import record
from tests.kernel.children import in_loop, until
from tests.world import TEST, WAITS, World

PROGRAMS = Path(__file__).parent.parent / "programs"
NOTIFY = Check(kind=CheckKind.NOTIFY)


def heir(*arguments: str) -> list[str]:
    """The program that names another main process."""
    return [sys.executable, "-I", str(PROGRAMS / "names_its_heir.py"), *arguments]


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@in_loop
async def test_a_program_may_name_another_of_its_processes_as_its_main_process(tmp_path: Path) -> None:
    """The first one leaves without an end; signals go to the heir, and its status is the program's."""
    async with World(tmp_path) as world:
        world.runtime.checking.open(str(tmp_path / "notify"))
        world.add(world.spec(command=heir(), ready=NOTIFY))
        await world.until_state(State.RUNNING)
        life = world.runtime.life("web")
        assert life is not None
        await until(lambda: life.process.exited)
        pid = world.program().pid
        assert pid is not None
        assert pid != life.pid
        assert world.program().state is State.RUNNING
        assert life.status == "handed over"
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        assert world.program().exit is not None
        assert world.program().exit.code == 7
        assert not os.path.exists(f"/proc/{pid}")  # noqa: ASYNC240, PTH110 - a file of the kernel


@in_loop
async def test_a_heir_that_is_killed_is_an_end_of_the_program(tmp_path: Path) -> None:
    """And the program is started again."""
    async with World(tmp_path) as world:
        world.runtime.checking.open(str(tmp_path / "notify"))
        world.add(world.spec(command=heir(), ready=NOTIFY))
        await world.until_state(State.RUNNING)
        life = world.runtime.life("web")
        assert life is not None
        # As long as the first process lives, the heir is its child, and only it can know how the heir ended.
        await until(lambda: life.process.exited)
        first = world.program().pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: world.program().restarts == 1)
        assert world.program().exit is not None
        assert world.program().exit.signal == signal.SIGKILL


@in_loop
async def test_programs_that_are_ready_before_they_are_asked_are_ready(tmp_path: Path) -> None:
    """Many that are started at once speak while others are still being started, which goes before."""
    says = "import os, signal, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)"
    says += "; s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']); signal.pause()"
    names = [f"p{number}" for number in range(60)]
    async with World(tmp_path) as world:
        world.runtime.checking.open(str(tmp_path / "notify"))
        command = [sys.executable, "-I", "-S", "-c", says]
        world.add(*(world.spec(name, command, ready=NOTIFY) for name in names))
        await until(lambda: all(world.program(name).state is State.RUNNING for name in names))


@in_loop
async def test_a_main_pid_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    """Naming PID 1 changes nothing: it would be signalled with the next stop (CVE-2018-16888)."""
    async with World(tmp_path) as world:
        world.runtime.checking.open(str(tmp_path / "notify"))
        world.add(world.spec(command=heir("outsider"), ready=NOTIFY))
        await world.until_state(State.RUNNING)
        life = world.runtime.life("web")
        assert life is not None
        assert world.program().pid == life.pid


@in_loop
async def test_a_newline_on_its_descriptor_makes_a_program_ready(tmp_path: Path) -> None:
    """Until then it is STARTING; neither end of the pipe is left open in procd when it has ended."""
    before = open_descriptors()
    async with World(tmp_path) as world:
        go = tmp_path / "go"
        script = f"until [ -e {go} ]; do sleep 0.01; done; echo >&4; exec 4>&-; {WAITS}"
        world.add(world.spec(command=script, ready=Check(kind=CheckKind.FD, fd=4)))
        await until(lambda: world.program().pid is not None)
        assert world.program().state is State.STARTING
        go.touch()
        await world.until_state(State.RUNNING)
    assert open_descriptors() == before


@in_loop
async def test_a_line_in_the_log_makes_a_program_ready_in_each_life_anew(tmp_path: Path) -> None:
    """What an earlier life has written does not count."""
    async with World(tmp_path) as world:
        script = f"[ -e {tmp_path}/quiet ] || echo listening on 80; {WAITS}"
        check = Check(kind=CheckKind.LOG, pattern="^listening on [0-9]+$")
        world.add(world.spec(command=script, ready=check))
        await world.until_state(State.RUNNING)
        (tmp_path / "quiet").touch()
        pid = world.program().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: world.program().pid not in {None, pid})
        assert world.program().state is State.STARTING
        assert "listening on" in world.runtime.checking.reason("web")


@in_loop
async def test_a_program_that_fails_its_health_check_is_restarted(tmp_path: Path) -> None:
    """After as many failures as were allowed, with the reason."""
    async with World(tmp_path) as world:
        sick = tmp_path / "sick"
        check = Check(kind=CheckKind.COMMAND, command=("test", "!", "-e", str(sick)), interval_s=0.02)
        world.add(world.spec(health=Health(check=check, failures=2)))
        await until(lambda: world.program().health is True)
        sick.touch()
        await until(lambda: world.program().restarts == 1)
        reasons = [each.cause.text for each in world.program().history]
        assert any("unhealthy" in reason for reason in reasons)
        sick.unlink()
        await until(lambda: world.program().health is True)


@in_loop
async def test_hooks_run_around_a_life_in_their_order_and_write_to_its_log(tmp_path: Path) -> None:
    """Before the start, after it is ready, before the stop and after it."""
    async with World(tmp_path) as world:
        hooks = Hooks(
            before_start=("echo", "before start"),
            after_ready=("echo", "after ready"),
            before_stop=("echo", "before stop"),
            after_stop=("echo", "after stop"),
        )
        world.add(
            world.spec(
                command=f"echo life; trap 'echo stopping; exit' TERM; {WAITS.removeprefix('exec ')} & wait",
                hooks=hooks,
            )
        )
        await world.until_logged(b"after ready")
        await world.until_logged(b"life")
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        await world.until_moved()
        lines = world.log_of("web").read_bytes().splitlines()
        assert lines[0] == b"before start"
        assert set(lines[1:3]) == {b"life", b"after ready"}
        assert lines[3:] == [b"before stop", b"stopping", b"after stop"]


@in_loop
async def test_a_failing_hook_before_the_start_prevents_it(tmp_path: Path) -> None:
    """The program is never executed, and its state says why."""
    async with World(tmp_path) as world:
        hooks = Hooks(before_start=("false",))
        world.add(world.spec(command="touch ran", directory=str(tmp_path), hooks=hooks, restart=Restart.NEVER))
        await world.until_state(State.FATAL)
        assert "before_start" in str(world.program().cause)
        assert not (tmp_path / "ran").exists()


@in_loop
async def test_a_hook_that_takes_too_long_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    """And counts as one that failed."""
    async with World(tmp_path) as world:
        hooks = Hooks(
            before_start=("sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/child; wait"), timeout_s=0.3
        )
        world.add(world.spec(hooks=hooks, restart=Restart.NEVER))
        await world.until_state(State.FATAL)
        assert "did not end within 300ms" in str(world.program().cause)
        child = int((tmp_path / "child").read_text())
        await until(lambda: not Path(f"/proc/{child}").exists())


@in_loop
async def test_a_socket_of_procd_is_passed_as_systemd_passes_it(tmp_path: Path) -> None:
    """LISTEN_FDS, LISTEN_FDNAMES, and LISTEN_PID with the program's own PID; it survives a restart."""
    async with World(tmp_path) as world:
        path = tmp_path / "socket"
        world.runtime.around.sockets.replace({"http": SocketSpec(name="http", path=str(path))})
        script = (
            'echo "$LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$))"; readlink /proc/$$/fd/3; exec sleep 1000'
        )
        world.add(world.spec(command=script, sockets=("http",)))
        await world.until_logged(b"1 http 0\nsocket:")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            pid = world.program().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: world.log_of("web").read_bytes().count(b"1 http 0\n") == 2)
        world.runtime.around.sockets.replace({})
        assert not path.exists()


@in_loop
async def test_a_oneshot_that_succeeds_is_done(tmp_path: Path) -> None:
    """It is EXITED and stays so, whatever `restart` says."""
    async with World(tmp_path) as world:
        world.add(world.spec(command="exit 0", kind=Kind.ONESHOT))
        await world.until_state(State.EXITED)
        assert world.program().desired is Desired.UP
        assert world.program().restarts == 0


@in_loop
async def test_what_a_program_says_that_it_does_is_shown_until_it_is_ready_again(tmp_path: Path) -> None:
    """RELOADING and STOPPING, with and without words; each is an event, and the states stay what they are."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=WAITS, ready=NOTIFY))
        await until(lambda: world.runtime.life("web") is not None)
        hear, life = world.runtime.checking._hear, world.runtime.life("web")
        assert life is not None
        hear("web", Notification(ready=True))
        hear("web", Notification(reloading=True))
        assert (record(world.runtime, world.program())["status_text"], life.status) == (
            "says that it is reloading",
            "",
        )
        hear("web", Notification(status="12 of 13"))
        assert life.says == "reloading: 12 of 13"
        explained = explanation(why(world.runtime, "web")).splitlines()
        assert "  of itself: reloading: 12 of 13" in explained
        assert world.program().state is State.RUNNING
        hear("web", Notification(ready=True))
        assert life.says == "12 of 13"
        hear("web", Notification(stopping=True, status=""))
        assert life.says == "says that it is stopping"
        said = [each for each in world.runtime.journal.since(0, 100) if each.type == "says"]
        assert [each.to_wire()["phase"] for each in said] == ["reloading", "ready", "stopping"]
