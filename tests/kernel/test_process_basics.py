"""Process: what goes in comes out, and the end is told in two steps."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from copy import copy

import pytest

from procd.errors import DescriptorClosed, ProcessExitedAlready
from procd.process import NULL, STDOUT, Exit, Process
from tests.kernel.children import BOUND_S, Recorder, in_loop, program, run, start


@in_loop
async def test_what_is_written_comes_back_and_the_outcome_is_known() -> None:
    """stdin, stdout and the exit status of a plain child."""
    out, end = await run("cat; exit 3", b"hello\n")
    assert out == b"hello\n"
    assert (end.code, end.signal) == (3, None)
    assert end.max_rss_bytes > 100_000


@in_loop
async def test_callbacks_come_in_order() -> None:
    """Made first, exiting before exited, ended last."""
    recorder = Recorder()
    start("true", recorder)
    await recorder.until_ended()
    assert recorder.events[0] == "made"
    assert recorder.events[-1] == "ended"
    assert recorder.events.index("exiting") < recorder.events.index("exited")
    assert sorted(recorder.events[1:-1]) == ["exited", "exiting", "lost 0", "lost 1", "lost 2"]


@in_loop
async def test_it_has_exited_while_a_grandchild_still_holds_its_output() -> None:
    """Exited and ended are two facts; in between there may be output."""
    recorder = Recorder()
    process = start(
        "(read line; echo late) <&3 & exec true", recorder, child_fds={0: NULL, 1: "r", 2: NULL, 3: "w"}
    )
    await recorder.until_told("exited")
    assert process.exited
    assert not process.ended
    process.write_to_child(3, b"go\n")
    await recorder.until_ended()
    assert recorder.out == b"late\n"
    assert recorder.events[-2:] in (["lost 1", "ended"], ["lost 3", "ended"])


@in_loop
async def test_a_killed_process_is_told_by_its_signal() -> None:
    """Signals by name, by short name and by number."""
    for name, number in (("SIGKILL", 9), ("USR1", 10), (15, 15)):
        recorder = Recorder()
        process = start(["sleep", "1000"], recorder)
        process.signal_process(name)
        end = await recorder.until_ended()
        assert (end.code, end.signal) == (None, number)


@in_loop
async def test_a_core_dump_is_told_apart() -> None:
    """core_dumped is the kernel's word; without a core limit there is none."""
    _, end = await run("ulimit -c 0; kill -SEGV $$")
    assert end.signal == signal.SIGSEGV
    assert not end.core_dumped
    assert str(end) == "killed by SIGSEGV"
    assert str(Exit(signal=11, core_dumped=True)) == "killed by SIGSEGV (core dumped)"


@in_loop
async def test_a_signal_after_the_exit_is_refused() -> None:
    """ProcessExitedAlready: the PID may be somebody else's."""
    recorder = Recorder()
    process = start("true", recorder)
    await recorder.until_told("exited")
    with pytest.raises(ProcessExitedAlready):
        process.signal_process("TERM")
    await recorder.until_ended()


@in_loop
async def test_a_word_that_is_no_signal_is_refused() -> None:
    """And nothing is sent."""
    recorder = Recorder()
    process = start("read x", recorder)
    for nonsense in ("TREM", 0, 65, -9):
        with pytest.raises(ValueError, match="not a signal"):
            process.signal_process(nonsense)
    process.close_stdin()
    assert (await recorder.until_ended()).code == 1


@in_loop
async def test_the_group_gets_a_signal_with_its_leader() -> None:
    """group=True reaches a child of the child."""
    recorder = Recorder()
    process = start("sleep 1000 & echo started; wait", recorder)
    await recorder.until(lambda: recorder.out == b"started\n")
    process.signal_process("TERM", group=True)
    end = await recorder.until_ended()  # the sleep held stdout: so it is gone as well
    assert end.signal == signal.SIGTERM


@in_loop
async def test_the_group_can_be_killed_while_its_leader_is_a_zombie() -> None:
    """process_exiting comes while the number of the group is still the child's."""

    class Killing(Recorder):
        def process_exiting(self) -> None:
            super().process_exiting()
            os.killpg(self.process.pid, signal.SIGKILL)

    recorder = Killing()
    start("sleep 1000 & exit 7", recorder)
    assert (await recorder.until_ended()).code == 7


@in_loop
async def test_each_output_can_be_closed_alone() -> None:
    """A child that writes to a stdout that we closed gets SIGPIPE, its stderr goes on."""
    recorder = Recorder()
    process = start("read x; echo on >&2; while :; do echo x; done", recorder)
    process.close_stdout()
    await recorder.until_told("lost 1")
    assert process.lost_out_connection
    assert not process.lost_err_connection
    process.write(b"\n")
    end = await recorder.until_ended()
    assert end.signal == signal.SIGPIPE
    assert recorder.output[2] == b"on\n"


@in_loop
async def test_closing_stdin_flushes_first() -> None:
    """A megabyte that the pipe does not take at once arrives whole, then the end."""
    payload = os.urandom(1 << 20)
    recorder = Recorder()
    process = start(["cat"], recorder)
    process.write(payload)
    assert process.descriptor(0).buffered > 0
    process.close_stdin()
    with pytest.raises(DescriptorClosed):
        process.write(b"more")
    await recorder.until_ended()
    assert recorder.out == payload
    assert process.descriptor(0).bytes_written == len(payload)


