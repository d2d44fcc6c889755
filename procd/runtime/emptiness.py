"""Stopped means empty: waiting until no process of an ended life is left.

Owns the difference between "the main process is gone" and "nothing of it is left".  Finds what is left by
process group, session, ancestry and cookie (`process.tree`), asks it to stop, and looks again whenever one of
those ends.  Looks at /proc once for all lives that ended in the same turn of the loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from procd.process.kill_tree import RETRY_S, SHORTAGES, UNCLEAR_LOOKS, UNCLEAR_S, TreeKiller
from procd.process.tree import Snapshot, direct_children, start_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from procd.process import Reaper
    from procd.process.tree import Identity, Member
    from procd.runtime.life import Life

log = structlog.get_logger()

#: How long a killed process group may take to go before its program is started again all the same.  Only what
#: hangs in the kernel, or is held by a parent outside of the group that does not reap it, takes so long.
GROUP_GRACE_S = 1.0
#: How long after the end of a program what has left its group is looked for: once for all that ended meanwhile.
CLEAN_UP_AFTER_S = 0.02
#: How long somebody waits for that; what takes longer hangs in the kernel.
CLEAN_UP_GRACE_S = 5.0
#: How many of the processes that had to be killed are named.
NAMED = 8


class Told(NamedTuple):
    """How the main process was told to stop: with which signal, and whether its whole group got it."""

    signal: int
    group: bool


class _Leaving:
    """A life whose main process is gone, and what is left of it."""

    __slots__ = ("life", "on_gone", "seen", "signal", "told_group")

    def __init__(self, life: Life, told: Told, on_gone: Callable[[tuple[str, ...]], None]) -> None:
        self.life = life
        self.signal = told.signal
        #: A second SIGTERM means "at once" to many programs: who was in the group has had the first.
        self.told_group = life.pid if told.group else None
        self.on_gone = on_gone
        #: A pidfd of each process that was found, and told to stop if it had not been.
        self.seen: dict[Identity, int] = {}


class Emptiness:
    """All lives that are not empty yet.

    `reaper` knows which of our children are not orphans; `strangers` are main processes that belong to none of
    these lives; `keeper` is our parent, whose children the orphans of an earlier supervisor are.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reaper: Reaper,
        strangers: Callable[[], set[int]],
        keeper: int | None = None,
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._strangers = strangers
        self._kin = () if keeper is None else (keeper,)
        #: Orphans may be somebody else's children.
        self.has_adopted = False
        self._killer = TreeKiller(loop, strangers, self._kin)
        self._leaving: dict[str, _Leaving] = {}
        self._killing: dict[str, asyncio.Future[list[Member]]] = {}
        self._groups: dict[Life, tuple[Callable[[], None], asyncio.TimerHandle]] = {}
        #: Programs that ended by themselves, by cookie: to be looked at, and being killed.
        self._unasked: dict[str, Life] = {}
        self._cleaning: dict[str, tuple[str, asyncio.Future[list[Member]]]] = {}
        self._clean_up: asyncio.TimerHandle | None = None
        self._look_is_due = False
        self._unclear_looks = 0

    # A program that ended by itself: only its group, at once

    def kill_group(self, life: Life) -> None:
        """Kill whoever is in the group of a main process that is dead and not yet reaped."""
        _signal_group_of(life, signal.SIGKILL)

    def await_group(self, life: Life, on_gone: Callable[[], None]) -> bool:
        """Call back when the group of a reaped main process has no member; return whether that takes time.

        Usually it does not, and the call was made.
        """
        if not _signal_group_of(life, 0):
            on_gone()
            return False
        timer = self._loop.call_later(GROUP_GRACE_S, self._group_gone, life)
        self._groups[life] = (on_gone, timer)
        return True

    def _group_gone(self, life: Life) -> None:
        on_gone, timer = self._groups.pop(life)
        timer.cancel()
        on_gone()

    def clean_up(self, life: Life) -> None:
        """Kill, soon, what a program that ended by itself has left outside of its group.

        Its restart does not wait for that: what has left the group holds nothing of it that is known.
        """
        self._unasked[life.cookie] = life
        if self._clean_up is None:
            self._clean_up = self._loop.call_later(CLEAN_UP_AFTER_S, self._look_for_orphans)

    def _look_for_orphans(self) -> None:
        self._clean_up = None
        if not self._has_no_orphan():
            snapshot = Snapshot.take(self._strangers(), self._kin)
            for cookie, life in self._unasked.items():
                if snapshot.members(life.pid, cookie) or not snapshot.is_clear():
                    self._cleaning[cookie] = (life.name, self._killer.kill(life.pid, cookie=cookie))
                    self._cleaning[cookie][1].add_done_callback(partial(self._cleaned, cookie))
        self._unasked.clear()

    def _cleaned(self, cookie: str, killed: asyncio.Future[list[Member]]) -> None:
        name, _ = self._cleaning.pop(cookie)
        if not killed.cancelled() and killed.result():
            _warn(name, _named(killed.result()))

    async def cleaned_up(self, names: Collection[str]) -> None:
        """Wait until nothing is left of earlier lives of these programs, as far as that can be."""
        if self._clean_up is not None:
            self._clean_up.cancel()
            self._look_for_orphans()
        kills = [kill for name, kill in self._cleaning.values() if name in names]
        if kills:
            await asyncio.wait(kills, timeout=CLEAN_UP_GRACE_S)

    # A program that was told to stop: everything

    def await_tree(self, life: Life, told: Told, on_gone: Callable[[tuple[str, ...]], None]) -> None:
        """Call back, with the names of what had to be killed, when no process of the life is left.

        What is left gets the stop signal, if it has not had it; it has time until `kill` is called.
        """
        self._leaving[life.cookie] = _Leaving(life, told, on_gone)
        self.look_again()

    def kill(self, life: Life) -> None:
        """Let nothing of the life live on, its main process neither."""
        if life.cookie not in self._killing:
            killing = self._killer.kill(life.pid, cookie=life.cookie, cgroup=life.cgroup)
            self._killing[life.cookie] = killing
            killing.add_done_callback(lambda _: self.look_again())

    def kills(self, life: Life) -> bool:
        """Whether the life is being killed."""
        return life.cookie in self._killing

    def look_again(self) -> None:
        """Something ended: look, once for all, at the end of this turn of the loop."""
        for life in [life for life in self._groups if not _signal_group_of(life, 0)]:
            self._group_gone(life)
        if self._leaving and not self._look_is_due:
            self._look_is_due = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._look_is_due = False
        asked = [leaving for leaving in self._leaving.values() if not self._ends_by_killing(leaving)]
        if not asked:
            return
        try:
            self._look_at(asked)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            # Stopped means empty, also while there is no descriptor left to look with: the next look will tell.
            log.warning("cannot look for what is left", reason=error.strerror)
            self._loop.call_later(RETRY_S, self.look_again)

    def _look_at(self, asked: list[_Leaving]) -> None:
        if self._has_no_orphan():
            for leaving in asked:
                self._gone(leaving, ())
            return
        snapshot = Snapshot.take(self._strangers(), self._kin)
        empty = []
        for leaving in asked:
            members = snapshot.members(
                leaving.life.pid, leaving.life.cookie, leaving.life.cgroup, also=leaving.seen
            )
            for member in members:
                self._meet(leaving, member)
            if not members:
                empty.append(leaving)
        if empty and self._is_clear(snapshot):
            for leaving in empty:
                self._gone(leaving, ())

    def _is_clear(self, snapshot: Snapshot) -> bool:
        """Whether who was not found is gone; it is looked again if not, less and less often."""
        if snapshot.is_clear():
            self._unclear_looks = 0
            return True
        self._loop.call_later(min(UNCLEAR_S * 2**self._unclear_looks, RETRY_S), self.look_again)
        self._unclear_looks = min(self._unclear_looks + 1, UNCLEAR_LOOKS)
        return False

    def _has_no_orphan(self) -> bool:
        if self.has_adopted:
            # Whoever is the parent of those reaps them while we would read its list.
            return False
        children = direct_children()
        return children is not None and children <= self._reaper.pids

    def _ends_by_killing(self, leaving: _Leaving) -> bool:
        """Whether the life is being killed; when that is done, all is gone that may be signalled."""
        killing = self._killing.get(leaving.life.cookie)
        if killing is None:
            return False
        if killing.done() and not killing.cancelled():
            left = [member for member in killing.result() if member.pid != leaving.life.pid]
            names = _named(left)
            if names:
                _warn(leaving.life.name, names)
            self._loop.call_soon(self._gone, leaving, names)
        return True

    def _gone(self, leaving: _Leaving, survivors: tuple[str, ...]) -> None:
        if self._leaving.get(leaving.life.cookie) is leaving:
            self._forget(leaving)
            leaving.on_gone(survivors)

    def _meet(self, leaving: _Leaving, member: Member) -> None:
        """Tell a process that is left to stop, once, and learn of its end."""
        if member.identity in leaving.seen:
            return
        pidfd = member.open()
        if pidfd is None:
            self.look_again()
            return
        leaving.seen[member.identity] = pidfd
        self._loop.add_reader(pidfd, self._ended, leaving, member.identity)
        if member.group != leaving.told_group:
            _send(pidfd, leaving.signal)

    def _ended(self, leaving: _Leaving, identity: Identity) -> None:
        self._close(leaving.seen.pop(identity))
        self.look_again()

    def _forget(self, leaving: _Leaving) -> None:
        del self._leaving[leaving.life.cookie]
        killing = self._killing.pop(leaving.life.cookie, None)
        if killing is not None:
            killing.cancel()
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
        for killing in self._killing.values():
            killing.cancel()
        self._killing.clear()
        if self._clean_up is not None:
            self._clean_up.cancel()
        for _, kill in tuple(self._cleaning.values()):
            kill.cancel()
        for _, timer in self._groups.values():
            timer.cancel()
        self._groups.clear()


