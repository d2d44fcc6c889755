"""Ending every process of a program, also while they fork.

Owns the order: freeze what is found, parents first, and look again until nothing new is found; then kill,
parents first; when all are dead look once more, and be done when there is nothing.  Must not know who asks.

Frozen first, because a parent that lives respawns its child, and because a process that is killed leaves its
children to others: what it forked a moment ago in a session of its own, with a clean environment, could then
no longer be told to be of this program.  All trees that are being ended at the same time share each look at
/proc.  Every signal goes through a pidfd, so none can hit a process that has taken over a number.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from typing import TYPE_CHECKING

import structlog

from procd.process.tree import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from procd.process.tree import Identity, Member

# A program that forks faster than it can be frozen in so many looks is killed without being frozen whole.
FREEZING_LOOKS = 16

#: What passes when others let go of something (open(2)); and how many seconds later it is tried again.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
RETRY_S = 0.2

#: How often it is looked again for who cannot be told while in the middle of an exec(2), and after how many
#: seconds for the first time; each time takes twice as long, all 4 s.
UNCLEAR_LOOKS = 12
UNCLEAR_S = 0.001

_log = structlog.get_logger(__name__)


class _Tree:
    """One tree that is being ended, and what was found of it."""

    __slots__ = (
        "cgroup",
        "cookie",
        "done",
        "freezing",
        "killed",
        "living",
        "looks",
        "pid",
        "refused",
        "unclear",
    )

    def __init__(
        self, pid: int, cookie: str | None, cgroup: str | None, done: asyncio.Future[list[Member]]
    ) -> None:
        self.pid = pid
        self.cookie = cookie
        self.cgroup = cgroup
        self.done = done
        self.freezing = True
        self.looks = 0
        self.unclear = 0
        self.living: dict[Identity, tuple[Member, int]] = {}  # with pidfds; in the order found, parents first
        self.killed: list[Member] = []
        self.refused: set[Identity] = set()


class TreeKiller:
    """Ends trees on one loop.

    `ignore` gives the PIDs of main processes that are no part of any tree being ended: those of other programs.
    `kin` are no part of any either, but what descends from them may be.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ignore: Callable[[], Collection[int]] = tuple,
        kin: Collection[int] = (),
    ) -> None:
        self._loop = loop
        self._ignore = ignore
        self._kin = kin
        self._trees: list[_Tree] = []
        self._look_is_due = False

    def kill(
        self, pid: int, *, cookie: str | None = None, cgroup: str | None = None
    ) -> asyncio.Future[list[Member]]:
        """End the program whose main process is or was `pid`; see Snapshot for what belongs to it.

        The future has what was killed, in the order in which it died, when nothing is left but what may not be
        signalled.  Cancelling it stops the effort.  What hangs in the kernel keeps it waiting: bound it.
        """
        tree = _Tree(pid, cookie, cgroup, self._loop.create_future())
        self._trees.append(tree)
        tree.done.add_done_callback(lambda _: self._forget(tree))
        self._look_soon()
        return tree.done

    def _look_soon(self) -> None:
        if not self._look_is_due:
            self._look_is_due = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._look_is_due = False
        waiting = [tree for tree in self._trees if tree.freezing or not tree.living]
        if not waiting:
            return
        try:
            snapshot = Snapshot.take(self._ignore(), self._kin)
            for tree in waiting:
                self._proceed(tree, snapshot)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            _log.warning("cannot look for processes", reason=error.strerror)
            self._loop.call_later(RETRY_S, self._look_soon)

    def _proceed(self, tree: _Tree, snapshot: Snapshot) -> None:
        members = snapshot.members(tree.pid, tree.cookie, tree.cgroup, also=tree.living)
        known = tree.living.keys() | tree.refused
        found = [member for member in members if member.identity not in known]
        tree.looks += 1
        if found and tree.looks <= FREEZING_LOOKS:
            tree.freezing = True
            for member in found:
                self._meet(tree, member, signal.SIGSTOP)
            self._look_soon()
        elif found or tree.living:
            tree.freezing = False
            for member in found:
                self._meet(tree, member, signal.SIGKILL)
            self._kill(tree)
        elif tree.unclear < UNCLEAR_LOOKS and not snapshot.is_clear():
            self._loop.call_later(UNCLEAR_S * 2**tree.unclear, self._look_soon)
            tree.unclear += 1
        elif not tree.done.done():
            tree.done.set_result(tree.killed)

    def _meet(self, tree: _Tree, member: Member, number: int) -> None:
        pidfd = member.open()
        if pidfd is None:
            return
        tree.living[member.identity] = member, pidfd
        self._loop.add_reader(pidfd, self._died, tree, member)
        self._send(tree, member, number)

    def _kill(self, tree: _Tree) -> None:
        if tree.cgroup is not None:
            # All at once, and nothing can be forked past it; kernels before 5.14 do not have the file.
            with contextlib.suppress(OSError):
                _write(f"{tree.cgroup}/cgroup.kill", b"1")
        for member, _ in tuple(tree.living.values()):
            self._send(tree, member, signal.SIGKILL)
        if not tree.living:
            self._look_soon()

    def _send(self, tree: _Tree, member: Member, number: int) -> None:
        try:
            signal.pidfd_send_signal(tree.living[member.identity][1], number)
        except ProcessLookupError:
            return  # its end is on the way to us
        except PermissionError:
            _log.warning("process may not be signalled", pid=member.pid, process=member.name)
            tree.refused.add(member.identity)
            self._close(tree.living.pop(member.identity)[1])
            self._look_soon()

    def _died(self, tree: _Tree, member: Member) -> None:
        tree.killed.append(member)
        self._close(tree.living.pop(member.identity)[1])
        if not tree.living:
            self._look_soon()

    def _close(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)

    def _forget(self, tree: _Tree) -> None:
        self._trees.remove(tree)
        for _, pidfd in tree.living.values():
            self._close(pidfd)
        tree.living.clear()


async def kill_tree(pid: int, *, cookie: str | None = None, cgroup: str | None = None) -> list[Member]:
    """End one program, see TreeKiller.kill: what was killed."""
    return await TreeKiller(asyncio.get_running_loop()).kill(pid, cookie=cookie, cgroup=cgroup)


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
