"""AdoptedProcess: the same face for a process that somebody else started, and reaps."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from procd.errors import ProcessExitedAlready, SpawnError
from procd.process import AdoptedProcess, Exit
from procd.process.reaper import outcome_of
from tests.kernel.children import Recorder, in_loop, open_descriptors, start


class Foreign:
    """A `cat` that no reaper of ours knows, and the pipes to it."""

    def __init__(self) -> None:
        their_in, self.to = os.pipe2(os.O_CLOEXEC)
        self.come, their_out = os.pipe2(os.O_CLOEXEC)
        moves = [(os.POSIX_SPAWN_DUP2, their_in, 0), (os.POSIX_SPAWN_DUP2, their_out, 1)]
        self.pid = os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=moves, setsigmask=[], setpgroup=0)
        os.close(their_in)
        os.close(their_out)

    def adopt(self, recorder: Recorder) -> AdoptedProcess:
        """Make it one of ours."""
        ends = {0: (self.to, "w"), 1: (self.come, "r")}
        pidfd = os.pidfd_open(self.pid)
        return AdoptedProcess(asyncio.get_running_loop(), self.pid, pidfd, "cat", recorder, ends)

    def end(self, process: AdoptedProcess) -> None:
        """Do what its parent does."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        process.exiting()
        process.reaped(outcome_of(self.reap()))

    def reap(self) -> int:
        """Its wait status."""
        return os.waitpid(self.pid, 0)[1]


@in_loop
async def test_what_is_written_comes_back_and_the_end_is_told_as_of_a_child() -> None:
    """Its pipes work, it is closed by halves, and the order of the callbacks is the same."""
    before = open_descriptors()
    foreign, recorder = Foreign(), Recorder()
    process = foreign.adopt(recorder)
    process.write(b"hello")
    await recorder.until(lambda: recorder.out == b"hello")
    process.close_stdin()
    await recorder.until_told("lost 1")
    foreign.end(process)
    assert recorder.events == ["made", "lost 0", "lost 1", "exiting", "exited", "ended"]
    assert recorder.exit is not None
    assert recorder.exit.code == 0
    assert open_descriptors() == before


@in_loop
async def test_a_signal_goes_to_the_process_that_was_meant_or_to_nobody() -> None:
    """By its pidfd; its group too; and once it is reaped to nobody, whoever has its number now."""
    for group in (False, True):
        foreign, recorder = Foreign(), Recorder()
        process = foreign.adopt(recorder)
        process.signal_process("TERM", group=group)
        foreign.end(process)
        assert recorder.exit is not None
        assert recorder.exit.signal == signal.SIGTERM
        with pytest.raises(ProcessExitedAlready):
            process.signal_process("TERM", group=group)
        process.lose_connection()
        await recorder.until_ended()


@in_loop
async def test_a_process_that_its_parent_has_reaped_unnoticed_is_not_signalled() -> None:
    """The news of its end is still on its way to us."""
    foreign, recorder = Foreign(), Recorder()
    process = foreign.adopt(recorder)
    os.kill(foreign.pid, signal.SIGKILL)
    foreign.reap()
    with pytest.raises(ProcessExitedAlready):
        process.signal_process("TERM")
    process.reap_process()
    assert not process.exited
    process.lose_connection()
    process.reaped(Exit())


@in_loop
async def test_our_ends_are_known_before_there_is_a_child() -> None:
    """Whoever keeps them has them, also if the child is the last thing that happens to us."""
    seen: dict[int, int] = {}
    recorder = Recorder()
    process = start("cat", recorder, before_spawn=seen.update)
    assert seen == {fd: process.fileno(fd) for fd in (0, 1, 2)}
    process.lose_connection()
    await recorder.until_ended()


@in_loop
async def test_when_they_cannot_be_kept_there_is_no_child() -> None:
    """And nothing is left open."""

    def refuse(_: object) -> None:
        raise SpawnError("memory", 32)

    before = open_descriptors()
    with pytest.raises(SpawnError, match="memory"):
        start("cat", Recorder(), before_spawn=refuse)
    assert open_descriptors() == before
