"""Programs in cgroups of their own: born there, and killed there, whatever they did to hide."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from procd.config.delegation import OWN, Delegation
from procd.config.spec import CgroupLimits
from procd.core import State, Stop
from procd.process.tree import cgroup_processes
from procd.runtime.cgroups import PROGRAMS, Cgroups, settings
from procd.runtime.record import record
from tests.kernel.children import in_loop, until
from tests.world import TEST, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def delegated() -> Iterator[str]:
    """A cgroup of version 2 that is given to the test; the test's own process is put back afterwards."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    if root is None:
        pytest.skip("no cgroup v2 is mounted")
    directory = f"{root}/procd-test-{secrets.token_hex(4)}"
    try:
        Path(directory).mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    try:
        yield directory
    finally:
        with contextlib.suppress(OSError):
            Path(root, "cgroup.procs").write_text(str(os.getpid()))
        for place in sorted((str(path) for path in Path(directory).rglob("*") if path.is_dir()), reverse=True):
            Path(place).rmdir()
        Path(directory).rmdir()


@in_loop
async def test_a_program_lives_and_dies_in_its_cgroup(tmp_path: Path, delegated: str) -> None:
    """A grandchild with a session of its own and an empty environment is found by nothing but its cgroup."""
    async with World(tmp_path) as world:
        world.runtime.around.cgroups = Cgroups(Delegation(delegated, frozenset()))
        # Without controllers on this machine a limit cannot be set, but the cgroup is made all the same.
        script = "setsid env -i sh -c \"trap '' TERM; while :; do sleep 1; done\" & echo $!; wait"
        world.add(world.spec(command=script, cgroup=CgroupLimits(), stop_timeout_s=0.3))
        directory = f"{delegated}/{PROGRAMS}/web.program"
        await until(lambda: len(cgroup_processes(directory)) >= 2)
        main = world.program().pid
        assert main in cgroup_processes(directory)
        assert os.getpid() in cgroup_processes(f"{delegated}/{OWN}")
        # What its children use is counted, too: /proc/PID/stat of the main process would say nothing of it.
        await until(lambda: (record(world.runtime, world.program())["cpu_s"] or 0) > 0)
        hidden = set(cgroup_processes(directory)) - {main}
        world.runtime.submit(Stop("web", TEST))
        await world.until_state(State.STOPPED)
        assert not [pid for pid in hidden if os.path.exists(f"/proc/{pid}/exe")]  # noqa: ASYNC240, PTH110
        assert not os.path.exists(directory)  # noqa: ASYNC240, PTH110 - a directory of the kernel


@in_loop
async def test_a_limit_that_cannot_be_set_prevents_the_start(tmp_path: Path, delegated: str) -> None:
    """The reason names the file that could not be written."""
    if os.path.exists(f"{delegated}/pids.max"):  # noqa: ASYNC240, PTH110 - a file of the kernel
        pytest.skip("the controller pids is there")
    async with World(tmp_path) as world:
        world.runtime.around.cgroups = Cgroups(Delegation(delegated, frozenset()))
        world.add(world.spec(cgroup=CgroupLimits(pids_max=5)))
        await world.until_state(State.BACKOFF)
        assert "cgroup" in str(world.program().cause)
        assert "pids.max" in str(world.program().cause)


def test_limits_are_written_as_the_kernel_reads_them() -> None:
    """Bytes, microseconds in each period, and a count (Documentation/admin-guide/cgroup-v2.rst)."""
    limits = CgroupLimits(memory_max=1 << 20, cpu_max=1.5, pids_max=7)
    assert settings(limits) == {"memory.max": "1048576", "cpu.max": "150000 100000", "pids.max": "7"}
