"""One log: the pipes of a slot in the order in which they came, where they go, and what is done in trouble."""

from __future__ import annotations

import os
import time

from procd.output import messages
from procd.output.logger.file import LockedError
from procd.output.logger.loop import WRITABLE
from procd.output.logger.pace import PAUSED
from procd.output.logger.rotating import RotatingFile
from procd.output.logger.rotation import RollError
from procd.output.logger.sink import FullError, Sink, is_sink
from procd.output.logger.turns import ANY_SIZE

TYPE_CHECKING = False  # as in `procd.output.messages`
if TYPE_CHECKING:
    from procd.output.logger.loop import Timer
    from procd.output.logger.pipe import Pipe
    from procd.output.logger.spec import Spec
    from procd.output.logger.world import World

#: Bytes that one pipe may move before the others get their turn: one flood does not starve the rest.
TURN_BYTES = 1 << 20
#: A piece that was smaller than this was the last in its pipe.
LEAST_BYTES = 8192
#: Seconds after which what cannot be written is tried again.
RETRY_S = 1.0

#: What a turn returns at the end of the pipe.
ENDED = -1


class Log:
    """A log."""

    __slots__ = (
        "_aging",
        "_holds",
        "_lost",
        "_reason",
        "_retry",
        "_spec",
        "_target",
        "_told",
        "_world",
        "pace",
        "pipes",
        "slot",
        "watched",
    )

    def __init__(self, world: World, slot: int, spec: Spec) -> None:
        self._world = world
        self.pace = world.pace
        self.slot = slot
        self.watched = False
        self.pipes: list[Pipe] = []
        self._spec = spec
        self._target: RotatingFile | Sink | None = None
        #: Fires when the file is old enough to be rotated.
        self._aging: Timer | None = None
        #: Why nothing can be written; empty: it can.  `_retry` fires when it is tried again.
        self._reason = ""
        self._retry: Timer | None = None
        #: The pipes are left alone: the trouble is one to wait for, or the target takes no more for now.
        self._holds = False
        #: The reason that the daemon knows.
        self._told = ""
        #: What was dropped in this trouble.
        self._lost = 0
        self._open()

    # Opening

    def keep(self, spec: Spec) -> None:
        """Keep this log so from now on; what is in its pipes goes the old way first."""
        self.drain()
        if spec.path != self._spec.path:
            # Another log, with offsets of its own.
            self._world.board.set_extent(self.slot, 0, 0)
        self._spec = spec
        self._drop_target()
        self._open()

    def _open(self) -> None:
        """Open the target; where that fails, there is trouble."""
        try:
            self._open_target()
            self._mark()
        except FullError:
            # It is open, and will be written to when the first pipe gets its turn.
            self._be_well()
        except OSError as error:
            self._fail(error)
        else:
            self._be_well()

    def _open_target(self) -> None:
        spec = self._spec
        kind = Sink if is_sink(spec.path) else RotatingFile
        self._target = kind(self._world, self.slot, spec)
        self._grew()

    def _drop_target(self) -> None:
        self._stop_waiting()
        if self._target is not None:
            self._target.close()
            self._target = None
        if self._aging is not None:
            self._aging.cancel()
            self._aging = None

    # Pipes

    def attach(self, pipe: Pipe) -> None:
        """Take what is written to this pipe, after what is in the earlier ones; BEGUN is said if asked for."""
        self.drain()
        self.pipes.append(pipe)
        if not self._holds:
            self._begin(pipe)

    def _begin(self, pipe: Pipe) -> None:
        if pipe.tells:
            pipe.tells = False
            offset = self._world.board.begin_pipe(self.slot, os.fstat(pipe.fd).st_ino)
            self._world.say([messages.BEGUN, self.slot, pipe.number, offset])
        if pipe.pace == PAUSED:
            self.pace.begin(pipe)

    def turn(self, pipe: Pipe, at_most: int = TURN_BYTES) -> int:
        """Move some of what is in a pipe; returns how many bytes, 0 when there was nothing, or ENDED."""
        if self._holds:
            return 0
        try:
            if self._reason:
                moved = self._drop(pipe, at_most)
            elif self._target is None:
                return 0
            else:
                moved = self._target.take(pipe, at_most)
        except BlockingIOError:
            return 0
        except FullError:
            self._wait()
            return 0
        except OSError as error:
            self._fail(error)
            return 0
        if not moved:
            self._let_go(pipe)
            return ENDED
        self._grew()
        return moved

    def empty_once(self, pipe: Pipe) -> int:
        """Take what is in a busy pipe, TURN_BYTES at most; returns as `turn`.

        What has to be looked at moves in smaller pieces than what is spliced: as many as there are.
        """
        moved = self.turn(pipe)
        more = moved
        while (
            more > LEAST_BYTES and moved < TURN_BYTES and self._target is not None and not self._target.splices
        ):
            more = self.turn(pipe, TURN_BYTES - moved)
            moved += max(more, 0)
        return moved

    def drain(self) -> bool:
        """Move what is in the pipes now, the oldest first; returns whether that was possible."""
        for pipe in tuple(self.pipes):
            self.empty(pipe)
        return not self._holds

    def empty(self, pipe: Pipe) -> None:
        """Move what is in a pipe now."""
        left = pipe.unread
        while left > 0:
            # What is moved may be dropped instead, when trouble begins in between.
            before = bool(self._reason)
            moved = self.turn(pipe, min(left, TURN_BYTES))
            if moved <= 0 and before == bool(self._reason):
                break
            left -= max(moved, 0)

    def detach(self) -> None:
        """Move what is in the pipes, and close them; while the log holds them, that is left for later."""
        for pipe in tuple(self.pipes):
            self.empty(pipe)
            if self._holds:
                pipe.leaving = True
            elif pipe in self.pipes:
                self._let_go(pipe)

    def _let_go(self, pipe: Pipe) -> None:
        """Close a pipe from which nothing more is taken."""
        self.pace.pause(pipe)
        self.pipes.remove(pipe)
        if self._target is not None and not self._reason:
            try:
                self._target.end_line(pipe.pid)
            except FullError:
                self._wait()
            except OSError as error:
                self._fail(error)
        pipe.close()
        self._world.say([messages.ENDED, self.slot, pipe.number])

    # What is written besides

    def gave_up(self, count: int) -> None:
        """So much output was thrown away before it came here."""
        self._world.board.count(self.slot, dropped=count)
        if self._reason or self._target is None:
            return
        try:
            self._mark()
        except FullError:
            self._wait()
        except OSError as error:
            self._fail(error)

    def _mark(self) -> None:
        """Write how much was dropped, if something was.  Raises OSError and FullError."""
        count = self._world.board.unmarked(self.slot)
        if not count or self._target is None:
            return
        why = f": {self._reason}" if self._reason else ""
        self._target.remark(f"{count} bytes of output were dropped{why}", marks=True)
        self._grew()

    def _grew(self) -> None:
        if self.watched:
            self._world.grown.add(self.slot)
        if self._aging is None and self._spec.max_age_s is not None:
            self._await_age()

    # Rotation

    def _await_age(self) -> None:
        target = self._target
        if target is None or target.since is None or self._spec.max_age_s is None:
            return
        left = target.since + self._spec.max_age_s - time.time()
        self._aging = self._world.loop.at(time.monotonic() + max(left, 0.0), self._is_old)

    def _is_old(self) -> None:
        self._aging = None
        target = self._target
        if target is None or target.since is None or self._spec.max_age_s is None:
            return
        if time.time() < target.since + self._spec.max_age_s:
            # It was rotated for its size meanwhile, or the clock was set.
            self._await_age()
            return
        target.due = True
        self.drain()
        if isinstance(target, RotatingFile) and target is self._target and target.at_line_start:
            try:
                target.rotate_if_possible()
            except OSError as error:
                self._fail(error)

    def rotate(self) -> str:
        """Rotate now; returns why that is not possible, or nothing."""
        target = self._target
        if target is None or self._reason:
            return self._reason or "not open"
        if isinstance(target, Sink):
            return "not a file"
        if not target.size and not any(pipe.unread for pipe in self.pipes):
            return ""
        target.due = True
        self.drain()
        if target is not self._target:
            return self._reason
        try:
            if target.due:
                # No line ends in what has come.
                target.rotate()
        except RollError as error:
            target.due = False
            return error.reason
        except OSError as error:
            self._fail(error)
        return self._reason

    # Trouble

    def _fail(self, error: OSError) -> None:
        """Nothing can be written: say so, and try again soon."""
        self._reason = error.strerror or str(error)
        # Another logger may have a minute left in which it hears its programs out: what comes here can wait.
        locked = isinstance(error, LockedError)
        if self._reason != self._told:
            self._told = self._reason
            self._world.say([messages.TROUBLE, self.slot, self._reason])
        self._drop_target()
        self._hold(holds=self._spec.blocks or locked)
        self._retry = self._world.loop.at(time.monotonic() + RETRY_S, self._try_again)
        left = self._world.turns
        if left.slot_left == self.slot:
            left.settle()

    def _hold(self, *, holds: bool) -> None:
        held, self._holds = self._holds, holds
        for pipe in self.pipes if held != holds else ():
            if holds:
                self.pace.pause(pipe)
            else:
                self._begin(pipe)

    def _drop(self, pipe: Pipe, at_most: int) -> int:
        """Throw away what is in a pipe; returns how many bytes, 0 at its end.  Raises BlockingIOError."""
        size = ANY_SIZE if self._target is None else self._target.size
        dropped = self._world.turns.drop(self.slot, size, pipe.fd, pipe.pid, at_most)
        self._lost += dropped
        return dropped

    def _try_again(self) -> None:
        self._retry = None
        self._open()

    def _wait(self) -> None:
        """The target takes no more for now: hold the pipes until it does."""
        target = self._target
        if self._holds or target is None:
            return
        self._hold(holds=True)
        self._world.loop.watch(target.waits_for, WRITABLE, self._may_write)

    def _may_write(self) -> None:
        self._stop_waiting()
        try:
            if isinstance(self._target, Sink):
                self._target.flush()
        except FullError:
            self._wait()
        except OSError as error:
            self._fail(error)
        else:
            self._go_on()

    def _stop_waiting(self) -> None:
        if self._target is not None and self._target.waits_for >= 0:
            self._world.loop.unwatch(self._target.waits_for)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _be_well(self) -> None:
        """It can be written again, as far as one can know before the first byte: see what comes of it."""
        self._reason = ""
        self._go_on()
        if self._told and not self._reason:
            self._world.say([messages.WELL, self.slot, self._lost])
            self._told, self._lost = "", 0

    def _go_on(self) -> None:
        """Take up the pipes that were held, in their order."""
        if not self._holds:
            return
        self._holds = False
        for pipe in tuple(self.pipes):
            if self._holds:
                return
            self._begin(pipe)
            self.empty(pipe)
            if pipe.leaving and not self._holds and pipe in self.pipes:
                self._let_go(pipe)
        self._world.went_on()

    def close(self) -> None:
        """Move what is in the pipes, and let go of everything."""
        self.drain()
        if self._holds or self._reason:
            lost = sum(pipe.unread for pipe in self.pipes)
            self._world.board.count(self.slot, dropped=lost)
        self._hold(holds=False)
        for pipe in tuple(self.pipes):
            self._let_go(pipe)
        self._drop_target()
        if self._world.turns.slot_left == self.slot:
            self._world.turns.give_up()
