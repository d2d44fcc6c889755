"""One owner of reaping: every status right, none stolen, none missed, no zombie, also under stress."""
# ruff: noqa: ASYNC220, ASYNC221, ASYNC222 - children beside the loop's are what is being tested

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import subprocess

import pytest

from procd.process import NULL, Exit, ProcessProtocol, Reaper, Settings
from procd.process.reaper import BATCH, _reapers, outcome_of
from tests.kernel.children import BOUND_S, Recorder, in_loop, our_children, start, until

QUIET = {0: NULL, 1: NULL, 2: NULL}


class Ends(ProcessProtocol):
    """Counts the ends of many."""

    def __init__(self, ends: dict[int, Exit]) -> None:
        self.ends = ends

    def process_ended(self, exit: Exit) -> None:  # noqa: A002, D102 - as declared
        assert self.process.pid not in self.ends
        self.ends[self.process.pid] = exit


@in_loop
async def test_two_thousand_children_that_exit_within_a_second() -> None:
    """Stopped and continued ones in between, some killed, each with a status of its own."""
    ends: dict[int, Exit] = {}
    expected: dict[int, tuple[int | None, int | None]] = {}
    gate, opener = os.pipe2(os.O_CLOEXEC)
    processes = []
    for number in range(2000):
        # All of them wait for the end of the same pipe, and so exit together.
        script = f"read x; exit {number % 250}"
        process = start(["sh", "-c", script], Ends(ends), child_fds={0: gate, 1: NULL, 2: NULL})
        processes.append(process)
        expected[process.pid] = (number % 250, None)
        if number % 50 == 0:
            await asyncio.sleep(0)
    os.close(gate)
    for process in processes[::10]:
        process.signal_process("STOP")
    for process in processes[5::10]:
        process.signal_process("KILL")
        expected[process.pid] = (None, signal.SIGKILL)
    for process in processes[::10]:
        process.signal_process("CONT")
    os.close(opener)
    await until(lambda: len(ends) == 2000)
    assert {pid: (end.code, end.signal) for pid, end in ends.items()} == expected
    assert our_children() == set()


@in_loop
async def test_orphans_of_a_subreaper_are_reaped_and_reported() -> None:
    """Unknown children, with their status; known ones are not among them."""
    Reaper.become_subreaper()
    orphans: dict[int, Exit] = {}
    Reaper.of(asyncio.get_running_loop()).on_orphan = orphans.__setitem__
    recorder = Recorder()
    # 20 grandchildren outlive their parent, then exit with 20 codes.
    script = "for n in $(seq 20); do (read x; exit $n) <&3 & echo $!; done"
    process = start(script, recorder, child_fds={0: NULL, 1: "r", 2: NULL, 3: "w"})
    await recorder.until_told("exited")
    process.close_child_fd(3)
    await recorder.until_ended()
    await until(lambda: len(orphans) == 20)
    assert sorted(end.code or 0 for end in orphans.values()) == list(range(1, 21))
    assert set(orphans) == {int(pid) for pid in recorder.out.split()}


@in_loop
async def test_a_turn_of_the_loop_reaps_a_bounded_number() -> None:
    """Other callbacks get their turn between the batches."""
    ends: dict[int, Exit] = {}
    processes = [start(["true"], Ends(ends), child_fds=QUIET) for _ in range(3 * BATCH)]
    for process in processes:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # all are dead before the loop turns
    counts = []
    async with asyncio.timeout(BOUND_S):
        while len(ends) < len(processes):
            await asyncio.sleep(0)
            counts.append(len(ends))
    steps = [after - before for before, after in zip([0, *counts], counts, strict=False)]
    assert max(steps) <= BATCH


@in_loop
async def test_the_one_that_the_signal_was_about_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does not have to look for it among all the others; those that died with it come after it."""
    Reaper.of(asyncio.get_running_loop()).close()
    reaper = Reaper(asyncio.get_running_loop())
    ends: dict[int, Exit] = {}
    processes = [start(["sleep", "60"], Ends(ends), child_fds=QUIET) for _ in range(4)]
    await asyncio.sleep(0.1)
    found: list[tuple[int, int]] = []
    look = os.waitid

    def waitid(kind: int, pid: int, options: int) -> os.waitid_result | None:
        dead = look(kind, pid, options)
        if dead is not None:
            found.append((kind, dead.si_pid))
        return dead

    monkeypatch.setattr(os, "waitid", waitid)
    last = processes[-1]
    last.signal_process("KILL")
    await until(lambda: len(ends) == 1)
    assert (found[0], *ends) == ((os.P_PID, last.pid), last.pid)
    # Two at once are one signal; and one that is stopped is not dead.
    processes[0].signal_process("STOP")
    for process in processes[1:3]:
        process.signal_process("KILL")
    await until(lambda: len(ends) == 3)
    assert processes[0].pid not in ends
    processes[0].signal_process("KILL")
    await until(lambda: len(ends) == 4)
    reaper.close()


@in_loop
async def test_a_block_of_the_signal_that_was_inherited_hides_no_end() -> None:
    """As somebody who reads signals from a descriptor leaves to whom it executes; it is there again later."""
    loop = asyncio.get_running_loop()
    Reaper.of(loop).close()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        for exclusive in (True, False):
            with contextlib.closing(Reaper(loop, exclusive=exclusive)):
                ends: dict[int, Exit] = {}
                child = start(["sleep", "0.1"], Ends(ends), child_fds=QUIET)
                await until(lambda ends=ends: ends)
                assert ends[child.pid].code == 0
            assert signal.SIGCHLD in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@in_loop
async def test_one_look_serves_many_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many SIGCHLD came in one turn."""
    for exclusive in (True, False):
        Reaper.of(asyncio.get_running_loop()).close()
        reaper = Reaper(asyncio.get_running_loop(), exclusive=exclusive)
        looks: list[int] = []
        monkeypatch.setattr(
            reaper, "_sweep", lambda looks=looks, sweep=reaper._sweep: (looks.append(1), sweep())
        )
        await asyncio.sleep(0)
        looks.clear()
        for _ in range(100):
            os.kill(os.getpid(), signal.SIGCHLD)
        await until(lambda looks=looks: looks)  # type: ignore[misc]
        assert len(looks) <= 4