@in_loop
async def test_a_reader_that_went_away_is_noticed_although_nothing_is_written() -> None:
    """The child closes its stdin and lives on."""
    recorder = Recorder()
    process = start("exec <&-; exec sleep 1000", recorder)
    await recorder.until_told("lost 0")
    assert process.lost_in_connection
    assert not process.exited
    process.signal_process("KILL")
    await recorder.until_ended()


@in_loop
async def test_losing_the_connection_closes_every_pipe() -> None:
    """And a child that waits for input sees its end."""
    recorder = Recorder()
    start("cat; exit 4", recorder).lose_connection()
    end = await recorder.until_ended()
    assert end.code == 4
    assert {"lost 0", "lost 1", "lost 2"} <= set(recorder.events)


@in_loop
async def test_paused_output_waits_in_the_pipe() -> None:
    """While paused nothing is received, and the child is held back; resumed, everything comes."""
    recorder = Recorder()
    process = start(program("flood.py", "300000"), recorder)
    process.pause_producing()
    await asyncio.sleep(0)
    assert recorder.out == b""
    process.resume_producing()
    await recorder.until_ended()
    assert len(recorder.out) == 300000


@in_loop
async def test_a_callback_that_raises_is_logged_and_stops_nothing() -> None:
    """Every callback fails; the process is reaped and ended all the same."""
    told = []

    class Failing(Recorder):
        def connection_made(self, process: Process) -> None:
            super().connection_made(process)
            raise RuntimeError("made")

        def child_data_received(self, child_fd: int, data: bytes) -> None:
            super().child_data_received(child_fd, data)
            raise RuntimeError("received")

        def process_exited(self, exit: Exit) -> None:  # noqa: A002
            super().process_exited(exit)
            told.append(exit)
            raise RuntimeError("exited")

    recorder = Failing()
    start("echo out; echo err >&2", recorder)
    await recorder.until_ended()
    assert recorder.output == {1: b"out\n", 2: b"err\n"}
    assert len(told) == 1


@in_loop
async def test_stderr_can_go_where_stdout_goes() -> None:
    """Merged in order, in one pipe."""
    out, _ = await run("echo a; echo b >&2; echo c", child_fds={0: NULL, 1: "r", 2: STDOUT})
    assert out == b"a\nb\nc\n"


@in_loop
async def test_commands_and_arguments_are_bytes_or_text() -> None:
    """Text with surrogates goes out as the bytes that it stands for."""
    raw = b"caf\xe9 \xff"
    out, _ = await run(["printf", "%s|%s", raw.decode("utf-8", "surrogateescape"), "ü"])
    assert out == raw + "|ü".encode()
    process = Process(
        asyncio.get_running_loop(), b"printf", [b"printf", b"%s", raw], {b"PATH": b"/usr/bin:/bin"}, None,
        recorder := Recorder(),
    )  # fmt: skip
    await recorder.until_ended()
    assert recorder.out == raw
    assert process.exited


@in_loop
async def test_the_environment_is_ours_or_none_or_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """None inherits, {} is empty, and PATH is searched in the child's own."""
    monkeypatch.setenv("PROCD_TEST_MARK", "inherited")
    out, _ = await run(["env"])
    assert b"PROCD_TEST_MARK=inherited\n" in out
    out, _ = await run(["env"], environment={})
    assert out == b""
    out, _ = await run(["/usr/bin/env"], environment={"A": "1", "PATH": "/nowhere"})
    assert sorted(out.split()) == [b"A=1", b"PATH=/nowhere"]


@in_loop
async def test_a_live_process_is_never_pickled_or_copied() -> None:
    """The error says what to keep instead."""
    recorder = Recorder()
    process = start("read x", recorder)
    for thing in (process, process.descriptor(0), process._reaper):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="cannot be pickled"):
            copy(thing)
    process.close_stdin()
    await recorder.until_ended()


@in_loop
async def test_a_pipe_can_be_given_away() -> None:
    """A detached read end is read elsewhere, and the end does not wait for it."""
    recorder = Recorder()
    process = start("echo for the logger", recorder)
    fd = process.detach_child_fd(1)
    try:
        end = await recorder.until_ended()
        assert end.code == 0
        assert os.read(fd, 100) == b"for the logger\n"
        assert "lost 1" not in recorder.events
    finally:
        os.close(fd)


@in_loop
async def test_reaping_by_hand_never_blocks_and_is_harmless_again() -> None:
    """reap_process on a living child does nothing; on a dead one it tells the exit, once."""
    recorder = Recorder()
    process = start("read x", recorder)
    process.reap_process()
    assert "exited" not in recorder.events
    process.close_stdin()
    async with asyncio.timeout(BOUND_S):
        while "exited" not in recorder.events:
            process.reap_process()
            await asyncio.sleep(0)
    process.reap_process()
    await recorder.until_ended()
    assert recorder.events.count("exited") == 1


@in_loop
async def test_who_it_is_stands_in_the_log_context() -> None:
    """The ancestor's logPrefix, as facts."""
    recorder = Recorder()
    process = start(["true"], recorder)
    assert process.log_context == {"command": "true", "pid": process.pid}
    await recorder.until_ended()
    assert "exited with status 0" in repr(process)
