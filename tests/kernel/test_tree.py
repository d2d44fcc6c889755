"""The tree of a program: everything is found, nothing is left, nobody else is hit."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from procd.process import Reaper, Snapshot, TreeKiller, kill_tree, tree
from procd.process.tree import cookie_of, start_time
from tests.kernel.children import BOUND_S, Recorder, in_loop, our_children, program, start, until

if TYPE_CHECKING:
    from pathlib import Path

    from procd.process import Process

#: Cookies that no process of an earlier run can carry.
OURS, THEIRS = f"ours-{os.getpid()}", f"theirs-{os.getpid()}"

#: So many that execute themselves for ever leave something of two processors.
ORPHANS = 40


@pytest.fixture(autouse=True)
def subreaper() -> None:
    """Orphans come to us, as they do to procd."""
    Reaper.become_subreaper()


def environment(cookie: str) -> dict[str, str]:
    """What a program of procd has at least."""
    return {"PATH": os.environ["PATH"], "PROCD_COOKIE": cookie}


async def start_printing(
    command: str | list[str], cookie: str = OURS, lines: int = 1
) -> tuple[Process, Recorder]:
    """Start a program that prints so many lines when it is as it should be."""
    recorder = Recorder()
    process = start(command, recorder, environment=environment(cookie))
    await recorder.until(lambda: recorder.out.count(b"\n") >= lines)
    return process, recorder


@in_loop
async def test_children_are_found_after_their_parents() -> None:
    """Three generations in one session, in order."""
    process, recorder = await start_printing("sh -c 'sleep 1000 & echo x; wait; :' & wait; :")
    await until(lambda: len(Snapshot.take().members(process.pid)) == 3)
    members = Snapshot.take().members(process.pid)
    assert members[0].pid == process.pid
    assert [member.parent for member in members[1:]] == [member.pid for member in members[:-1]]
    # By identity: a name changes when its process executes another program.
    identities = [member.identity for member in members]
    assert [member.identity for member in Snapshot.take().descendants(process.pid)] == identities[1:]
    assert [member.identity for member in Snapshot.take().descendants(os.getpid())] == identities
    assert {member.identity for member in await kill_tree(process.pid)} == set(identities)
    await recorder.until_ended()


@in_loop
async def test_a_daemon_is_found_by_its_cookie_after_its_program_is_gone() -> None:
    """Setsid and a double fork take it out of session, group and ancestry; not out of its environment."""
    process, recorder = await start_printing(program("daemonize.py", "keep", "leave"), OURS)
    daemon = int(recorder.out)
    await recorder.until_told("exited")
    assert cookie_of(daemon) == OURS
    snapshot = Snapshot.take()
    assert snapshot.members(process.pid) == []
    assert [member.pid for member in snapshot.members(process.pid, OURS)] == [daemon]
    assert snapshot.members(process.pid, OURS[:-1]) == []
    assert [member.pid for member in await kill_tree(process.pid, cookie=OURS)] == [daemon]
    await recorder.until_ended()


@in_loop
async def test_an_orphan_without_a_cookie_is_not_found() -> None:
    """It has left everything by which it could be: nobody knows whose it is, and nobody waits for it."""
    process, recorder = await start_printing(program("daemonize.py", "clean", "leave"))
    daemon = int(recorder.out)
    await recorder.until_told("exited")
    await until(Snapshot.take().is_clear)
    assert await kill_tree(process.pid, cookie=OURS) == []
    os.kill(daemon, signal.SIGKILL)
    await recorder.until_ended()


@in_loop
async def test_who_is_in_the_middle_of_an_exec_is_ended_too(tmp_path: Path) -> None:
    """Orphans that execute themselves for ever: in a look of a hundred one or two have no environment."""
    again = tmp_path / "again"
    again.write_text('#!/bin/sh\nexec "$0"\n')
    again.chmod(0o755)
    cookies = [f"{OURS}-{number}" for number in range(ORPHANS)]
    programs = [
        await start_printing(f"setsid {again} </dev/null >/dev/null 2>&1 & echo x", cookie)
        for cookie in cookies
    ]
    for _, recorder in programs:
        await recorder.until_ended()
    killer = TreeKiller(asyncio.get_running_loop())
    kills = [
        killer.kill(process.pid, cookie=cookie) for (process, _), cookie in zip(programs, cookies, strict=True)
    ]
    async with asyncio.timeout(BOUND_S):
        assert [len(killed) for killed in await asyncio.gather(*kills)] == [1] * ORPHANS


@in_loop
async def test_a_look_in_which_an_exec_is_not_through_is_not_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of an orphan: who has a parent that lives is found by that.  And of one that has come since, too."""
    process, recorder = await start_printing(program("daemonize.py", "keep", "leave"))
    daemon = int(recorder.out)
    await recorder.until_told("exited")
    assert Snapshot.take().is_clear()
    others = [member for member in Snapshot.take().processes.values() if member.pid != daemon]
    assert not Snapshot(others).is_clear()
    read, hidden = tree._read, {f"/proc/{daemon}/environ", f"/proc/{daemon}/cmdline"}
    monkeypatch.setattr(tree, "_read", lambda path: b"" if path in hidden else read(path))
    snapshot = Snapshot.take()
    assert snapshot.members(process.pid, OURS) == []
    assert not snapshot.is_clear()
    assert Snapshot.take(kin=[daemon]).is_clear()
    os.kill(daemon, signal.SIGKILL)
    await until(lambda: daemon not in our_children())
    assert Snapshot.take().is_clear()
    await recorder.until_ended()


