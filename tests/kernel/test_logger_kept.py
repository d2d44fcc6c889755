"""A logger under a real keeper: it serves one supervisor after the other, and no byte is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from procd.config import capabilities
from procd.errors import SpawnError
from procd.keeper.line import Record
from procd.keeper.messages import lines
from procd.runtime.logger import KeptLogger
from procd.runtime.recalled import Recalled
from tests.kernel.children import PROGRAMS, in_loop, needs_root, our_children, status_of
from tests.kernel.children import until as until_async
from tests.kernel.keeper_world import Life, World, until, world
from tests.kernel.logger_daemon import whole_log, written
from tests.programs.output_random import content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from procd.runtime.present_memory import PresentMemory

COMMAND = [sys.executable, "-P", "-m", "procd.output.logger"]
CHILDREN = {
    "supervisor": [sys.executable, str(PROGRAMS / "logs_supervisor.py"), "supervisor"],
    "logger": COMMAND,
}
KILLS = 6
#: Of what each of three programs writes: what they need some of the kills for.
SIZES = {"raw": 30_000_000, "timestamp": 6_000_000, "json": 5_000_000}


@pytest.fixture
def kept() -> Iterator[World]:
    """A keeper of a logger and of a supervisor that is told what to do."""
    with world() as made:
        made.start(CHILDREN, longest=0.01)
        yield made


def command_of(pid: int) -> list[str]:
    """The command line of a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    return []


def loggers(kept: World) -> list[int]:
    """The loggers that live."""
    return [
        pid for pid, state in kept.processes().items() if state != "Z" and command_of(pid)[1:] == COMMAND[1:]
    ]


def the_logger(kept: World) -> int:
    """The one logger, as soon as there is one."""
    # In the moment of an exec it has no command line.
    found: list[int] = []

    def is_one() -> bool:
        found[:] = loggers(kept)
        return len(found) == 1

    until(is_one)
    return found[0]


