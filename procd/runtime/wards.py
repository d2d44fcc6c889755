"""Processes that an earlier supervisor has started, and how we learn of their end.

Owns their pidfds' readiness.  Their parent is the keeper, which tells how they ended; or, if that was another
keeper, which is dead, the init of the system: then only the kernel can tell (`pidfd`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.core import Exit
from procd.process.pidfd import exit_of, exit_of_zombie
from procd.process.reaper import outcome_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from procd.keeper.client import KeptExit
    from procd.process import AdoptedProcess

#: Seconds that the parent may take to reap, and to tell: until then the kernel is asked, at first after this,
#: then after twice the time.
FIRST_LOOK_S = 0.001
LAST_LOOK_S = 5.0
#: Who has a keeper for a parent is told by it, soon.
KEEPER_MAY_TAKE_S = 0.5


class _Ward:
    __slots__ = ("keepers", "pidfd", "process", "start", "timer")

    def __init__(self, process: AdoptedProcess, pidfd: int, start: int, *, keepers: bool) -> None:
        self.process = process
        self.pidfd = pidfd
        self.start = start
        self.keepers = keepers
        self.timer: asyncio.TimerHandle | None = None


class Wards:
    """All that live.  `on_stranger` hears the end of a process that is none of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_stranger: Callable[[int, Exit], None]) -> None:
        self._loop = loop
        self._on_stranger = on_stranger
        self._wards: dict[int, _Ward] = {}

    def watch(self, process: AdoptedProcess, pidfd: int, start: int, *, keepers: bool) -> None:
        """Tell a process of its end; `keepers`: it is a child of our keeper.

        The pidfd stays the process's, which closes it when it is told.
        """
        ward = self._wards[process.pid] = _Ward(process, pidfd, start, keepers=keepers)
        self._loop.add_reader(pidfd, self._died, ward)

    def told(self, kept: KeptExit) -> None:
        """Hear from the keeper how a child of its ended."""
        outcome = outcome_of_kept(kept)
        ward = self._wards.get(kept.pid)
        if ward is None or kept.started_ticks not in {0, ward.start}:
            self._on_stranger(kept.pid, outcome)
        else:
            self._end(ward, outcome)

    def _died(self, ward: _Ward) -> None:
        self._loop.remove_reader(ward.pidfd)
        wait_s = KEEPER_MAY_TAKE_S if ward.keepers else 0.0
        ward.timer = self._loop.call_later(wait_s, self._ask, ward, FIRST_LOOK_S)

    def _ask(self, ward: _Ward, next_s: float) -> None:
        """Ask the kernel: before the parent has reaped, and afterwards."""
        outcome = exit_of(ward.pidfd) or exit_of_zombie(ward.process.pid, ward.start)
        if outcome is not None or next_s > LAST_LOOK_S:
            self._end(ward, outcome or Exit())
        else:
            ward.timer = self._loop.call_later(next_s, self._ask, ward, 2 * next_s)

    def _end(self, ward: _Ward, outcome: Exit) -> None:
        del self._wards[ward.process.pid]
        self._forget(ward)
        ward.process.exiting()
        ward.process.reaped(outcome)

    def _forget(self, ward: _Ward) -> None:
        self._loop.remove_reader(ward.pidfd)
        if ward.timer is not None:
            ward.timer.cancel()

    def close(self) -> None:
        """Watch nobody any more."""
        for ward in self._wards.values():
            self._forget(ward)
        self._wards.clear()


def outcome_of_kept(kept: KeptExit) -> Exit:
    """The end that the keeper tells of."""
    facts = outcome_of(kept.status)
    return Exit(facts.code, facts.signal, facts.core_dumped, kept.user_s, kept.system_s, kept.max_rss_bytes)
