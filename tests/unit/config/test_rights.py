"""What the kernel is asked for: limits, scheduling, capabilities; and what this procd can give."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from procd.config import capabilities, rights
from procd.config.capabilities import NAMES, SETPCAP, SYS_NICE, SYS_RESOURCE, name_of, number_of
from procd.config.problems import Mistake
from procd.config.rights import Rights, cpus_of
from procd.config.spec import ResourceLimit, Scheduling

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.config.conftest import Site

WEB = '[programs.web]\ncommand = ["/bin/true"]\n'
EVERYTHING = frozenset(range(len(NAMES)))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The capabilities that this process seems to have."""
    found: set[int] = set()
    monkeypatch.setattr(capabilities, "own", lambda: frozenset(found))
    return found


def refusal(call: object, *arguments: object, **keywords: object) -> str:
    """Why something cannot be given."""
    assert callable(call)
    with pytest.raises(Mistake) as caught:
        call(*arguments, **keywords)
    return caught.value.what


class TestLimits:
    """limits."""

    @pytest.mark.parametrize(
        ("table", "limits"),
        [
            ("{}", ()),
            ("{ nofile = 1024 }", (ResourceLimit(resource.RLIMIT_NOFILE, 1024, 1024),)),
            ("{ nproc = [1, 2] }", (ResourceLimit(resource.RLIMIT_NPROC, 1, 2),)),
            ('{ core = "unlimited" }', (ResourceLimit(resource.RLIMIT_CORE, -1, -1),)),
            ('{ cpu = [5, "unlimited"] }', (ResourceLimit(resource.RLIMIT_CPU, 5, -1),)),
            (
                '{ memlock = "64KiB", as = ["1GiB", "2GiB"] }',
                (
                    ResourceLimit(resource.RLIMIT_AS, 2**30, 2**31),
                    ResourceLimit(resource.RLIMIT_MEMLOCK, 65536, 65536),
                ),
            ),
        ],
    )
    def test_one_value_is_both_limits(self, site: Site, table: str, limits: tuple[ResourceLimit, ...]) -> None:
        """In the order of their names, so that moving them in the file restarts nothing."""
        assert site.program(f"limits = {table}").limits == limits

    @pytest.mark.parametrize(
        ("table", "key", "what", "remedy"),
        [
            ("{ nofiles = 1 }", ".nofiles", "there is no such limit", "'nofile'"),
            ("{ zzz = 1 }", ".zzz", "there is no such limit", "the limits are as, core"),
            ('{ nofile = "1KiB" }', ".nofile", "it counts descriptors", "without quotes"),
            ('{ cpu = "10" }', ".cpu", "it counts seconds", "without quotes"),
            ("{ nofile = [2, 1] }", ".nofile", "the soft limit, 2, is above the hard one, 1", "[SOFT, HARD]"),
            ('{ cpu = ["unlimited", 1] }', ".cpu", "the soft limit, unlimited, is above", "[SOFT, HARD]"),
            ("{ core = -1 }", ".core", "-1 is not a limit", ""),
            ("{ core = [1, 2, 3] }", ".core", "[1, 2, 3] is not a limit", ""),
            ("{ core = true }", ".core", "true is not a limit", ""),
            ('{ core = "lots" }', ".core", '"lots" is not a limit', ""),
            ("{ core = 0x8000000000000000 }", ".core", "is not a limit", ""),
            ("5", "", "5 is not a table", ""),
        ],
    )
    def test_what_is_no_limit_is_one_problem(
        self, site: Site, table: str, key: str, what: str, remedy: str
    ) -> None:
        """With its key."""
        problem = site.problem(f"{WEB}limits = {table}\n")
        assert (problem.line, problem.key) == (3, f"programs.web.limits{key}")
        assert what in problem.what
        assert remedy in problem.remedy

    def test_they_are_joined_with_the_defaults(self, site: Site) -> None:
        """One for all, and one of its own."""
        text = "[defaults]\nlimits = { core = 0, cpu = 5 }\n" + WEB + "limits.cpu = 6\n"
        (spec,) = site.load(text).programs.values()
        assert {limit.resource: limit.hard for limit in spec.limits} == {
            resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: 6
        }  # fmt: skip

    def test_a_hard_limit_is_raised_by_right_only(
        self, held: set[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The kernel would refuse it at every start."""
        monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 100))
        ask = Rights(uid=os.geteuid(), check_files=True).require_limit
        ask(resource.RLIMIT_CORE, 100, most_descriptors=False)
        assert "own hard limit is 100" in refusal(ask, resource.RLIMIT_CORE, 101, most_descriptors=False)
        assert "own hard limit is 100" in refusal(ask, resource.RLIMIT_CORE, -1, most_descriptors=False)
        held.add(SYS_RESOURCE)
        Rights(uid=os.geteuid(), check_files=True).require_limit(
            resource.RLIMIT_CORE, -1, most_descriptors=False
        )

    def test_descriptors_are_bounded_for_root_too(
        self, held: set[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """fs.nr_open, whoever asks."""
        held.update(EVERYTHING)
        path = tmp_path / "nr_open"
        path.write_text("1000\n")
        monkeypatch.setattr(rights, "MOST_DESCRIPTORS", path)
        ask = Rights(uid=os.geteuid(), check_files=True).require_limit
        ask(resource.RLIMIT_NOFILE, 1000, most_descriptors=True)
        for hard in (1001, -1):
            assert "fs.nr_open" in refusal(ask, resource.RLIMIT_NOFILE, hard, most_descriptors=True)

    def test_a_program_is_told_where(self, site: Site) -> None:
        """An ordinary user has no right to anything."""
        problem = site.problem(WEB + 'limits = { nofile = "unlimited" }\n', check_files=True)
        assert (problem.line, problem.key) == (3, "programs.web.limits.nofile")


class TestScheduling:
    """nice, io_class, io_priority, cpu_affinity, oom_score_adj."""

    @pytest.mark.parametrize(
        ("keys", "scheduling"),
        [
            ("", None),
            ("nice = -5", Scheduling(nice=-5)),
            ("nice = 0", Scheduling(nice=0)),
            ('io_class = "idle"', Scheduling(io_class=3)),
            ('io_class = "best-effort"', Scheduling(io_class=2, io_priority=4)),
            ('io_class = "real-time"\nio_priority = 0', Scheduling(io_class=1, io_priority=0)),
            ('cpu_affinity = [0, "2-4", "4"]', Scheduling(cpu_affinity=frozenset({0, 2, 3, 4}))),
            ("oom_score_adj = -1000", Scheduling(oom_score_adj=-1000)),
        ],
    )
    def test_values_become_the_kernels(self, site: Site, keys: str, scheduling: Scheduling | None) -> None:
        """An I/O class without a priority has the kernel's usual one, not the highest."""
        assert site.program(keys).scheduling == scheduling

    @pytest.mark.parametrize(
        ("keys", "key", "what"),
        [
            ("nice = 20", "nice", "20 is not a whole number from -20 to 19"),
            ('io_class = "rt"', "io_class", 'is not "best-effort" or "idle" or "real-time"'),
            ("io_priority = 3", "io_priority", "which is not set"),
            ("io_priority = 8", "io_priority", "8 is not a whole number from 0 to 7"),
            ('io_priority = 3\nio_class = "idle"', "io_priority", "has no priorities"),
            ("cpu_affinity = []", "cpu_affinity", "is empty"),
            ("cpu_affinity = 1", "cpu_affinity", "1 is not an array"),
            ('cpu_affinity = [0, "3-1"]', "cpu_affinity[1]", '"3-1" is not a CPU'),
            ('cpu_affinity = ["0-99999"]', "cpu_affinity[0]", "is not a CPU"),
            ("cpu_affinity = [-1]", "cpu_affinity[0]", "-1 is not a CPU"),
            ("cpu_affinity = [0x" + "f" * 5000 + "]", "cpu_affinity[0]", "a huge number is not a CPU"),
            ("oom_score_adj = 1001", "oom_score_adj", "1001 is not a whole number from -1000 to 1000"),
        ],
    )
    def test_a_wrong_value_is_one_problem(self, site: Site, keys: str, key: str, what: str) -> None:
        """With its key."""
        problem = site.problem(f"{WEB}{keys}\n")
        assert (problem.line, problem.key) == (3, f"programs.web.{key}")
        assert what in problem.what

    @pytest.mark.parametrize(
        ("keys", "key", "what"),
        [
            ("nice = -20", "nice", "has not the right to go below"),
            ('io_class = "real-time"', "io_class", "has not the right"),
            ("oom_score_adj = -1000", "oom_score_adj", "has not the right to go below"),
            ("cpu_affinity = [8191]", "cpu_affinity[0]", "there is no CPU 8191 here"),
            ('capabilities = ["kill"]', "capabilities[0]", "procd has not CAP_KILL itself"),
        ],
    )
    def test_what_procd_cannot_give_is_refused(self, site: Site, keys: str, key: str, what: str) -> None:
        """At check, and not at every start."""
        problems = site.problems(f"{WEB}{keys}\n", check_files=True)
        assert what in next(problem.what for problem in problems if problem.key == f"programs.web.{key}")

    def test_nice_goes_as_low_as_the_limit_lets_it(
        self, held: set[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RLIMIT_NICE counts from 20 downwards."""
        monkeypatch.setattr(resource, "getrlimit", lambda _: (25, 25))
        monkeypatch.setattr(os, "getpriority", lambda *_: 0)
        Rights(uid=os.geteuid(), check_files=True).require_nice(-5)
        assert "below -5" in refusal(Rights(uid=os.geteuid(), check_files=True).require_nice, -6)
        held.add(SYS_NICE)
        Rights(uid=os.geteuid(), check_files=True).require_nice(-20)

    def test_an_unlimited_nice_is_the_lowest(self, held: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
        """-1 is not a number here."""
        assert not held
        monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Rights(uid=os.geteuid(), check_files=True).require_nice(-20)

    def test_all_rights_are_enough(self, held: set[int]) -> None:
        """Nothing else is asked for."""
        held.update(EVERYTHING)
        ask = Rights(uid=os.geteuid(), check_files=True)
        ask.require_nice(-20)
        ask.require_real_time_io()
        ask.require_oom_score(-1000)
        ask.require_capabilities_can_be_dropped()
        ask.require_capability(0)
        ask.require_cpus(frozenset({0}))

    def test_a_score_that_procd_has_itself_can_be_given(
        self, held: set[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Systemd may have set it."""
        assert not held
        monkeypatch.setattr(rights, "_own_oom_score", lambda: -100)
        ask = Rights(uid=os.geteuid(), check_files=True).require_oom_score
        ask(-100)
        assert "below -100" in refusal(ask, -101)

    def test_a_machine_may_not_tell_its_cpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without /sys they are counted."""
        monkeypatch.setattr(rights, "ONLINE", "/nowhere")
        monkeypatch.setattr(os, "cpu_count", lambda: 3)
        ask = Rights(uid=0, check_files=True).require_cpus
        ask(frozenset({2}))
        assert "no CPU 3" in refusal(ask, frozenset({3}))

    @pytest.mark.parametrize("word", ["", "a", "1-", "-1", "1-2-3", "2-1", "8192", "0-8192", "\uff11"])
    def test_only_numbers_and_ranges_are_cpus(self, word: str) -> None:
        """As the kernel writes them."""
        with pytest.raises(ValueError, match=f"^{word}$"):
            cpus_of(word)


class TestCapabilities:
    """capabilities."""

    @pytest.mark.parametrize(
        ("value", "numbers"),
        [
            ("[]", set()),
            ('["CAP_NET_BIND_SERVICE"]', {10}),
            ('["chown", "Cap_Kill", "checkpoint_restore"]', {0, 5, 40}),
        ],
    )
    def test_names_become_numbers(self, site: Site, value: str, numbers: set[int]) -> None:
        """In any case, with the prefix or without."""
        assert site.program(f"capabilities = {value}").capabilities == numbers

    def test_without_the_key_nothing_is_touched(self, site: Site) -> None:
        """Which is not the same as none."""
        assert site.program("").capabilities is None

    @pytest.mark.parametrize(
        ("word", "remedy"),
        [
            ("NET_BIND", "NET_BIND_SERVICE"),
            ("cap_sys_admn", "SYS_ADMIN"),
            ("xyzzy", "see capabilities(7)"),
            ("", ""),
        ],
    )
    def test_an_unknown_name_is_one_problem(self, site: Site, word: str, remedy: str) -> None:
        """With the one that was meant."""
        problem = site.problem(f'{WEB}capabilities = ["kill", "{word}"]\n')
        assert (problem.line, problem.key) == (3, "programs.web.capabilities[1]")
        assert f'"{word}" is not a capability' in problem.what
        assert remedy in problem.remedy

    def test_an_older_kernel_has_fewer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """/proc/sys/kernel/cap_last_cap."""
        monkeypatch.setattr(capabilities, "_last", lambda: 37)
        assert number_of("audit_read") == 37
        assert "this kernel does not have CAP_BPF" in refusal(number_of, "bpf")

    def test_the_numbers_are_the_kernels(self) -> None:
        """Some, from linux/capability.h."""
        numbers = {"CHOWN": 0, "SETPCAP": 8, "NET_BIND_SERVICE": 10, "SYS_ADMIN": 21, "SYS_NICE": 23}
        numbers |= {
            "SYS_RESOURCE": 24,
            "AUDIT_WRITE": 29,
            "SYSLOG": 34,
            "AUDIT_READ": 37,
            "CHECKPOINT_RESTORE": 40,
        }
        assert {name: number_of(name) for name in numbers} == numbers
        assert name_of(8) == "CAP_SETPCAP"

    def test_to_set_them_is_a_right_itself(self, held: set[int]) -> None:
        """Dropping from the bounding set needs CAP_SETPCAP."""
        held.add(5)
        ask = Rights(uid=os.geteuid(), check_files=True)
        ask.require_capability(5)
        assert "CAP_CHOWN" in refusal(ask.require_capability, 0)
        assert "CAP_SETPCAP" in refusal(ask.require_capabilities_can_be_dropped)
        held.add(SETPCAP)
        Rights(uid=os.geteuid(), check_files=True).require_capabilities_can_be_dropped()

    def test_those_of_this_process_are_read(self) -> None:
        """From /proc/self/status."""
        assert capabilities.own() <= EVERYTHING | frozenset(range(64))
        assert bool(capabilities.own()) is (os.geteuid() == 0)


def test_flags_arrive(site: Site) -> None:
    """no_new_privileges needs no right at all."""
    assert site.program("no_new_privileges = true").no_new_privileges is True
    assert site.program("").no_new_privileges is False
