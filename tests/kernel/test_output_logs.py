"""Lives, their logs and a real logger under the runtime: order, ends, changes, and whose child it is."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from procd.config import capabilities
from procd.config.spec import Check, CheckKind, LogFormat, LogSpec, Output
from procd.core import Change, State, Stop
from procd.output.logs import Watcher
from procd.output.streams import StreamKey
from procd.process.tree import direct_children
from tests.kernel.children import in_loop, needs_root, open_descriptors, status_of, until
from tests.world import TEST, WAITS, World

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec

WEB = StreamKey("web", "stdout")


def links(directory: str) -> set[str]:
    """What the descriptors of a process are, without the numbers of those that have one."""
    return {str(each.readlink()).partition(":")[0] for each in Path(directory).iterdir()}


def link_of(place: str) -> str:
    """Where a link leads."""
    return str(Path(place).readlink())


def contains(path: Path, content: bytes) -> bool:
    """Whether a file has something in it; one that is not there has not."""
    return path.exists() and content in path.read_bytes()


def until_logger(world: World) -> int:
    """The PID of the logger, which is there at once."""
    assert world.logs.pid is not None
    return world.logs.pid


def in_place(world: World, spec: ProgramSpec) -> None:
    """Reload, with another spec for a program that runs."""
    world.runtime.submit(Change(spec, TEST, False))


@in_loop
async def test_the_logger_is_our_child_and_nobodys_program(tmp_path: Path) -> None:
    """A stop finds all children known, so it needs no look at /proc; and what it kills is not the logger."""
    async with World(tmp_path) as world:
        logger = until_logger(world)
        assert logger in world.runtime.around.reaper.pids
        assert logger in world.runtime._strangers()
        world.add(world.spec())
        await world.until_state(State.RUNNING)
        children = direct_children()
        assert children is not None
        assert children == {logger, world.program().pid}
        assert children <= world.runtime.around.reaper.pids
        # One that has to be looked for, and killed.
        world.add(world.spec("forks", f"setsid sh -c 'trap \"\" TERM; {WAITS}' & {WAITS}", stop_timeout_s=0.2))
        world.runtime.submit(Stop("forks", TEST), Stop("web", TEST))
        await world.until_state(State.STOPPED, "forks")
        await world.until_state(State.STOPPED)
        assert world.logs.pid == logger
        assert direct_children() == {logger}


@in_loop
async def test_the_logger_hears_no_signal_that_ends_programs(tmp_path: Path) -> None:
    """It has a session of its own, starts in /, and has nothing open that it was not given."""
    async with World(tmp_path) as world:
        world.add(world.spec(command=f"echo hello; {WAITS}"))
        await world.until_logged(b"hello\n")
        logger = until_logger(world)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            os.kill(logger, number)
        await world.until_moved()
        assert os.getsid(logger) == logger != os.getsid(0)
        kinds = {"socket", "pipe", "anon_inode", "/dev/null", "/memfd", str(world.log_of("web"))}
        assert links(f"/proc/{logger}/fd") <= kinds | {link_of("/proc/self/fd/1"), link_of("/proc/self/fd/2")}
        assert link_of(f"/proc/{logger}/cwd") == "/"


@needs_root
@in_loop
async def test_the_logger_of_root_has_two_capabilities(tmp_path: Path) -> None:
    """It writes anybody's directories, and enlarges pipes; nothing else, and it will get nothing."""
    async with World(tmp_path) as world:
        place = Path(f"/proc/{until_logger(world)}")
        await until(lambda: contains(place / "cmdline", b"procd.output.logger"))
        status = status_of((place / "status").read_bytes())
        wanted = {capabilities.NAMES.index(name) for name in ("DAC_OVERRIDE", "SYS_RESOURCE")}
        mask = sum(1 << number for number in wanted & capabilities.own())
        for field in ("CapEff", "CapPrm", "CapBnd"):
            assert int(status[field], 16) == mask, field
        assert status["NoNewPrivs"] == "1"


@in_loop
async def test_what_an_old_life_left_comes_before_what_a_new_one_writes(tmp_path: Path) -> None:
    """Of many short lives, each with more than one write, all in order."""
    script = 'n=$(cat n); echo $((n + 1)) >n; seq -f "$n.%g" 100; [ $n -lt 30 ] || exec sleep 1000'
    (tmp_path / "n").write_text("1\n")
    async with World(tmp_path) as world:
        world.add(world.spec(command=script, directory=str(tmp_path)))
        await world.until_logged(b"30.100\n")
        wanted = [b"%d.%d" % (life, line) for life in range(1, 31) for line in range(1, 101)]
        assert world.log_of("web").read_bytes().split() == wanted


@in_loop
async def test_descriptors_are_those_of_the_pipes_that_are_open(tmp_path: Path) -> None:
    """One for each stream of a life, until all of it is in the log; none for what has ended."""
    async with World(tmp_path) as world:
        world.add(world.spec("warm", WAITS))
        await world.until_state(State.RUNNING, "warm")
        before = len(open_descriptors())
        specs = [world.spec(f"p{number}", f"echo hello; {WAITS}", stderr=Output.LOG) for number in range(10)]
        world.add(*specs)
        for spec in specs:
            await world.until_logged(b"hello\n", spec.name)
        assert len(open_descriptors()) == before + 20
        world.runtime.submit(*(Stop(spec.name, TEST) for spec in specs))
        for spec in specs:
            await world.until_state(State.STOPPED, spec.name)
        await until(lambda: len(open_descriptors()) == before)


