"""Each setting of a child: what was asked for is what the kernel shows of it, in /proc/PID/status above all."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from procd.process import Credentials, Limit, Settings, Snapshot, TreeKiller, kill_tree
from procd.process.tree import cgroup_processes
from tests.kernel.children import NOBODY, Recorder, in_loop, needs_root, program, start, status_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = Credentials(NOBODY, NOBODY, (NOBODY,), "x", "/", "/bin/sh")
NET_BIND_SERVICE, NET_RAW, SYS_RESOURCE = 10, 13, 24


def has_capability(number: int) -> bool:
    """Whether we have it ourselves; the root of a container may not."""
    status = status_of(Path("/proc/self/status").read_bytes())
    return bool(int(status["CapEff"], 16) >> number & 1)


async def view(settings: Settings) -> dict[str, Any]:
    """Have a child tell how it finds itself."""
    recorder = Recorder()
    start(program("view.py"), recorder, settings=settings)
    await recorder.until_ended()
    seen: dict[str, Any] = json.loads(recorder.out)
    return seen


def capabilities(seen: dict[str, Any]) -> dict[str, int]:
    """The five sets of capabilities."""
    return {
        name: int(seen["status"][name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    }


@in_loop
async def test_limits_soft_and_hard() -> None:
    """Any resource, also to less than the parent itself uses, and unlimited."""
    wanted = {"RLIMIT_CORE": (0, 0), "RLIMIT_NPROC": (5000, 6000), "RLIMIT_AS": (1 << 30, 2 << 30)}
    wanted |= {"RLIMIT_NOFILE": (256, 512), "RLIMIT_STACK": (1 << 20, -1), "RLIMIT_CPU": (1000, 2000)}
    limits = tuple(Limit(getattr(resource, name), *bounds) for name, bounds in wanted.items())
    seen = await view(Settings(limits=limits))
    assert {name: tuple(seen["limits"][name]) for name in wanted} == wanted


@in_loop
async def test_a_child_may_have_less_memory_than_its_parent_uses() -> None:
    """The steps after the limit need none; the new program fits."""
    recorder = Recorder()
    limit = Limit(resource.RLIMIT_AS, 20 << 20, 20 << 20)
    start(["sh", "-c", "ulimit -v"], recorder, settings=Settings(limits=(limit,)))
    await recorder.until_ended()
    assert recorder.out == b"%d\n" % (20 << 10)


@in_loop
async def test_scheduling() -> None:
    """Niceness, affinity, oom score; and I/O class and priority as ionice shows them."""
    cpu = min(os.sched_getaffinity(0))
    seen = await view(Settings(nice=7, cpu_affinity=frozenset({cpu}), oom_score_adj=321))
    assert (seen["nice"], seen["affinity"], seen["oom_score_adj"]) == (7, [cpu], 321)
    for settings, shown in (
        (Settings(io_class=2, io_priority=6), b"best-effort: prio 6\n"),
        (Settings(io_class=3), b"idle\n"),
    ):
        recorder = Recorder()
        start("ionice", recorder, settings=settings)
        await recorder.until_ended()
        assert recorder.out == shown


@needs_root
@in_loop
async def test_root_may_raise_what_others_may_not() -> None:
    """Set before the user is changed, and kept after."""
    if not has_capability(SYS_RESOURCE):
        pytest.skip("this root has no CAP_SYS_RESOURCE")
    limits = (Limit(resource.RLIMIT_NICE, 30, 30),)
    seen = await view(Settings(credentials=USER, oom_score_adj=-321, limits=limits))
    assert seen["oom_score_adj"] == -321
    assert seen["limits"]["RLIMIT_NICE"] == [30, 30]
    assert seen["uids"] == [NOBODY] * 3


@needs_root
@in_loop
async def test_a_user_may_be_nicer_than_it_could_make_itself() -> None:
    """The niceness is set with our rights."""
    seen = await view(Settings(credentials=USER, nice=-7))
    assert (seen["nice"], seen["uids"]) == (-7, [NOBODY] * 3)


@in_loop
async def test_a_variable_can_tell_a_child_its_own_number() -> None:
    """LISTEN_PID must name the process that is to take the sockets."""
    seen = await view(Settings(pid_variable="LISTEN_PID"))
    assert seen["environment"]["LISTEN_PID"] == str(seen["pid"])


@in_loop
async def test_no_new_privileges() -> None:
    """NoNewPrivs is 1, and 0 without being asked for."""
    assert (await view(Settings(no_new_privileges=True)))["status"]["NoNewPrivs"] == ["1"]
    assert (await view(Settings(nice=0)))["status"]["NoNewPrivs"] == ["0"]


@needs_root
@in_loop
async def test_a_user_keeps_exactly_the_capabilities_of_the_set() -> None:
    """In all five sets: they are effective, pass on to what it executes, and nothing else can be had."""
    kept = 1 << NET_BIND_SERVICE | 1 << NET_RAW
    settings = Settings(credentials=USER, capabilities=frozenset({NET_BIND_SERVICE, NET_RAW}))
    seen = await view(settings)
    assert capabilities(seen) == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), kept)
    assert seen["status"]["Uid"] == [str(NOBODY)] * 4
    assert seen["groups"] == [NOBODY]


@needs_root
@in_loop
async def test_a_user_with_an_empty_set_can_never_get_any() -> None:
    """Nothing in the bounding set either: setuid programs give nothing."""
    seen = await view(Settings(credentials=USER, capabilities=frozenset()))
    assert set(capabilities(seen).values()) == {0}


@needs_root
@in_loop
async def test_root_is_bounded_by_the_set() -> None:
    """User 0 with one capability is not what root is."""
    seen = await view(Settings(capabilities=frozenset({NET_RAW})))
    assert capabilities(seen) == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 1 << NET_RAW)
    assert seen["uids"] == [0, 0, 0]


@in_loop
async def test_a_child_without_a_session_of_its_own_shares_ours() -> None:
    """And its group is not signalled by mistake: it is ours too."""
    recorder = Recorder()
    process = start("ps -o sid= -p $$; read x", recorder, settings=Settings(new_session=False))
    await recorder.until(lambda: recorder.out)
    assert int(recorder.out) == os.getsid(0)
    with pytest.raises(ValueError, match="not its own"):
        process.signal_process("TERM", group=True)
    process.signal_process("TERM")
    assert (await recorder.until_ended()).signal == signal.SIGTERM


@pytest.fixture
def cgroup() -> Iterator[str]:
    """A cgroup of version 2, where one can be made."""
    roots = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line]
    if not roots:
        pytest.skip("no cgroup v2 is mounted")
    directory = Path(roots[0]) / f"procd-test-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    yield str(directory)
    for inner in sorted(directory.glob("*/")):
        inner.rmdir()
    directory.rmdir()


def test_a_child_is_born_in_its_cgroup(cgroup: str) -> None:
    """It is in it before its first instruction, and found by it, whatever it makes of itself."""

    @in_loop
    async def test() -> None:
        recorder = Recorder()
        process = start(program("daemonize.py", "clean", "stay"), recorder, settings=Settings(cgroup=cgroup))
        await recorder.until(lambda: b"\n" in recorder.out)
        assert process.pid in cgroup_processes(cgroup)
        daemon = int(recorder.out)
        assert set(cgroup_processes(cgroup)) == {process.pid, daemon}
        assert {member.pid for member in Snapshot.take().members(process.pid, None, cgroup)} == {
            process.pid,
            daemon,
        }
        killed = await kill_tree(process.pid, cgroup=cgroup)
        assert {member.pid for member in killed} == {process.pid, daemon}
        await recorder.until_ended()
        await until(lambda: not cgroup_processes(cgroup))

    test()


def test_a_family_in_a_cgroup_is_killed_at_once(cgroup: str) -> None:
    """cgroup.kill, where the kernel has it, is faster than any fork."""

    @in_loop
    async def test() -> None:
        recorder = Recorder()
        process = start(program("forks.py", "5"), recorder, settings=Settings(cgroup=cgroup))
        await recorder.until(lambda: recorder.out == b"ready\n")
        await TreeKiller(asyncio.get_running_loop()).kill(process.pid, cgroup=cgroup)
        await recorder.until_ended()
        await until(lambda: not cgroup_processes(cgroup))
        assert cgroup_processes("/nowhere") == []

    test()


def test_ionice_is_there() -> None:
    """What the tests above compare with (util-linux)."""
    assert subprocess.run(["ionice", "--version"], check=True, capture_output=True).stdout