def _named(members: list[Member]) -> tuple[str, ...]:
    """Name processes for people, a few of them.

    A process may call itself anything, what is not UTF-8 and control characters too (prctl(2), PR_SET_NAME),
    and these names go into records, which have to be sent, and into lines of a log.
    """
    names = tuple(f"{ascii(member.name)[1:-1]} (pid {member.pid})" for member in members[:NAMED])
    return (*names, f"{len(members) - NAMED} more") if len(members) > NAMED else names


def _warn(name: str, killed: tuple[str, ...]) -> None:
    log.warning("what was left was killed", program=name, left=killed)


def signal_group(group: int, number: int) -> bool:
    """Signal a process group, with 0 only ask for it; return whether it has a member that can be signalled."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # EPERM: all that is left changed its user to one that we may not signal.  Nothing can be done to it.
        return False
    return True


def _signal_group_of(life: Life, number: int) -> bool:
    """As `signal_group`, for the group of a main process that is dead.

    No number is given again as long as it is that of a group.  But who does not reap the main process learns of
    its end later: a process that has the number by then is another's.
    """
    if life.adopted and start_time(life.pid) not in {None, life.start}:
        return False
    return signal_group(life.pid, number)


def _send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    except PermissionError:
        log.warning("process left behind cannot be signalled", signal=number)