@in_loop
async def test_a_followers_stream_of_a_removed_program_ends_when_all_is_in_the_log(tmp_path: Path) -> None:
    """It is told that the log is over after the last words, and the log has them."""
    async with World(tmp_path) as world:
        world.add(world.spec(command="trap 'seq 20000; exit' TERM; echo ready; while :; do sleep 0.01; done"))
        await world.until_logged(b"ready\n")
        sizes: list[int] = []
        world.logs.watch(WEB, Watcher(lambda: None, lambda _: sizes.append(world.log_of("web").stat().st_size)))
        world.remove("web")
        await until(lambda: sizes)
        content = world.log_of("web").read_bytes().replace(b"Terminated\n", b"")
        assert content == b"ready\n" + b"".join(b"%d\n" % number for number in range(1, 20001))
        assert sizes == [world.log_of("web").stat().st_size]


@in_loop
async def test_a_logger_that_was_killed_is_another_one_for_everybody(tmp_path: Path) -> None:
    """Programs and followers go on; the event says so."""
    async with World(tmp_path) as world:
        script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.001; done"
        world.add(world.spec(command=script))
        grown: list[int] = []
        world.logs.watch(WEB, Watcher(lambda: grown.append(world.logs.reaches(WEB)), lambda _: None))
        for _ in range(5):
            logger = until_logger(world)
            count = len(grown)
            await until(lambda count=count: len(grown) > count + 2)
            os.kill(logger, signal.SIGKILL)
            await until(lambda logger=logger: world.logs.pid not in {logger, None})
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        await world.until_moved()
        lines = world.log_of("web").read_bytes().split()
        assert lines == [b"%d" % number for number in range(len(lines))]
        events = [each for each in world.runtime.journal.since(0, 1000) if each.type == "logger ended"]
        assert len(events) == 5


@in_loop
async def test_a_log_that_is_changed_in_place_is_kept_so_at_once(tmp_path: Path) -> None:
    """Its format and its path; and a stream that has none any more gives its file free with the next life."""
    async with World(tmp_path) as world:
        script = f"while :; do echo hello; sleep 0.01; done & {WAITS}"
        world.add(world.spec(command=script))
        await world.until_logged(b"hello\n")
        pid = world.program().pid
        moved = LogSpec(str(tmp_path / "moved.log"), format=LogFormat.TIMESTAMP)
        in_place(world, world.spec(command=script, stdout_log=moved))
        await until(lambda: contains(tmp_path / "moved.log", b"Z hello\n"))
        assert world.program().pid == pid
        assert set(world.log_of("web").read_bytes().splitlines()) == {b"hello"}
        world.runtime.submit(Change(world.spec(command=script, stdout=Output.NULL), TEST, True))
        await until(lambda: world.program().state is State.RUNNING and world.program().pid != pid)
        assert not world.logs.keeps(WEB)
        world.add(world.spec("other", f"echo mine; {WAITS}", stdout_log=moved))
        await until(lambda: contains(tmp_path / "moved.log", b"Z mine\n"))


@in_loop
async def test_a_line_that_means_ready_is_found_whatever_is_rotated_meanwhile(tmp_path: Path) -> None:
    """In each format, between the first output of a life and the line there are many files."""
    async with World(tmp_path) as world:
        for kind in LogFormat:
            log = LogSpec(str(tmp_path / f"{kind.value}.log"), max_size=2000, keep=1000, format=kind)
            ready = Check(kind=CheckKind.LOG, pattern=r'^it "is" \xffready$')
            script = f"seq 3000; sleep 0.1; seq 3000; printf 'it \"is\" \\377ready\\n'; {WAITS}"
            world.add(world.spec(kind.value, script, stdout_log=log, ready=ready, start_timeout_s=60.0))
        for kind in LogFormat:
            await world.until_state(State.RUNNING, kind.value)
            assert (tmp_path / f"{kind.value}.log.5").exists()
            # Of a later life, only its own lines count.
            assert world.runtime.life(kind.value).log_starts["stdout"] == 0


@in_loop
async def test_a_line_of_an_earlier_life_means_nothing(tmp_path: Path) -> None:
    """Also when it stands at the very end of the log."""
    script = f"if [ -e again ]; then exec sleep 1000; fi; touch again; echo ready; {WAITS}"
    ready = Check(kind=CheckKind.LOG, pattern="ready")
    async with World(tmp_path) as world:
        world.add(world.spec(command=script, directory=str(tmp_path), ready=ready, start_timeout_s=1000.0))
        await world.until_state(State.RUNNING)
        os.kill(world.program().pid or 0, signal.SIGKILL)
        await until(lambda: world.program().restarts == 1 and world.program().state is State.STARTING)
        await until(lambda: world.runtime.life("web").log_starts == {"stdout": 6})
        world.logs.write(WEB, b"nothing\n")
        await until(lambda: world.logs.reaches(WEB) == 14)
        await world.until_moved()
        assert world.program().state is State.STARTING
