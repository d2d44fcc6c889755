"""The table `cgroup`: refused with the reason where procd has no cgroup to divide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procd.config import delegation
from procd.config.delegation import Delegation
from procd.config.spec import CgroupLimits

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

TEXT = (
    '[programs.web]\ncommand = ["/bin/true"]\ncgroup = { memory_max = "64MiB", cpu_max = 1.5, pids_max = 5 }\n'
)


def test_the_limits_are_bytes_cpus_and_processes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all controllers are delegated."""
    ours = Delegation("/cgroup", frozenset({"memory", "cpu", "pids"}))
    monkeypatch.setattr(delegation, "find", lambda: ours)
    spec = site.load(TEXT).programs["web"]
    assert spec.cgroup == CgroupLimits(memory_max=64 * 1024**2, cpu_max=1.5, pids_max=5)


def test_a_program_without_the_table_has_no_cgroup_of_its_own(site: Site) -> None:
    """It is where procd is."""
    assert site.program("").cgroup is None


def test_without_a_delegated_cgroup_each_key_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is the line of the unit."""
    monkeypatch.setattr(delegation, "find", lambda: None)
    problems = site.problems(TEXT, check_files=True)
    assert {problem.key.rpartition(".")[2] for problem in problems} == {"memory_max", "cpu_max", "pids_max"}
    assert all("Delegate=yes" in problem.remedy and problem.line == 3 for problem in problems)


def test_a_controller_that_is_missing_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that are there are no problem."""
    monkeypatch.setattr(delegation, "find", lambda: Delegation("/cgroup", frozenset({"memory", "cpu"})))
    problem = site.problem(TEXT, check_files=True)
    assert problem.what == "/cgroup has not the controller pids"


@pytest.mark.parametrize("keys", ["cpu_max = 0", "pids_max = 0", "memory_max = -1", 'memory_max = "much"'])
def test_a_limit_that_is_none_is_a_problem(site: Site, keys: str) -> None:
    """With its place."""
    problem = site.problem(f"[programs.web]\ncommand = ['/bin/true']\n[programs.web.cgroup]\n{keys}\n")
    assert problem.line == 4
