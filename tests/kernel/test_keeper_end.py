"""How everything ends: the supervisor's last word, and the first process of a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.keeper_world import World, until, world

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A program that daemonizes, ignores SIGTERM, and has a chain of descendants that do so, too; it says where the
#: last one is.
DEAF_DAEMON = (
    "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); "
    "[os.fork() and time.sleep(1000) for _ in range(5)]; "
    "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(1000)"
)


def daemon(where: Path) -> list[str]:
    """Its argv; it writes its PID to the file."""
    return ["python", "-I", "-S", "-c", DEAF_DAEMON, str(where)]


@pytest.fixture
def kept() -> Iterator[World]:
    """A world in which a keeper can be started."""
    with world() as made:
        yield made


@pytest.mark.parametrize("status", [0, 1, 7, 143, 255])
def test_the_supervisors_last_word_is_the_keepers_status(kept: World, status: int) -> None:
    """It says so before it ends; the logger ends because its channel does, and is not killed."""
    logger = [sys.executable, "-I", "-S", "-c", "import os; os.read(3, 100)"]
    kept.start({"supervisor": kept.scripted("supervisor"), "logger": logger})
    supervisor = kept.up()
    supervisor(f"line.finish({status})")
    supervisor.tell("os._exit(99)")
    assert kept.ended() == status
    assert kept.processes() == {}


def test_a_last_word_is_meant_also_by_who_crashes_after_it(kept: World) -> None:
    """What it had to stop is stopped."""
    kept.start()
    supervisor = kept.up()
    supervisor("line.finish(4)")
    supervisor.kill()
    assert kept.ended() == 4


def test_what_the_supervisor_has_left_is_ended(kept: World) -> None:
    """Orphans are asked, and killed when they are deaf, with all that they have left in turn."""
    kept.start(grace=0.5)
    supervisor = kept.up()
    where = kept.stderr.parent / "daemon"
    supervisor(f"os.spawnv(os.P_NOWAIT, {sys.executable!r}, {daemon(where)})")
    until(lambda: where.exists() and where.read_text())
    supervisor("line.finish(0)")
    supervisor.tell("os._exit(0)")
    assert kept.ended() == 0
    assert kept.processes() == {}


def test_a_logger_that_does_not_end_is_killed_last(kept: World) -> None:
    """It has the time of everybody's grace to write down last words."""
    kept.start({name: kept.scripted(name) for name in ("supervisor", "logger")}, grace=0.2)
    supervisor, logger = kept.up(), kept.up("logger")
    supervisor("line.finish(3)")
    supervisor.tell("os._exit(0)")
    logger("until(lambda: line.lost)")
    assert kept.ended() == 3


# The first process of a container


def can_unshare() -> bool:
    """Whether a PID namespace can be made here."""
    command = ["unshare", "--fork", "--pid", "--mount-proc", "true"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


in_a_container = pytest.mark.skipif(
    not can_unshare(), reason="makes a PID namespace, which is not allowed here"
)


@pytest.fixture
def container(kept: World) -> World:
    """A keeper that is PID 1 of its namespace."""
    kept.start(prefix=["unshare", "--fork", "--kill-child", "--pid", "--mount-proc"], grace=0.5)
    return kept


@in_a_container
def test_as_init_it_reaps_whatever_comes_to_it(container: World) -> None:
    """Also what no procd has started; and it tells the supervisor."""
    supervisor = container.up()
    assert supervisor("os.getppid()") == 1
    # The supervisor is no subreaper here, so its grandchild becomes the init's.
    supervisor("middle = os.fork() or (os.fork() or os._exit(23), os._exit(0))")
    supervisor("os.waitpid(middle, 0)")
    supervisor("until(lambda: 'exit:1' in records)")
    supervisor("import struct")
    assert supervisor("os.WEXITSTATUS(struct.unpack_from('=i', records['exit:1'][0], 4)[0])") == 23
    assert "Z" not in container.processes().values()


@in_a_container
def test_as_init_it_survives_every_signal_and_passes_stops_on(container: World) -> None:
    """The kernel protects PID 1 only from signals that it has no handler for."""
    supervisor = container.up()
    supervisor("signal.signal(signal.SIGTERM, lambda n, _: signals.append(n))")
    init = keeper_of(container)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGALRM):
        if number != signal.SIGHUP:
            os.kill(init, number)
    os.kill(init, signal.SIGTERM)
    supervisor("until(lambda: signals == [signal.SIGTERM])")
    supervisor.tell("os.kill(os.getpid(), 9)")
    again = container.life()
    again("signal.signal(signal.SIGTERM, lambda n, _: signals.append(n))")
    again("line.up()")
    again("until(lambda: signals)")
    again("line.finish(42)")
    again.tell("os._exit(0)")
    assert container.ended() == 42


def keeper_of(container: World) -> int:
    """The PID, seen from here, of the init in the container."""
    pids = [*container.processes()]
    [init] = [pid for pid in pids if f"PPid:\t{container.pid}\n" in Path(f"/proc/{pid}/status").read_text()]
    return init


@in_a_container
def test_as_init_it_ends_everything_before_itself(container: World) -> None:
    """Daemons that nobody knows any more are asked, then killed; then comes the status."""
    supervisor = container.up()
    where = container.stderr.parent / "daemon"
    supervisor(f"os.spawnv(os.P_WAIT, {sys.executable!r}, {daemon(where)})")
    until(lambda: where.exists() and where.read_text())
    supervisor("line.finish(5)")
    supervisor.tell("os._exit(0)")
    assert container.ended() == 5
    assert container.processes() == {}
