"""The keeper's loop: it starts its children again, holds their records, reaps what they left, and ends last.

Owns when something is done, signals, reaping, and the end.  One thread; it waits for nothing but its epoll, and
reads and writes no file but /proc.  An exception here would cost everybody everything, so what fails is said on
standard error and the loop goes on.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time

from procd.keeper import messages, requests, succession
from procd.keeper.child import in_words
from procd.keeper.messages import EXIT, EXIT_PREFIX, HERE, OF_THE_KEEPER
from procd.keeper.orphans import identity, rest
from procd.keeper.pace import FOR_EVER_S
from procd.keeper.table import Refused

TYPE_CHECKING = False  # as in `messages`
if TYPE_CHECKING:
    from collections.abc import Callable
    from resource import struct_rusage

    from procd.keeper.child import Child
    from procd.keeper.outside import Outside
    from procd.keeper.pace import Pace

#: Ends of unknown processes that are remembered until the first child has taken them; the oldest are given up.
MOST_EXITS = 16384
#: Datagrams of one child before another gets its turn.
DATAGRAMS_A_TURN = 256
#: What is passed on to the first child, and what makes it end.
RELAYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
#: Caught only because their default is to kill: SIGQUIT is taken for SIGTERM, the others for nothing.
CAUGHT = (*RELAYED, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
#: Exit statuses of a first child that are the end when nothing can be lost, as another try would end in the
#: same way: sysexits.h (78: the configuration is wrong, 75: the runtime directory is held), and what cannot be
#: executed.
FINAL_AT_FIRST = frozenset({*range(64, 79), 126, 127})
#: A stop is asked for, and the first child has died so often since: the keeper ends what is left by itself.
DEATHS_WHILE_STOPPING = 3
#: Who dies so soon after it was told to reload may not have done it.
RELOAD_MAY_TAKE_S = 1.0
#: The rest is asked to go; it is killed; our children are, too.
PHASES_OF_THE_END = 3
#: Waits that the kernel does not end: for descriptors that are on their way to be fewer.
_AGAIN_S = 0.05
_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT


class Keeper:
    """The children, the first of which is the supervisor, and everything that happens to them.

    `limits`  the resource limits that the keeper was given, which its children get back
    """

    caught = CAUGHT

    def __init__(
        self,
        children: list[Child],
        outside: Outside,
        pace: Pace,
        limits: tuple[tuple[int, tuple[int, int]], ...],
    ) -> None:
        self.children = children
        self.first = children[0]
        self.outside = outside
        self.pace = pace
        self.limits = limits
        #: Signals for the first child that it has not been sent yet.
        self.relayed: set[int] = set()
        #: How often the first child died since a stop was asked for; -1 before.
        self.stopping = -1
        #: What the first child said its end would mean.
        self.finish: int | None = None
        #: The status with which everything ends, and how far that is (PHASES_OF_THE_END).
        self.ending: int | None = None
        self.end_phase = 0
        #: Ends that were remembered, and those that were given up.
        self.exits = self.exits_lost = 0
        #: The process that tries whether an upgrade would succeed, and until when it may.
        self.rehearsal = 0
        self._rehearsal_until_s = 0.0
        self._end_at_s = 0.0
        self._between_beats_s = pace.between_beats_s(outside.watchdog_s)
        self._beat_at_s = 0.0
        self._again_at_s = 0.0
        self._planned_s = 0.0
        #: When the first child was told to reload.
        self._reloaded_s = -RELOAD_MAY_TAKE_S
        self._noted: set[int] = set()
        self._epoll = select.epoll()
        self._woken, self._waker = socket.socketpair()
        self._watched: dict[int, tuple[Child, int]] = {}

    def run(self) -> int:
        """Serve until the end; returns the exit status."""
        self._catch_signals()
        self._noted.add(signal.SIGCHLD)  # whatever died before anybody listened
        now = time.monotonic()
        self._beat_at_s = now + self._between_beats_s
        while True:
            if self._guarded(lambda: self._round(time.monotonic())):
                return self.ending or 0
            self._guarded(self._wait)

    def _guarded(self, call: Callable[[], bool]) -> bool:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - see the module
            self.outside.complain(error)
            self._noted.add(signal.SIGCHLD)  # it may have been forgotten on the way
            time.sleep(_AGAIN_S)  # so that what fails every time costs little
        return False

    def _round(self, now: float) -> bool:
        """Do what is due; whether that was the end."""
        if self._planned_s and now - self._planned_s > 1.0:
            self._forgive(now - self._planned_s)
        if signal.SIGCHLD in self._noted:
            # First of all: a signal is for who lives.
            self._noted.discard(signal.SIGCHLD)
            if self._reap(now) and self.ending is not None:
                return True
        self.take_signals()
        if self.end_phase > PHASES_OF_THE_END:
            return True
        self._do_what_is_due(now)
        for child in self.children:
            self._send(child, now)
        return False

    # Waiting

    def _catch_signals(self) -> None:
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        for number in CAUGHT:
            # Python calls this between two instructions, never while another call of it runs.
            signal.signal(number, lambda number, _: self._noted.add(number))
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        # The program before us has blocked them (`succession.execute`).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        self._epoll.register(self._woken, select.EPOLLIN)

    def _wait(self) -> bool:
        """Wait for something to happen, and listen to what it is."""
        self._planned_s = min(self._moments())
        # After a signal of just now nothing is waited for; but the plan stays, to see whether we are late.
        wait_s = 0.0 if self._noted else max(self._planned_s - time.monotonic(), 0.0)
        for fd, _ in self._epoll.poll(None if wait_s == FOR_EVER_S else wait_s):
            if fd == self._woken.fileno():
                while len(self._woken.recv(4096)) == 4096:
                    pass
            elif fd in self._watched:
                child, interest = self._watched[fd]
                if interest & select.EPOLLIN:
                    self._listen(child)
        return False

    def _moments(self) -> list[float]:
        """When something is due."""
        moments = [self._beat_at_s]
        for child in self.children:
            if child.pid:
                if child.unanswered_s:
                    moments.append(self._patience_ends(child))
            elif self.ending is None:
                moments.append(child.start_at_s)
        if self.ending is not None:
            moments.append(self._end_at_s)
        if self._again_at_s:
            moments.append(self._again_at_s)
        if self.rehearsal:
            moments.append(self._rehearsal_until_s)
        return moments

    def _forgive(self, late_s: float) -> None:
        """We ourselves were stopped, or had no processor: nobody is to die for what happened meanwhile."""
        self.outside.say(f"was not running for {late_s:.1f} s")
        for child in self.children:
            if child.unanswered_s:
                child.unanswered_s += late_s
        self._end_at_s += late_s

    def watch(self, child: Child) -> None:
        """Wait for the channel of a child, as long as it has one."""
        if child.channel is not None:
            self._epoll.register(child.channel, select.EPOLLIN)
            self._watched[child.channel.fileno()] = (child, select.EPOLLIN)

    def _send(self, child: Child, now: float) -> None:
        """Send a child what there is for it, and wait for what it depends on."""
        if child.channel is None:
            return
        outcome = child.flush()
        if outcome == messages.LATER_UNTOLD:
            self._again_at_s = now + _AGAIN_S
        interest = select.EPOLLOUT if outcome == messages.LATER else 0
        if not child.overfull:
            interest |= select.EPOLLIN
        fd = child.channel.fileno()
        if self._watched[fd][1] != interest:
            self._epoll.modify(fd, interest)
            self._watched[fd] = (child, interest)

    # What is due

    def _do_what_is_due(self, now: float) -> None:
        self._again_at_s = 0.0 if now >= self._again_at_s else self._again_at_s
        if self.ending is not None:
            if now >= self._end_at_s:
                self._end_more(now)
            return
        for child in self.children:
            if not child.pid and now >= child.start_at_s:
                self._start(child, now)
            elif child.pid and child.unanswered_s and now >= self._patience_ends(child):
                self._lose_patience(child, now)
        if self.rehearsal and now >= self._rehearsal_until_s:
            os.kill(self.rehearsal, signal.SIGKILL)
            self._rehearsal_until_s = now + self.pace.patience_s
        if now >= self._beat_at_s:
            self._beat(now)

    def _start(self, child: Child, now: float) -> None:
        try:
            child.start(now, self.limits)
        except OSError as error:
            child.started_s = now
            child.ended(now, f"could not be started: {error.strerror}", self.pace.longest_s)
            self._tell_waiting(child, now)
            return
        self.watch(child)
        if child is not self.first:
            about = messages.lines(pid=child.pid, starts=child.starts, last_end=child.last_end)
            self.remember(messages.CHILD_PREFIX + child.name.encode(), about)

    def _patience_ends(self, child: Child) -> float:
        if child.killed:
            # It waits for a disk that stands still, and dies as soon as the kernel lets it.
            return FOR_EVER_S
        if child.aborted:
            return child.unanswered_s + self.pace.grace_s
        return child.unanswered_s + (self.pace.patience_s if child.up else self.pace.start_s)

    def _lose_patience(self, child: Child, now: float) -> None:
        number = signal.SIGKILL if child.aborted else signal.SIGABRT
        self.outside.say(f"{child.name} (PID {child.pid}) does not answer: sends it {number.name}")
        child.signal(number)
        child.killed = child.aborted
        child.aborted = True
        child.unanswered_s = now

    def _beat(self, now: float) -> None:
        """Ask everybody; systemd hears that all is well, unless the first child cannot even be killed.

        A logger may hang for as long as its disk does.  That is no reason to end what it writes for.
        """
        self._beat_at_s = now + self._between_beats_s
        for child in self.children:
            if self.pace.beat_s and child.pid and not child.unanswered_s:
                child.answer(messages.PING)
                child.unanswered_s = now
        first = self.first
        in_vain = first.pid and first.killed and now - first.unanswered_s > self.pace.grace_s
        if self.outside.watchdog_s and not in_vain:
            self.outside.notify(b"WATCHDOG=1")

    # Signals

    def take_signals(self) -> None:
        """Do what has to be done about signals, but for the dead."""
        noted, self._noted = self._noted, self._noted & {signal.SIGCHLD}
        for number in noted - {signal.SIGCHLD}:
            self._on_signal(number)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGQUIT:
            number = signal.SIGTERM
        if number not in RELAYED:
            self.outside.say(f"ignores {signal.Signals(number).name}")
            return
        if number in STOPS and self.stopping < 0:
            self.stopping = 0
        self.relayed.add(number)
        self.relay()

    def relay(self) -> None:
        """Pass signals on, when there is somebody who will not die of them."""
        if self.first.pid and self.first.up:
            for number in self.relayed:
                self.first.signal(number)
            if signal.SIGHUP in self.relayed:
                self._reloaded_s = time.monotonic()
            self.relayed.clear()

    # Reaping

    def _reap(self, now: float) -> bool:
        """Reap everybody who is dead; whether there is no child left."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, _PEEK)
            except ChildProcessError:
                return True
            if dead is None:
                return False
            pid = dead.si_pid
            _, started, session = identity(pid)
            _, status, usage = os.wait4(pid, 0)
            self._buried(pid, status, now, (started, session == pid), usage)

    def _buried(self, pid: int, status: int, now: float, who: tuple[int, bool], usage: struct_rusage) -> None:
        for child in self.children:
            if child.pid == pid:
                self._child_died(child, status, now)
                return
        if pid == self.rehearsal:
            self.rehearsal = 0
            self._rehearsed(status)
        elif not self.outside.reaped(pid):
            if self.ending is None:
                self._remember_exit(pid, status, who, usage)
            elif self.end_phase > 1:
                self._signal_rest(signal.SIGKILL)  # its children are ours now

    def _remember_exit(self, pid: int, status: int, who: tuple[int, bool], usage: struct_rusage) -> None:
        self.exits += 1
        oldest = self.exits - MOST_EXITS
        if oldest > 0 and self.first.table.drop(EXIT_PREFIX + str(oldest).encode()):
            self.exits_lost += 1
        user_us, system_us = int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6)
        started, led = who
        value = EXIT.pack(pid, status, time.monotonic_ns(), started, user_us, system_us, usage.ru_maxrss, led)
        self.remember(EXIT_PREFIX + str(self.exits).encode(), value)

    def remember(self, key: bytes, value: bytes) -> None:
        """Keep a record of our own for the first child."""
        try:
            self.first.table.put(key, HERE + value, ())
        except Refused as refused:
            self.exits_lost += key.startswith(EXIT_PREFIX)
            self.outside.say(f"cannot remember {key.decode()}: {refused}")
        else:
            self.first.tell((key,))

    def _child_died(self, child: Child, status: int, now: float) -> None:
        while self._listen(child, dead=True):
            pass  # what it said before it died
        requests.leave_ring(self, child)
        self._close(child)
        why = in_words(status)
        child.ended(now, why, self.pace.longest_s)
        if self.ending is not None:
            return
        deliberate = os.WIFEXITED(status) and os.WEXITSTATUS(status) in FINAL_AT_FIRST
        if child is self.first and self.finish is not None:
            self._end(self.finish, now)
        elif child is self.first and deliberate and self._nothing_to_lose():
            self._end(os.WEXITSTATUS(status), now)
        elif child is self.first and self.stopping >= DEATHS_WHILE_STOPPING - 1:
            self.outside.say(f"{child.name} {why} while it was to stop: ends everything")
            self._end(1, now)
        else:
            if child is self.first and self.stopping >= 0:
                self.stopping += 1
                self.relayed.add(signal.SIGTERM)
            if child is self.first and now - self._reloaded_s < RELOAD_MAY_TAKE_S:
                # Perhaps it did not come to it; to do it twice changes nothing.
                self.relayed.add(signal.SIGHUP)
            self._tell_waiting(child, now)

    def _nothing_to_lose(self) -> bool:
        """No supervisor was ever up, here or elsewhere, and none has left anything: so there is no program."""
        return not self.first.ever_up and all(key.startswith(OF_THE_KEEPER) for key in self.first.table)

    def _tell_waiting(self, child: Child, now: float) -> None:
        wait = child.start_at_s - now
        again = f"starts it again in {wait:.1f} s" if wait > 0 else "starts it again"
        text = f"{child.name} {child.last_end} ({child.starts} starts so far); {again}"
        self.outside.say(text)
        self.outside.notify(f"STATUS={text}".encode())

    def _close(self, child: Child) -> None:
        if child.channel is not None:
            del self._watched[child.channel.fileno()]
            child.channel.close()
            child.channel = None

    # What children say

    def _listen(self, child: Child, *, dead: bool = False) -> bool:
        """Take what a child has said, all of it if it is dead; whether there may be more."""
        for _ in range(DATAGRAMS_A_TURN):
            if child.channel is None or (child.overfull and not dead):
                return False
            try:
                received = messages.receive(child.channel)
            except BlockingIOError:
                return False
            if received is None:
                self._close(child)
                # It dies, or is mad: if it does not die soon it is helped.
                child.unanswered_s = child.unanswered_s or time.monotonic()
                return False
            requests.hear(self, child, *received)
        return True

    # The end

    def _end(self, status: int, now: float) -> None:
        """Begin the end: everybody is asked to go.  A child goes when its channel ends."""
        self.ending = status
        self.end_phase = 0
        for child in self.children:
            self._close(child)
        self._end_more(now)

    def _end_more(self, now: float) -> None:
        """Go one step further: ask the rest, kill it, kill our children too, wait no longer.

        Children that are left alone are not killed: a logger that waits for a disk ends by itself when that
        comes back, and has written what programs had said last.
        """
        self.end_phase += 1
        if self.end_phase == PHASES_OF_THE_END - 1 and not rest() - {child.pid for child in self.children}:
            self.end_phase = PHASES_OF_THE_END + 1
            return
        self._end_at_s = now + self.pace.grace_s
        self._noted.add(signal.SIGCHLD)  # perhaps there is nobody left already
        self._signal_rest(signal.SIGTERM if self.end_phase == 1 else signal.SIGKILL)

    def _signal_rest(self, number: int) -> None:
        spared = {child.pid for child in self.children} if self.end_phase < PHASES_OF_THE_END else set()
        for pid in rest() - spared:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    # Upgrade

    def rehearse(self) -> None:
        """Begin to become the program that is installed now.  Raises Refused."""
        if self.rehearsal:
            raise Refused("it is being tried already")
        try:
            self.rehearsal = succession.rehearse(self)
        except OSError as error:
            raise Refused(f"it cannot be tried: {error.strerror}") from error
        self._rehearsal_until_s = time.monotonic() + self.pace.start_s

    def _rehearsed(self, status: int) -> None:
        """Execute the new program if it could read what we know; this returns only if that fails."""
        if self.ending is not None:
            return
        why = f"the new keeper {in_words(status)}"
        if status == 0:
            why = succession.execute(self)
        self.outside.say(f"is not upgraded: {why}")
        self.first.answer(messages.REFUSED, messages.UPGRADE_KEY, why.encode())