@in_loop
async def test_a_flood_of_deaths_does_not_hide_other_signals() -> None:
    """Hundreds of SIGCHLD in one callback fill the loop's own socket; a SIGTERM after them must be seen."""
    loop = asyncio.get_running_loop()
    seen = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, seen.set)
    for _ in range(2000):
        os.kill(os.getpid(), signal.SIGCHLD)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(BOUND_S):
        await seen.wait()
    loop.remove_signal_handler(signal.SIGTERM)


@in_loop
async def test_a_reaper_that_is_not_exclusive_leaves_strangers_alone() -> None:
    """subprocess.Popen and asyncio get the statuses of their own children, and we those of ours."""
    loop = asyncio.get_running_loop()
    Reaper.of(loop).close()
    reaper = Reaper.of(loop)
    assert reaper is Reaper.of(loop)
    strangers = [subprocess.Popen(["sh", "-c", f"exit {number}"]) for number in range(1, 6)]
    ends: dict[int, Exit] = {}
    processes = [start(f"exit {number}", Ends(ends), child_fds=QUIET) for number in range(6, 11)]
    await until(lambda: len(ends) == 5)
    assert [ends[process.pid].code for process in processes] == [6, 7, 8, 9, 10]
    assert [stranger.wait() for stranger in strangers] == [1, 2, 3, 4, 5]
    reaper.close()


@in_loop
async def test_a_status_that_somebody_else_took_is_unknown() -> None:
    """The end is told all the same: by a look at all, and by one at that child."""
    recorder = Recorder()
    process = start("exit 5", recorder, child_fds=QUIET)
    os.waitpid(process.pid, 0)
    end = await recorder.until_ended()
    assert end == Exit()
    assert str(end) == "ended, nobody knows how"
    recorder, living = Recorder(), Recorder()
    start("read x", living)
    process = start("exit 5", recorder, child_fds=QUIET)
    os.waitpid(process.pid, 0)
    process.reap_process()
    assert recorder.exit == Exit()
    living.process.close_stdin()
    await living.until_ended()


@in_loop
async def test_popens_dropped_under_load_steal_nothing() -> None:
    """Popen instances whose children live go on a list, and the next Popen reaps what is on it."""
    ends: dict[int, Exit] = {}
    settings = Settings(umask=0o022)  # by way of the standard library
    processes = []
    for number in range(100):
        processes.append(start(f"exit {number}", Ends(ends), settings=settings, child_fds=QUIET))
        if number % 10 == 0:
            gc.collect()
    assert subprocess._active == []  # type: ignore[attr-defined]
    await until(lambda: len(ends) == 100)
    assert [ends[process.pid].code for process in processes] == list(range(100))


@in_loop
async def test_a_watcher_that_fails_does_not_keep_others_from_being_told() -> None:
    """It is logged, and the child is reaped."""

    class Failing:
        def exiting(self) -> None:
            raise RuntimeError("exiting")

        def reaped(self, outcome: Exit) -> None:
            raise RuntimeError(str(outcome))

    reaper = Reaper.of(asyncio.get_running_loop())
    reaper.watch(subprocess_pid := os.posix_spawn("/bin/true", ["true"], {}), Failing())
    recorder = Recorder()
    start("exit 1", recorder)
    assert (await recorder.until_ended()).code == 1
    await until(lambda: subprocess_pid not in reaper.pids)


@in_loop
async def test_a_child_can_be_forgotten() -> None:
    """An exclusive reaper reaps it as an orphan; nobody is told."""
    reaper = Reaper.of(asyncio.get_running_loop())
    recorder = Recorder()
    process = start("exit 1", recorder, child_fds=QUIET)
    assert process.pid in reaper
    reaper.forget(process.pid)
    assert process.pid not in reaper
    await until(lambda: not our_children())
    assert recorder.events == ["made"]
    assert not reaper.reap(process.pid)


@in_loop
async def test_a_reaper_is_never_pickled() -> None:
    """It is bound to a loop."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Reaper.of(asyncio.get_running_loop()))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, Exit(code=0)),
        (3 << 8, Exit(code=3)),
        (9, Exit(signal=9)),
        (11 | 0x80, Exit(signal=11, core_dumped=True)),
    ],
)
def test_wait_statuses_tell_code_signal_and_core_dump_apart(status: int, expected: Exit) -> None:
    """As wait(2) packs them."""
    assert outcome_of(status) == expected


@in_loop
async def test_a_real_core_dump_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the kernel writes one."""
    directory = tmp_path_factory.mktemp("core")
    recorder = Recorder()
    start("ulimit -c unlimited && kill -ABRT $$", recorder, path=str(directory))
    end = await recorder.until_ended()
    if not end.core_dumped:
        pytest.skip("this kernel writes no core file here")
    assert str(end) == "killed by SIGABRT (core dumped)"


def test_a_loop_that_is_closed_takes_its_reaper_along() -> None:
    """Loops and reapers refer to each other, and to nothing that lives on."""

    async def use() -> int:
        return id(Reaper.of(asyncio.get_running_loop()))

    asyncio.run(use())
    gc.collect()
    assert all(known() is None for known in _reapers.values())
