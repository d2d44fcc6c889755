"""Stopped means empty: waiting until no process of an ended life is left.

Owns the difference between "the main process is gone" and "nothing of it is left".  Finds what is left by
process group, session, ancestry and cookie (`process.tree`), asks it to stop, and looks again whenever one of
those ends.  Looks at /proc once for all lives that ended in the same turn of the loop.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

import structlog

from procd.process.tree import Snapshot

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from procd.process.tree import Member
    from procd.runtime.life import Life

log = structlog.get_logger()

#: How long a killed process group may take to go before its program is started again all the same.  Only what
#: hangs in the kernel, or is held by a parent outside of the group that does not reap it, takes so long.
GROUP_GRACE_S = 1.0


class Stop(NamedTuple):
    """How the main process was told to stop: with which signal, and whether its whole group got it."""

    signal: int
    told_group: bool


class _Leaving:
    """A life whose main process is gone, and what is left of it."""

    __slots__ = ("killing", "life", "on_gone", "seen", "signal", "survivors", "told_group")

    def __init__(self, life: Life, stop: Stop, on_gone: Callable[[tuple[str, ...]], None]) -> None:
        self.life = life
        self.signal = stop.signal
        #: A second SIGTERM means "at once" to many programs: who was in the group has had the first.
        self.told_group = life.pid if stop.told_group else None
        self.on_gone = on_gone
        self.killing = False
        #: A pidfd of each process that was found and told to stop.
        self.seen: dict[int, int] = {}
        self.survivors: list[str] = []


class Emptiness:
    """All lives that are not empty yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, known_pids: Callable[[], set[int]]) -> None:
        self._loop = loop
        self._known_pids = known_pids
        self._leaving: dict[str, _Leaving] = {}
        self._groups: dict[Life, tuple[Callable[[], None], asyncio.TimerHandle]] = {}
        self._look_is_due = False

    # A program that ended by itself: only its group, at once

    def kill_group(self, life: Life) -> None:
        """Kill whoever is in the group of a main process that is dead and not yet reaped."""
        _kill_group(life.pid, signal.SIGKILL)

    def await_group(self, life: Life, on_gone: Callable[[], None]) -> None:
        """Call back when the group of a reaped main process has no member; usually at once."""
        if not _kill_group(life.pid, 0):
            on_gone()
            return
        timer = self._loop.call_later(GROUP_GRACE_S, self._group_gone, life)
        self._groups[life] = (on_gone, timer)

    def _group_gone(self, life: Life) -> None:
        on_gone, timer = self._groups.pop(life)
        timer.cancel()
        on_gone()

    # A program that was told to stop: everything

    def await_tree(self, life: Life, stop: Stop, on_gone: Callable[[tuple[str, ...]], None]) -> None:
        """Call back, with the names of what had to be killed, when no process of the life is left.

        What is left gets the stop signal, if it has not had it; it has time until `kill` is called.
        """
        self._leaving[life.cookie] = _Leaving(life, stop, on_gone)
        self.look_again()

    def kill(self, life: Life) -> None:
        """Let nothing of the life live on: now, and when more of it is found."""
        leaving = self._leaving.get(life.cookie)
        if leaving is not None:
            leaving.killing = True
            self.look_again()

    def look_again(self) -> None:
        """Something ended: look, once for all, at the end of this turn of the loop."""
        for life in [life for life in self._groups if not _kill_group(life.pid, 0)]:
            self._group_gone(life)
        if self._leaving and not self._look_is_due:
            self._look_is_due = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._look_is_due = False
        if not self._leaving:
            return
        snapshot = Snapshot.take(ignore=self._known_pids())
        for cookie, leaving in tuple(self._leaving.items()):
            members = snapshot.members(leaving.life.pid, cookie)
            for member in members:
                self._meet(leaving, member)
            if not members:
                self._forget(leaving)
                leaving.on_gone(tuple(leaving.survivors))

    def _meet(self, leaving: _Leaving, member: Member) -> None:
        """Send a process that is left what it has to get, through a descriptor that cannot mean another."""
        pidfd = leaving.seen.get(member.pid)
        if pidfd is None:
            pidfd = member.open()
            if pidfd is None:
                self.look_again()
                return
            leaving.seen[member.pid] = pidfd
            self._loop.add_reader(pidfd, self._ended, leaving, member.pid)
            if not leaving.killing and member.group != leaving.told_group:
                _send(pidfd, leaving.signal)
        if leaving.killing:
            name = f"{member.name} (pid {member.pid})"
            if name not in leaving.survivors:
                leaving.survivors.append(name)
                log.warning("process left behind is killed", program=leaving.life.name, left=name)
            _send(pidfd, signal.SIGKILL)

    def _ended(self, leaving: _Leaving, pid: int) -> None:
        self._close(leaving.seen.pop(pid))
        self.look_again()

    def _forget(self, leaving: _Leaving) -> None:
        del self._leaving[leaving.life.cookie]
        for pidfd in leaving.seen.values():
            self._close(pidfd)
        leaving.seen.clear()

    def _close(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)

    def close(self) -> None:
        """Wait for nothing more."""
        for leaving in tuple(self._leaving.values()):
            self._forget(leaving)
        for _, timer in self._groups.values():
            timer.cancel()
        self._groups.clear()


def _kill_group(group: int, number: int) -> bool:
    """Signal a process group; return whether it has a member that can be signalled."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # EPERM: all that is left changed its user to one that we may not signal.  Nothing can be done to it.
        return False
    return True


def _send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    except PermissionError:
        log.warning("process left behind cannot be signalled", signal=number)