@in_loop
async def test_a_family_that_replaces_its_dead_is_ended() -> None:
    """Killed children first, they would come again for ever; frozen and killed, none is left."""
    process, recorder = await start_printing(program("forks.py", "8"), OURS)
    await until(lambda: len(Snapshot.take().members(process.pid, OURS)) == 17)
    async with asyncio.timeout(BOUND_S):
        killed = await kill_tree(process.pid, cookie=OURS)
    assert len(killed) >= 17
    await recorder.until_ended()
    assert Snapshot.take().members(process.pid, OURS) == []


@in_loop
async def test_many_trees_end_with_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at /proc serves all trees that are being ended at the time."""
    looks = []
    take = Snapshot.take

    def counted(*arguments: object) -> Snapshot:
        looks.append(arguments)
        return take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Snapshot, "take", counted)
    started = [await start_printing("sleep 1000 & echo x; wait", f"{OURS}-{number}") for number in range(20)]
    killer = TreeKiller(asyncio.get_running_loop())
    async with asyncio.timeout(BOUND_S):
        killed = await asyncio.gather(
            *(
                killer.kill(process.pid, cookie=f"{OURS}-{number}")
                for number, (process, _) in enumerate(started)
            )
        )
    assert [len(members) for members in killed] == [2] * 20
    assert len(looks) < 20
    for _, recorder in started:
        await recorder.until_ended()


@in_loop
async def test_another_programs_processes_are_not_members() -> None:
    """Ignored main processes, and all below them, belong to nobody else; whatever group they are in."""
    ours, recorder = await start_printing("sleep 1000 & echo x; wait", OURS)
    theirs, others = await start_printing("sleep 1000 & echo x; wait", THEIRS)
    snapshot = Snapshot.take(ignore={theirs.pid})
    assert len(snapshot.members(ours.pid, OURS)) == 2
    assert snapshot.members(theirs.pid, THEIRS) == []
    assert Snapshot.take().members(theirs.pid, "third") == []  # another cookie: the number was used again
    for process in (ours, theirs):
        process.signal_process("KILL", group=True)
    await recorder.until_ended()
    await others.until_ended()


@in_loop
async def test_a_number_that_was_used_again_is_not_opened() -> None:
    """A member whose start time is not that of the living process gives no descriptor."""
    process, recorder = await start_printing("echo x; read x")
    (member,) = Snapshot.take().members(process.pid)
    assert member.start_time == start_time(process.pid)
    assert member._replace(start_time=member.start_time - 1).open() is None
    pidfd = member.open()
    assert pidfd is not None
    os.close(pidfd)
    process.close_stdin()
    await recorder.until_ended()
    assert member.open() is None
    assert start_time(process.pid) is None


@in_loop
async def test_ending_nothing_is_done_at_once() -> None:
    """A program that is gone has no tree."""
    process, recorder = await start_printing("echo x")
    await recorder.until_ended()
    assert await kill_tree(process.pid, cookie=OURS) == []


@in_loop
async def test_an_effort_that_is_cancelled_leaves_no_descriptor() -> None:
    """What was frozen stays frozen; the caller decides."""
    process, recorder = await start_printing("echo x; sleep 1000")
    killer = TreeKiller(asyncio.get_running_loop())
    effort = killer.kill(process.pid, cookie=OURS)
    effort.cancel()
    await asyncio.sleep(0)
    process.signal_process("KILL", group=True)
    await recorder.until_ended()


@in_loop
async def test_a_family_that_forks_too_fast_to_be_frozen_is_killed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After so many looks nothing is frozen any more."""
    monkeypatch.setattr(sys.modules[TreeKiller.__module__], "FREEZING_LOOKS", 0)
    process, recorder = await start_printing(program("forks.py", "4"), OURS)
    async with asyncio.timeout(BOUND_S):
        killed = await kill_tree(process.pid, cookie=OURS)
    assert process.pid in {member.pid for member in killed}
    await recorder.until_ended()
    assert Snapshot.take().members(process.pid, OURS) == []


@in_loop
async def test_what_may_not_be_signalled_is_left_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is ended; the future does not have it."""
    process, recorder = await start_printing("sleep 1000 & echo x; wait", OURS)
    await until(lambda: len(Snapshot.take().members(process.pid)) == 2)
    main, sleeper = Snapshot.take().members(process.pid)
    send, pidfds = signal.pidfd_send_signal, os.pidfd_open

    def open_marked(pid: int) -> int:
        pidfd = pidfds(pid)
        if pid == sleeper.pid:
            forbidden.add(pidfd)
        return pidfd

    def send_some(pidfd: int, number: int) -> None:
        if pidfd in forbidden:
            raise PermissionError(1, "not yours")
        send(pidfd, number)

    forbidden: set[int] = set()
    monkeypatch.setattr(os, "pidfd_open", open_marked)
    monkeypatch.setattr(signal, "pidfd_send_signal", send_some)
    async with asyncio.timeout(BOUND_S):
        assert [member.pid for member in await kill_tree(process.pid)] == [main.pid]
    os.kill(sleeper.pid, signal.SIGKILL)
    await recorder.until_ended()
