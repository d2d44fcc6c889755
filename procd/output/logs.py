"""All logs of a procd, as the daemon has them: how each is kept, how far it reaches, who wants to know.

Owns the read ends of the programs' pipes, together with the logger, which moves what is in them: so nothing is
lost when either dies.  Must not know programs' states, or who reads a log.  It opens no log file, and waits for
nobody: what the logger is to be told is told when it listens (`slot`, `channel`).

The daemon has one descriptor for each pipe, from `attach` until all that was written to it is in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable  # noqa: TC003 - the fields of a NamedTuple are looked up
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from procd.output import messages
from procd.output.board import Board
from procd.output.channel import Channel, Parcel
from procd.output.logger.pipe import unread_bytes
from procd.output.notes import Notes
from procd.output.own_lines import OwnLines, look
from procd.output.questions import Questions
from procd.output.remembered import Remembered, read
from procd.output.slot import HeldPipe, settings
from procd.output.slots import Slots
from procd.output.streams import STREAMS, StreamKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from procd.config.spec import LogSpec
    from procd.output.channel import Starter
    from procd.output.remembered import Left, Remembers
    from procd.output.slot import Slot

log = structlog.get_logger()

#: How long whoever follows a log that is over may have to wait for its last words.
LAST_WORDS_S = 5.0

#: Seconds after which a pipe is offered again that the logger had no descriptor for.
NO_ROOM_S = 1.0
_NO_ROOM = "the logger has no descriptor left for it"

#: Why a log is over for whoever follows it.
REMOVED = "the program was removed"

_NO_ANSWER = "the logger does not answer"
_NEVER_OPEN = "nothing was written to it since procd was started"


class Watcher(NamedTuple):
    """Who wants to know of a log: that it has `grown`, and, once and last, why it is `over`."""

    grown: Callable[[], None]
    over: Callable[[str], None]


class Logs:
    """The logs of all programs, by stream.

    `start` starts a logger; `notes` is told what is worth an event; what outlives us is in `memory`, if there
    is one.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, start: Starter, memory: Remembers | None = None
    ) -> None:
        self._loop = loop
        self._remembered = Remembered(memory)
        self._board = Board.make()
        self._stash = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._slots = Slots(self._board)
        self._own_lines = OwnLines(self.attach)
        self._channel = Channel(loop, start, self)
        self._questions = Questions(lambda number: number in self._slots, self._channel.flush)
        self._watchers: dict[StreamKey, list[Watcher]] = {}
        #: What tells those who watch a log that is being forgotten, when it does so at the latest, and what was
        #: dropped of that log before.
        self._leaving: dict[Slot, tuple[Callable[[], None], asyncio.TimerHandle, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_pipe = 0
        self._greeted = self._closing = self._close_told = False
        self._ended = asyncio.Event()
        self._verbs: dict[str, Callable[..., None]] = {
            messages.READY: self._channel.ready,
            messages.BEGUN: self._hear_begun,
            messages.GROWN: self._hear_grown,
            messages.NO_ROOM: self._hear_no_room,
            messages.ENDED: self._hear_ended,
            messages.TROUBLE: self._hear_trouble,
            messages.WELL: self._hear_well,
            messages.ROLLED: _nothing,
            messages.FORGOTTEN: self._hear_forgotten,
            messages.SYNCED: partial(self._questions.answered, answer=True),
            messages.ROTATED: self._questions.answered,
            messages.CLOSED: self._hear_closed,
        }
        self.notes = Notes()

    def begin(self) -> None:
        """Start the logger."""
        self._remembered.board(self._board.fd, *self._stash)
        self._channel.open()

    def adopt(self, records: Mapping[str, Left]) -> None:
        """Go on with the logs of an earlier daemon; before `begin`.

        `records` are those of `remembered`, by what follows its prefix; their descriptors are taken over.
        Raises UnreadableRecord; then nothing has changed.
        """
        left = read(records)
        if left.board is not None:
            self._let_go_of_memory()
            self._board, self._stash = left.board, left.stash
            self._slots = Slots(left.board)
        for slot in left.slots:
            self._slots.adopt(slot)
            self._last_pipe = max(self._last_pipe, *(pipe.number for pipe in slot.pipes), 0)
            self._remembered.inherited(slot)
            if slot.forgotten:
                self._leave(slot, _nothing)

    def bequeath(self) -> None:
        """Record everything again: the memory is another one, which has nothing."""
        self._remembered.forget()
        self._record_all(self._remembered)

    def record_in(self, memory: Remembers) -> None:
        """Record everything there, too."""
        self._record_all(Remembered(memory))

    def _record_all(self, remembered: Remembered) -> None:
        remembered.board(self._board.fd, *self._stash)
        for slot in self._slots:
            remembered.slot(slot)

    def has_pipe(self, key: StreamKey, fd: int) -> bool:
        """Whether the pipe of a read end is one of a stream already."""
        slot = self._slots.get(key)
        found = os.fstat(fd)
        return slot is not None and any(os.path.samestat(os.fstat(pipe.fd), found) for pipe in slot.pipes)

    def ask_begun(self, key: StreamKey, pid: int, begun: Callable[[int], None]) -> None:
        """Have it called where the output of a process begins that was adopted, as `attach` does."""
        slot = self._slots.get(key)
        for pipe in slot.pipes if slot is not None else ():
            if pipe.pid == pid:
                pipe.begun = begun

    @property
    def pid(self) -> int | None:
        """The PID of the logger; None while there is none."""
        return self._channel.pid

    # How logs are kept

    def open(
        self, key: StreamKey, spec: LogSpec, program: str | None = None, instance: int | None = None
    ) -> None:
        """Keep the log of a stream so; it is opened soon, by the logger.

        `program` and `instance` stand in its lines, where it has a format.
        """
        said = settings(key, spec, program, instance)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots.add(key, said)
            slot.watched = bool(self._watchers.get(key))
        elif slot.spec == said:
            return
        elif slot.path == spec.path:
            slot.change(said)
        else:
            slot.change(said)
            slot.watched = False
            over = partial(_tell_over, self._watchers.pop(key, []), f"the log goes on in {spec.path}")
            task = self._loop.create_task(self._when_moved(slot.number, over))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._tell(slot)

    async def _when_moved(self, number: int, call: Callable[[], None]) -> None:
        """Call when what was in the pipes is where the log was before."""
        await self._questions.ask(messages.SYNC, [number], LAST_WORDS_S)
        call()

    def keeps(self, key: StreamKey) -> bool:
        """Whether the log of a stream is kept."""
        return self._slots.get(key) is not None

    def path(self, key: StreamKey) -> str:
        """Where the log of a stream is kept; empty for one that is not."""
        slot = self._slots.get(key)
        return slot.path if slot else ""

    # Pipes

    def attach(
        self, key: StreamKey, read_end: int, pid: int = 0, begun: Callable[[int], None] | None = None
    ) -> None:
        """Take a non-blocking read end of a pipe over: it is moved into the log until it ends, then closed.

        `pid` writes to it.  `begun` is called once, with an offset before which nothing of it will stand.
        """
        slot = self._slots.get(key)
        if slot is None:
            raise KeyError(key)
        self._last_pipe += 1
        lost = slot.attach(HeldPipe(self._last_pipe, read_end, pid, begun))
        if lost:
            self.notes.loss(slot, lost, _NO_ANSWER)
        self._tell(slot)

    def share(self, key: StreamKey) -> int | None:
        """Another write end of the pipe that a stream is written to, for the caller to own; None without one.

        What is written to one pipe stands in the log as it came, which is not so of two.
        """
        slot = self._slots.get(key)
        pipe = slot.pipes[-1] if slot is not None and slot.pipes else None
        if pipe is None or pipe.finished or pipe.detached:
            return None
        try:
            # A pipe is opened again like a fifo (pipe(7)); who holds its read end holds it open.
            return os.open(f"/proc/self/fd/{pipe.fd}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            # No /proc, or no descriptor left: the next pipe says so.
            return None

    def finish(self, program: str) -> None:
        """Who wrote to a program's pipes is dead: what is in them now stands before what comes next."""
        for slot in self._slots.of(program):
            slot.finish()
            self._tell(slot)

    def detach(self, key: StreamKey) -> bool:
        """Close the read ends of a stream, and return whether there were any; the program soon gets EPIPE."""
        slot = self._slots.get(key)
        if slot is None or not slot.detach():
            return False
        self._tell(slot)
        return True

    def write(self, key: StreamKey, data: bytes) -> bool:
        """Append whole lines to a log as if a program had written them.

        Returns whether they were taken: not if it is not kept, or too many wait for a logger that is stuck.
        """
        return self.keeps(key) and self._own_lines.write(key, data)

    def unwritten(self, key: StreamKey) -> bytes:
        """What is still in the pipes of a log, and on its way to its file."""
        slot = self._slots.get(key)
        return b"".join(look(pipe.fd) for pipe in slot.pipes) if slot is not None else b""

    def forget(self, program: str) -> None:
        """Close the logs of a program that was removed, after what is left in its pipes."""
        for stream in STREAMS:
            self.drop(StreamKey(program, stream), REMOVED)

    def drop(self, key: StreamKey, reason: str) -> None:
        """Close the log of a stream, after what is left in its pipes; then whoever watches it is told why."""
        tell = partial(_tell_over, self._watchers.pop(key, []), reason)
        slot = self._slots.drop(key)
        if slot is None:
            tell()
            return
        self._leave(slot, tell)
        self._tell(slot)

    def _leave(self, slot: Slot, tell: Callable[[], None]) -> None:
        latest = self._loop.call_later(LAST_WORDS_S, tell)
        self._leaving[slot] = (tell, latest, self._board.dropped(slot.number))

    # What can be asked

    def reaches(self, key: StreamKey) -> int:
        """Offset after the last byte of the log of a stream; 0 for a stream that has none open."""
        slot = self._slots.get(key)
        return self._board.end(slot.number) if slot else 0

    def starts(self, key: StreamKey) -> int:
        """Offset of the first byte of the present file."""
        slot = self._slots.get(key)
        return self._board.start(slot.number) if slot else 0

    def dropped(self, key: StreamKey) -> int:
        """How many bytes of a stream are in no log."""
        slot = self._slots.get(key)
        return self._board.dropped(slot.number) if slot else 0

    def figures(self, key: StreamKey) -> tuple[int, int, str]:
        """What `reaches`, `dropped` and `trouble` say, in one look."""
        slot = self._slots.get(key)
        if slot is None:
            return 0, 0, ""
        return self._board.end(slot.number), self._board.dropped(slot.number), slot.trouble

    def trouble(self, key: StreamKey) -> str:
        """Why the log of a stream cannot be written; empty when it can."""
        slot = self._slots.get(key)
        return slot.trouble if slot else ""

    def trouble_of(self, program: str) -> str:
        """Why a log of a program cannot be written."""
        return next((slot.trouble for slot in self._slots.of(program) if slot.trouble), "")

    def watch(self, key: StreamKey, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of a log, also of one that does not exist yet; call what is returned to end that."""
        watchers = self._watchers.setdefault(key, [])
        watchers.append(watcher)
        if len(watchers) == 1:
            self._follow_watchers(key)

        def unwatch() -> None:
            with contextlib.suppress(ValueError):
                watchers.remove(watcher)
            if not watchers and self._watchers.get(key) is watchers:
                del self._watchers[key]
                self._follow_watchers(key)

        return unwatch

    def _follow_watchers(self, key: StreamKey) -> None:
        slot = self._slots.get(key)
        if slot is not None:
            slot.watched = key in self._watchers
            self._tell(slot)

    async def sync(self, keys: Iterable[StreamKey], timeout_s: float) -> bool:
        """Wait until what is in the pipes of these streams now is in their files; whether that came in time."""
        slots = [slot for slot in map(self._slots.get, keys) if slot is not None and slot.pipes]
        answers = await self._questions.ask(messages.SYNC, [slot.number for slot in slots], timeout_s)
        return None not in answers

    async def rotate(self, keys: Iterable[StreamKey], timeout_s: float) -> dict[StreamKey, str]:
        """Rotate logs now; why not, for each, or an empty reason."""
        slots = {key: self._slots.get(key) for key in keys}
        numbers = [slot.number for slot in slots.values() if slot is not None]
        reasons: dict[int, str] = {}
        for answer in await self._questions.ask(messages.ROTATE, numbers, timeout_s):
            reasons |= dict(answer or ())
        return {
            key: _NEVER_OPEN if slot is None else reasons.get(slot.number, _NO_ANSWER)
            for key, slot in slots.items()
        }

    # The end

    async def close(self, timeout_s: float) -> None:
        """Move everything, and end the logger; if it does not end in time, it is left to do what it can.

        The board can be read until `release`.
        """
        self._own_lines.close()
        if not self._channel.is_open:
            return
        dropped = self._slots.dropped()
        self._closing = True
        self._channel.on_last_end = self._ended.set
        self._channel.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        left = sum(unread_bytes(pipe.fd) for pipe in self._slots.pipes())
        if not self._ended.is_set():
            log.error("logger has not ended in time, and is left alone", pid=self.pid, bytes_in_pipes=left)
        elif (lost := self._slots.dropped() - dropped + left) > 0:
            log.error("output lost", bytes=lost, reason="logs could not be written when procd ended")

    def release(self) -> None:
        """Let go of everything."""
        self._own_lines.close()
        self._channel.release()
        for _, timer, _ in self._leaving.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._slots.close()
        self._let_go_of_memory()

    def _let_go_of_memory(self) -> None:
        for fd in self._stash:
            os.close(fd)
        self._board.close()

    # What the logger is told

    def _tell(self, slot: Slot) -> None:
        self._remembered.slot(slot)
        self._slots.mark(slot)
        self._channel.flush_soon()

    def begin_conversation(self) -> None:
        """Say everything to a logger that knows nothing, the oldest logs first."""
        self._greeted = self._close_told = False
        self._slots.forget_what_was_said()
        self._questions.forget_what_was_said()

    def next_parcel(self) -> Parcel | None:
        """What is to be said next."""
        if not self._greeted:
            fds = (self._board.fd, *self._stash)
            return Parcel([messages.BEGIN, os.getpid()], fds, self._greeting_sent)
        parcel = self._slots.next_parcel() or self._questions.next_parcel()
        if parcel is not None and parcel.message[0] == messages.GAVE_UP:
            return parcel._replace(sent=partial(self._gave_up_sent, parcel))
        if parcel is None and self._closing and not self._close_told:
            return Parcel([messages.CLOSE], sent=self._close_sent)
        return parcel

    def _gave_up_sent(self, parcel: Parcel) -> None:
        slot = self._slots.numbered(parcel.message[1])
        if slot is not None and parcel.sent is not None:
            parcel.sent()
            self._remembered.slot(slot)

    def _greeting_sent(self) -> None:
        self._greeted = True

    def _close_sent(self) -> None:
        self._close_told = True

    # What the logger says

    def hear(self, message: list[Any]) -> None:
        """Act on what the logger says."""
        verb, *facts = message
        self._verbs[verb](*facts)

    def _hear_begun(self, number: int, pipe_number: int, offset: int) -> None:
        found = self._slots.pipe(number, pipe_number)
        if found is None:
            return
        slot, pipe = found
        if slot.trouble == _NO_ROOM:
            self.notes.well(slot, 0)
        if pipe.begun is not None:
            begun, pipe.begun = pipe.begun, None
            begun(offset)

    def _hear_no_room(self, number: int, pipe_number: int) -> None:
        found = self._slots.pipe(number, pipe_number)
        if found is not None:
            slot, pipe = found
            pipe.refuse()
            if not slot.trouble:
                self.notes.trouble(slot, _NO_ROOM)
            self._loop.call_later(NO_ROOM_S, self._try_again, slot)

    def _try_again(self, slot: Slot) -> None:
        slot.try_again()
        self._tell(slot)

    def _hear_grown(self, numbers: list[int]) -> None:
        for number in numbers:
            slot = self._slots.numbered(number)
            if slot is not None and not slot.forgotten:
                for watcher in tuple(self._watchers.get(slot.key, ())):
                    watcher.grown()

    def _hear_ended(self, number: int, pipe_number: int) -> None:
        found = self._slots.pipe(number, pipe_number)
        if found is not None:
            slot, pipe = found
            slot.end(pipe)
            self._remembered.slot(slot)

    def _hear_trouble(self, number: int, reason: str) -> None:
        slot = self._slots.numbered(number)
        if slot is not None:
            self.notes.trouble(slot, reason)

    def _hear_well(self, number: int, dropped: int) -> None:
        slot = self._slots.numbered(number)
        if slot is not None:
            self.notes.well(slot, dropped)

    def _hear_forgotten(self, number: int) -> None:
        slot = self._slots.free(number)
        self._remembered.drop(slot)
        tell, timer, dropped = self._leaving.pop(slot)
        timer.cancel()
        tell()
        lost = self._board.dropped(number) - dropped
        if lost > 0:
            self.notes.loss(slot, lost, "its log could not be written when it was closed")

    def _hear_closed(self) -> None:
        self._channel.closed()

    def gone(self, reason: str) -> None:
        """The logger has died; another takes its place."""
        self.notes.logger_ended(reason)


def _tell_over(watchers: list[Watcher], reason: str) -> None:
    """Tell watchers why their log is over, once."""
    told = tuple(watchers)
    watchers.clear()
    for watcher in told:
        watcher.over(reason)


def _nothing(*_: object, **__: object) -> None:
    """Nobody wants to know."""