def descriptors(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only how many


def another(kept: World, life: Life) -> Life:
    """Kill a supervisor; returns the next."""
    life.kill()
    life.close()
    return kept.life()


def finish(life: Life) -> None:
    """Wait until nothing is left in the pipes of programs that write no more."""
    until(lambda: life("here.left()") == 0)


@pytest.mark.parametrize(
    ("victims", "form"), [("both", "raw"), ("both", "json"), ("logger", "json"), ("supervisor", "timestamp")]
)
def test_every_byte_is_in_the_log_once_whoever_is_killed(
    kept: World, tmp_path: Path, victims: str, form: str
) -> None:
    """At any moment, their starts among them; while three programs write, and their logs are rotated."""
    size, seeds = SIZES[form], (1, 2, 3)
    life = kept.life()
    for seed in seeds:
        life(f"here.open('{seed}', '{tmp_path}/{seed}.log', '{form}', 1_000_000)")
        life(f"here.write('{seed}', {seed}, {size}, '{tmp_path}/last')")
    moments = random.Random(0)  # noqa: S311 - any moments
    for _ in range(KILLS):
        time.sleep(moments.uniform(0, 0.1))
        if victims != "supervisor":
            for pid in loggers(kept):
                os.kill(pid, signal.SIGKILL)
        if victims != "logger":
            life = another(kept, life)
    (tmp_path / "last").touch()
    finish(life)
    for seed in seeds:
        expected = content(seed, size)
        if form != "raw" and not expected.endswith(b"\n"):
            expected += b"\n"
        log = whole_log(tmp_path / f"{seed}.log")
        assert written(log, form) == expected
        last = (tmp_path / f"{seed}.log").stat().st_size
        assert life(f"here.extent('{seed}')") == (len(log) - last, len(log), 0)
    life = another(kept, life)
    assert life("here.recalled") == {"board": 3} | {str(seed): 0 for seed in seeds}


def test_nothing_is_left_of_earlier_supervisors(kept: World, tmp_path: Path) -> None:
    """No descriptor and no memory, of the logger as of the keeper, after ten of them."""
    life = kept.life()
    life(f"here.open('web', '{tmp_path}/web.log')")
    read_end, write_end = os.pipe()
    life("here.write('web', 1, 100)")
    assert life("here.synced('web')")
    finish(life)
    life = another(kept, life)
    assert life("here.synced('web')")
    pid = the_logger(kept)
    until(lambda: f"{tmp_path}/web.log" in links(pid))
    before = kept.descriptors(), descriptors(pid), kept.memory_kib()
    for _ in range(10):
        life = another(kept, life)
        life("here.left()")
    life("here.write('web', 2, 100)")
    assert life("here.synced('web')")
    finish(life)
    assert the_logger(kept) == pid
    until(lambda: (kept.descriptors(), descriptors(pid)) == before[:2])
    assert kept.memory_kib() < before[2] + 256
    assert whole_log(tmp_path / "web.log") == content(1, 100) + content(2, 100)
    os.close(read_end)
    os.close(write_end)


def links(pid: int) -> set[str]:
    """What is open in a process."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(each))  # noqa: PTH115 - of /proc
    return found


def test_a_logger_without_a_supervisor_goes_on(kept: World, tmp_path: Path) -> None:
    """What programs write meanwhile is in their logs before another supervisor has come."""
    size = 2_000_000
    life = kept.life()
    life(f"here.open('web', '{tmp_path}/web.log')")
    life(f"here.write('web', 1, {size})")
    life("here.left()")  # by then the logger was told
    os.kill(life.pid, signal.SIGSTOP)
    until(lambda: (tmp_path / "web.log").exists() and (tmp_path / "web.log").stat().st_size == size)
    os.kill(life.pid, signal.SIGCONT)
    finish(life)


def test_after_a_logger_has_closed_everything_it_serves_another_supervisor(kept: World, tmp_path: Path) -> None:
    """The keeper would start one that ends again: it does not end, and its files are closed."""
    life = kept.life()
    life(f"here.open('web', '{tmp_path}/web.log')")
    life("here.write('web', 1, 1000)")
    finish(life)
    pid = the_logger(kept)
    life("here.close()")
    assert f"{tmp_path}/web.log" not in links(pid)
    life = another(kept, life)
    life("here.write('web', 2, 1000)")
    assert life("here.synced('web')")
    finish(life)
    assert whole_log(tmp_path / "web.log") == content(1, 1000) + content(2, 1000)
    assert the_logger(kept) == pid
    assert "logger" not in kept.said()


def test_a_channel_for_which_no_descriptor_is_left_is_taken_all_the_same(kept: World, tmp_path: Path) -> None:
    """A logger all of whose descriptors are in use serves another supervisor."""
    life = kept.life()
    pid = the_logger(kept)
    paths = {f"{tmp_path}/{number}.log" for number in range(5)}
    for path in paths:
        life(f"here.open('{Path(path).stem}', '{path}')")
    until(lambda: paths <= links(pid))
    used = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    most = max(used) + 1
    assert used == {*range(most)}
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    life = another(kept, life)
    assert life("here.answers()")
    assert life("here.logger.pid") == pid


@needs_root
def test_a_logger_of_root_gives_up_its_rights_and_does_not_get_them_back(kept: World, tmp_path: Path) -> None:
    """Two capabilities are left: when it has begun, and when it has begun anew."""
    wanted = {capabilities.NAMES.index(name) for name in ("DAC_OVERRIDE", "SYS_RESOURCE")}
    mask = sum(1 << number for number in wanted & capabilities.own())
    life = kept.life()
    pid = the_logger(kept)
    for _ in range(2):
        life(f"here.open('web', '{tmp_path}/web.log')")
        until(lambda: f"{tmp_path}/web.log" in links(pid))
        status = status_of(Path(f"/proc/{pid}/status").read_bytes())
        for field in ("CapEff", "CapPrm", "CapBnd"):
            assert int(status[field], 16) == mask, field
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        life("here.close()")
        life = another(kept, life)
    assert the_logger(kept) == pid


# The keeper's death


def test_without_a_keeper_the_logger_goes_on_until_the_supervisor_is_gone_too(
    kept: World, tmp_path: Path
) -> None:
    """Whatever programs still write: whoever takes over waits for that."""
    life = kept.life()
    life(f"here.open('web', '{tmp_path}/web.log')")
    assert life("here.synced('web')")
    pid = the_logger(kept)
    os.kill(kept.pid, signal.SIGKILL)
    kept.ended()
    kept.until_said("logger: the keeper is gone")
    life("here.write('web', 1, 1000000)")
    finish(life)
    assert whole_log(tmp_path / "web.log") == content(1, 1_000_000)
    assert loggers(kept) == [pid]
    life("here.logs.attach(next(iter(here.logs._slots)).key, os.pipe()[0])")
    life.kill()
    until(lambda: loggers(kept) == [])


@pytest.mark.parametrize("at_once", [False, True], ids=["after the keeper", "with the keeper"])
def test_without_a_keeper_the_supervisor_starts_another_logger(
    kept: World, tmp_path: Path, at_once: bool
) -> None:
    """Again and again; also when the first dies in one moment with the keeper."""
    size = 4_000_000
    life = kept.life()
    life(f"here.open('web', '{tmp_path}/web.log', 'timestamp')")
    life(f"here.write('web', 1, {size})")
    first = the_logger(kept)
    earlier = {first}
    os.kill(life.pid, signal.SIGSTOP)
    if at_once:
        os.kill(first, signal.SIGKILL)
    os.kill(kept.pid, signal.SIGKILL)
    kept.ended()
    os.kill(life.pid, signal.SIGCONT)
    if not at_once:
        os.kill(first, signal.SIGKILL)
    for _ in range(3):
        until(lambda: {*loggers(kept)} - earlier)
        (pid,) = loggers(kept)
        earlier.add(pid)
        os.kill(pid, signal.SIGKILL)
    finish(life)
    expected = content(1, size)
    if not expected.endswith(b"\n"):
        expected += b"\n"
    assert written(whole_log(tmp_path / "web.log"), "timestamp") == expected


# A logger that an earlier keeper has started


class FakeMemory:
    """What is recorded, and what is given to the logger, without a keeper."""

    def __init__(self) -> None:
        self.lost = False
        self.given: list[int] = []
        self.dropped: list[str] = []
        self.kept: dict[str, tuple[int, ...]] = {}

    def give(self, child: str, key: str, value: bytes, fds: Sequence[int] = ()) -> bool:
        """Take note of the inode of a channel."""
        assert (child, key, value) == ("logger", "channel", b"")
        self.given.append(os.fstat(fds[0]).st_ino)
        return True

    def put(self, key: str, _: bytes, fds: Sequence[int] = ()) -> bool:
        """Keep descriptors."""
        self.kept[key] = tuple(map(os.dup, fds))
        return True

    def drop(self, key: str) -> bool:
        """Take note of it."""
        self.dropped.append(key)
        return True


class Fallback:
    """Starts `sleep` instead of a logger."""

    stays = False

    def __init__(self) -> None:
        self.started: list[int] = []
        self.pid = 0

    def __call__(self, channel: int, on_end: Callable[[str], None]) -> Fallback:  # noqa: ARG002 - nobody is served
        """Start one."""
        self.pid = sleep()
        self.started.append(self.pid)
        return self

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)


def sleep() -> int:
    """Start a process that does nothing."""
    return os.posix_spawnp("sleep", ["sleep", "1000"], os.environ)


def kept_logger(memory: FakeMemory, fallback: Fallback) -> KeptLogger:
    """A logger of this memory."""
    return KeptLogger(asyncio.get_running_loop(), cast("PresentMemory", memory), fallback)


@in_loop
async def test_a_channel_waits_for_the_death_of_the_logger_before_it() -> None:
    """That of a keeper that was killed is killed; also the one that the supervisor itself had started then."""
    memory, fallback = FakeMemory(), Fallback()
    first = kept_logger(memory, fallback)
    memory.lost = True
    first.keeper_lost()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        first.start(channel.fileno(), lambda _: None)
        (old,) = fallback.started
        # Another keeper is told of it.
        memory.lost = False
        first.keep()
        first.close()
        os.kill(old, signal.SIGSTOP)
        ((key, fds),) = memory.kept.items()
        second = kept_logger(memory, fallback)
        second.adopt(Recalled([Record(key, b"", fds)]))
        second.start(channel.fileno(), lambda _: None)
        # Whether it is dead is known to the loop, which had no turn yet.
        assert memory.given == []
        assert memory.dropped == []
        await until_async(lambda: memory.given)
        await until_async(lambda: old not in our_children())
        assert memory.given == [os.fstat(channel.fileno()).st_ino]
        assert memory.dropped == [key]
        assert len(fallback.started) == 1
        second.close()


@in_loop
async def test_none_is_started_beside_one_that_lives() -> None:
    """Whoever served somebody else is killed, and it is tried again."""
    memory, fallback = FakeMemory(), Fallback()
    logger = kept_logger(memory, fallback)
    keepers = sleep()
    logger.told(Record("child:logger", lines(pid=keepers, starts=1, last_end=""), ()))
    memory.lost = True
    logger.keeper_lost()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        with pytest.raises(SpawnError):
            logger.start(channel.fileno(), lambda _: None)
        assert fallback.started == []
        await until_async(lambda: logger._pidfd < 0)
        assert logger.start(channel.fileno(), lambda _: None) is fallback
    logger.close()
    assert our_children() == {fallback.pid}
    fallback.kill()
