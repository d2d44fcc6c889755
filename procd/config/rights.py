"""What this procd can give to a program: limits, priorities, CPUs, capabilities.

Owns the questions to the kernel, so that what would fail at every start fails at `check`.  With `check_files`
off nothing is asked, and everything can be given.  Must not know keys.
"""

from __future__ import annotations

import os
import re
import resource
from functools import cached_property
from pathlib import Path

from procd.config import capabilities
from procd.config.capabilities import SETPCAP, SYS_ADMIN, SYS_NICE, SYS_RESOURCE, name_of
from procd.config.problems import Mistake

_CPUS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
_HIGHEST_CPU = 8191  # the kernel is never built for more (NR_CPUS)
MOST_DESCRIPTORS = "/proc/sys/fs/nr_open"
ONLINE = "/sys/devices/system/cpu/online"
_NICE_OF_RLIMIT = 20  # a limit of n lets nice go down to 20 - n (getrlimit(2))


class Rights:
    """The rights of a procd that runs as `uid`; every method raises Mistake for what it cannot give."""

    def __init__(self, *, uid: int, check_files: bool) -> None:
        self._uid = uid
        self._is_asked = check_files

    @cached_property
    def _held(self) -> frozenset[int]:
        """Capabilities; those of somebody else, whom this process is not, are none."""
        return capabilities.own() if self._uid == os.geteuid() else frozenset()

    @property
    def is_asked(self) -> bool:
        """Whether the machine is asked at all."""
        return self._is_asked

    def _lacks(self, *any_of: int) -> bool:
        return self._is_asked and self._held.isdisjoint(any_of)

    def require_limit(self, number: int, hard: int, *, most_descriptors: bool) -> None:
        """For a hard limit; -1 is unlimited.  `most_descriptors`: the kernel bounds this one."""
        if not self._is_asked:
            return
        own_hard = resource.getrlimit(number)[1]
        if _is_above(hard, own_hard) and self._lacks(SYS_RESOURCE):
            what = (
                f"procd's own hard limit is {own_hard}, and it has not the right to raise it (CAP_SYS_RESOURCE)"
            )
            raise Mistake(what, f"write at most {own_hard}, or raise the limit where procd is started")
        if most_descriptors and _is_above(hard, self._most_descriptors):
            most = self._most_descriptors
            raise Mistake(f"the kernel allows at most {most} (fs.nr_open)", f"write {most}")

    def require_nice(self, nice: int) -> None:
        """For a CPU priority."""
        lowest = _lowest_nice()
        if nice < lowest and self._lacks(SYS_NICE):
            what = f"procd has not the right to go below {lowest} (CAP_SYS_NICE)"
            raise Mistake(what, f"write {lowest} or more, or run procd as root")

    def require_real_time_io(self) -> None:
        """For the I/O class real-time."""
        if self._lacks(SYS_ADMIN, SYS_NICE):
            raise Mistake("procd has not the right to give it (CAP_SYS_NICE)", 'write "best-effort"')

    def require_oom_score(self, score: int) -> None:
        """For oom_score_adj.  Zero is granted: below it nobody gets without the right (proc(5))."""
        if score < 0 and self._lacks(SYS_RESOURCE) and score < _own_oom_score():
            what = f"procd has not the right to go below {min(0, _own_oom_score())} (CAP_SYS_RESOURCE)"
            raise Mistake(what, "write 0 or more")

    def require_capability(self, number: int) -> None:
        """For a capability that a program is to keep."""
        if self._lacks(number):
            raise Mistake(f"procd has not {name_of(number)} itself", "run procd with it, or remove it")

    def require_capabilities_can_be_dropped(self) -> None:
        """For any set of capabilities."""
        if self._lacks(SETPCAP):
            raise Mistake(
                "procd has not the right to set them (CAP_SETPCAP)", "run procd as root, or remove it"
            )

    def require_cpus(self, numbers: frozenset[int]) -> None:
        """For the CPUs that a program is to run on."""
        if not self._is_asked:
            return
        missing = sorted(numbers - self._cpus)
        if missing:
            there = ", ".join(map(str, sorted(self._cpus)[:8])) + (", …" if len(self._cpus) > 8 else "")
            raise Mistake(f"there is no CPU {missing[0]} here", f"there are {there}")

    @cached_property
    def _most_descriptors(self) -> int:
        return int(Path(MOST_DESCRIPTORS).read_text(encoding="ascii"))

    @cached_property
    def _cpus(self) -> frozenset[int]:
        # Those that are online, and not those that procd itself is bound to: a child may be bound to others.
        try:
            text = Path(ONLINE).read_text(encoding="ascii")
        except OSError:
            return frozenset(range(os.cpu_count() or 1))
        return frozenset().union(*(cpus_of(word) for word in text.strip().split(",")))


def cpus_of(word: str) -> frozenset[int]:
    """The numbers of `3` or of a range `0-3`, as the kernel writes lists of CPUs.  Raises ValueError."""
    match = _CPUS.fullmatch(word)
    if match is None:
        raise ValueError(word)
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if last < first or last > _HIGHEST_CPU:
        raise ValueError(word)
    return frozenset(range(first, last + 1))


def _lowest_nice() -> int:
    """How low a process may set its nice value by itself."""
    limit = resource.getrlimit(resource.RLIMIT_NICE)[0]
    by_limit = -20 if limit == resource.RLIM_INFINITY else _NICE_OF_RLIMIT - limit
    return min(os.getpriority(os.PRIO_PROCESS, 0), by_limit)


def _is_above(limit: int, bound: int) -> bool:
    return bound != resource.RLIM_INFINITY and (limit == resource.RLIM_INFINITY or limit > bound)


def _own_oom_score() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
