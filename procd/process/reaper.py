"""The one owner of reaping on a loop.

Owns the peek at who died, and the reaping itself.  Must not know what a child was for: who watches a
PID is told twice, once while it is dead and its number still its own, and once when it is reaped.

Reaping is peek (waitid(2) with WNOWAIT), tell, reap (wait4(2), for the accounts); it never blocks, does a
bounded number of children in each turn of the loop, and looks once for however many signals came.  The look for
whoever is dead costs the kernel a walk over our children, about 30 ns each, and 120 when nobody has looked for
a while; so the one that the signal was about comes first.

Two characters.  An exclusive reaper reaps every child of this process, unknown ones too: those that a subreaper
inherits, which are reported to `on_orphan`; it blocks SIGCHLD, and has to be closed.  One that is not leaves
unknown children to whoever started them, and so can live beside other code that has children of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn, Protocol
from weakref import WeakKeyDictionary, ref

import structlog

from procd.core.outcome import Exit
from procd.process import syscalls
from procd.process.sigchld import Sigchld

if TYPE_CHECKING:
    import asyncio
    import resource
    from collections.abc import Callable, Iterator

BATCH = 64

_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT

_log = structlog.get_logger(__name__)


class Watcher(Protocol):
    """Whoever wants to know of the end of a child."""

    def exiting(self) -> None:
        """The child is dead and not reaped: its PID and its process group cannot be anybody else's yet."""

    def reaped(self, outcome: Exit) -> None:
        """The child is gone."""


class Reaper:
    """Reaps on `loop` from construction to `close`, in the main thread (signal(7) leaves no choice)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        exclusive: bool = True,
        on_orphan: Callable[[int, Exit], None] | None = None,
    ) -> None:
        self._loop = loop
        self._exclusive = exclusive
        self._watchers: dict[int, Watcher] = {}
        self._sweep_is_due = False
        self._closed = False
        self.on_orphan = on_orphan
        self._sigchld = Sigchld(loop, self._on_signal, blocked=exclusive)
        _reapers[loop] = ref(self)
        self._plan()

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> Reaper:
        """The reaper of a loop: the one made for it, or a new one that leaves others' children alone."""
        known = _reapers.get(loop)
        return (known() if known is not None else None) or Reaper(loop, exclusive=False)

    @staticmethod
    def become_subreaper() -> None:
        """Inherit the orphans among our descendants (PR_SET_CHILD_SUBREAPER); until this process ends."""
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a reaper is bound to a loop and to children, and cannot be pickled or copied")

    def __contains__(self, pid: int) -> bool:
        return pid in self._watchers

    @property
    def pids(self) -> set[int]:
        """The children that are watched and not reaped."""
        return set(self._watchers)

    def watch(self, pid: int, watcher: Watcher) -> None:
        """Tell `watcher` of the end of our child `pid`, also if it is dead already; never from in here."""
        self._watchers[pid] = watcher

    def forget(self, pid: int) -> None:
        """Tell nobody of the end of `pid`; an exclusive reaper reaps it all the same."""
        self._watchers.pop(pid, None)

    def reap(self, pid: int) -> bool:
        """Reap a watched child if it is dead; whether it was.  Never blocks; called again it does nothing."""
        if pid not in self._watchers:
            return False
        try:
            dead = os.waitid(os.P_PID, pid, _PEEK)
        except ChildProcessError:
            # Somebody else took it: it is gone, and nobody will ever tell us how it ended.
            self._tell_reaped(pid, Exit())
            return True
        if dead is None:
            return False
        self._bury(pid)
        return True

    def close(self) -> None:
        """Stop reaping; children that are left become zombies when they end."""
        if not self._closed:
            self._closed = True
            self._sigchld.close()
            _reapers.pop(self._loop, None)

    # The sweep

    def _on_signal(self, pid: int) -> None:
        if not self._closed:
            self.reap(pid)
            self._plan()

    def _plan(self) -> None:
        """Sweep once in the next turn, however many signals there are in this one."""
        if not self._sweep_is_due and not self._closed:
            self._sweep_is_due = True
            self._loop.call_soon(self._sweep)

    def _sweep(self) -> None:
        self._sweep_is_due = False
        if self._closed:
            return
        for count, pid in enumerate(self._dead(), 1):
            self._bury(pid)
            if count == BATCH:
                self._plan()
                return

    def _dead(self) -> Iterator[int]:
        """One PID after the other of children that can be reaped, each to be reaped before the next."""
        while True:
            try:
                peeked = os.waitid(os.P_ALL, 0, _PEEK)
            except ChildProcessError:
                # No children at all: what is still watched was reaped by somebody else.
                for pid in tuple(self._watchers):
                    self._tell_reaped(pid, Exit())
                return
            if peeked is None:
                return
            if not self._exclusive and peeked.si_pid not in self._watchers:
                # A stranger's child lies in front and is not ours to move: look for each of our own behind it.
                for pid in tuple(self._watchers):
                    self.reap(pid)
                return
            yield peeked.si_pid

    def _bury(self, pid: int) -> None:
        watcher = self._watchers.get(pid)
        if watcher is not None:
            self._guard(watcher.exiting, pid)
        try:
            _, status, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            outcome = Exit()
        else:
            outcome = outcome_of(status, usage)
        self._tell_reaped(pid, outcome)

    def _tell_reaped(self, pid: int, outcome: Exit) -> None:
        watcher = self._watchers.pop(pid, None)
        if watcher is not None:
            self._guard(lambda: watcher.reaped(outcome), pid)
        elif self.on_orphan is not None:
            on_orphan = self.on_orphan
            self._guard(lambda: on_orphan(pid, outcome), pid)

    def _guard(self, call: Callable[[], None], pid: int) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - one that fails must not keep the others from being told
            _log.exception("watcher of a child failed", pid=pid)


def outcome_of(status: int, usage: resource.struct_rusage | None = None) -> Exit:
    """The end that a wait status (wait(2)) stands for, with the accounts if there are any."""
    signalled = os.WIFSIGNALED(status)
    return Exit(
        code=None if signalled else os.WEXITSTATUS(status),
        signal=os.WTERMSIG(status) if signalled else None,
        core_dumped=signalled and os.WCOREDUMP(status),
        user_s=usage.ru_utime if usage else 0.0,
        system_s=usage.ru_stime if usage else 0.0,
        max_rss_bytes=usage.ru_maxrss * 1024 if usage else 0,
    )


def outcome_of_peek(dead: os.waitid_result) -> Exit:
    """The end that waitid(2) tells of, without the accounts."""
    if dead.si_code == os.CLD_EXITED:
        return Exit(code=dead.si_status)
    return Exit(signal=dead.si_status, core_dumped=dead.si_code == os.CLD_DUMPED)


# The loop itself keeps its reaper alive, as its signal handler; so a loop that is collected takes it along.
_reapers: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[Reaper]] = WeakKeyDictionary()
