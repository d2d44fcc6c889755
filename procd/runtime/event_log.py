"""The events on disk: a line of JSON for each, in a log of procd's own.

Owns what stands there, and what is made of it when procd is started again.  The logger writes and rotates it
like any log, so no event waits for a disk: while it cannot be written, only so many are held, and then events
are missing there.  It is bounded, and lines of it can be searched with what people have for that.

The last lines are recorded with the keeper, too, together with what is decided: what a supervisor had handed
to a logger when both were killed is written by the next.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from procd.config.spec import LogSpec
from procd.output.history import Gap, History, Reader
from procd.output.own_lines import first_together
from procd.output.search import start_of_last_lines
from procd.output.streams import StreamKey
from procd.runtime.journal import REMEMBERED, Record

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from procd.keeper.line import Record as KeptLines
    from procd.output.logs import Logs
    from procd.runtime.journal import Journal
    from procd.runtime.present_memory import PresentMemory

log = structlog.get_logger()

#: Two files of this size: some fifty thousand events.
MAX_SIZE = 4 << 20
KEEP = 1
#: No program has this name.
KEY = StreamKey("", "events")

STARTED, ENDED = "started", "ended"
#: Numbers that are left out after a daemon that was killed: what it noted last may not be in the log.
JUMP = 1_000_000
#: Lines of one message to the logger, which has a bound, and of one event.
_MESSAGE_BYTES = 48 * 1024
_LINE_BYTES = 16 * 1024
#: Events that wait to be written; beyond that the oldest are given up.
_MOST_WAITING = 16_384
#: Seconds in which events come together.  To wake the logger at once would take a processor from what starts.
_TOGETHER_S = 0.01
#: Seconds after which a logger that took no more is asked again.
_RETRY_S = 1.0
#: What is read of the log at the start, at most; a thousand events have some 150 KB.
_TAIL_BYTES = 4 << 20
_PIECE_BYTES = 1 << 16
#: Records of lines: their keys are `KEPT:NUMBER`; events in one, and how many records and bytes there may be.
#: What is older was handed to the logger long ago.
KEPT = "events"
_KEPT_TOGETHER = 64
_MOST_KEPT, _MOST_KEPT_BYTES = 1024, 256 * 1024
#: What every event has, in the order of a `Record`.
_HEAD = ("seq", "time", "type", "program")
_ENCODER = msgspec.json.Encoder(enc_hook=str)
#: A number beyond this is none of ours: the wire has 64 bits.
_LARGEST = 1 << 62


class EventLog:
    """The log of events of one daemon, in `path`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        logs: Logs,
        journal: Journal,
        path: str,
        memory: PresentMemory | None = None,
    ) -> None:
        self._loop = loop
        self._memory = memory
        #: Events that are not recorded; and the size of each record, by its number.
        self._unkept: list[Record] = []
        self._kept: dict[int, int] = {}
        self._kept_bytes = self._last_kept = 0
        self._logs = logs
        self._journal = journal
        self._path = path
        self._waiting: deque[Record] = deque()
        self._lost = 0
        self._flushes: asyncio.Handle | None = None
        self._begun = self._closed = False

    async def begin(
        self,
        pause: Callable[[], Awaitable[None]],
        kept: Mapping[str, KeptLines] | None = None,
        **facts: Any,  # noqa: ANN401 - of an event
    ) -> None:
        """Remember what an earlier daemon noted, and note that another one has `STARTED`, with these facts.

        `kept` are the records of lines that may not be in the log yet.

        A log that cannot be read is told, and is no reason not to start.
        """
        records: list[Record] = []
        # First what is on its way to the file, then the file: what moves in between is in one of them.
        on_its_way = list(_records(self._logs.unwritten(KEY).split(b"\n")))
        try:
            records = [record async for record in self._read(pause)]
        except OSError as error:
            log.error("events of earlier cannot be read", path=self._path, reason=error.strerror)  # noqa: TRY400
        known = {record.seq for record in records}
        records += [record for record in on_its_way if record.seq not in known]
        missing = self._adopt(kept or {}, records)
        records += missing
        if records:
            last = max(record.seq for record in records)
            killed = records[-1].type != ENDED
            self._journal.inherit(records, last + JUMP if killed else last)
            facts["after"] = "procd was killed; the last events may be missing" if killed else "procd had ended"
        self._logs.open(KEY, LogSpec(self._path, max_size=MAX_SIZE, keep=KEEP))
        self._journal.on_record = self._note
        self._waiting.extend(missing)
        self._begun = True
        self._journal.note(STARTED, None, **facts)

    async def _read(self, pause: Callable[[], Awaitable[None]]) -> AsyncIterator[Record]:
        history = History(self._path, KEEP, lambda: None)
        end = history.extent().end
        start = await start_of_last_lines(history, end, REMEMBERED, pause)
        reader = Reader(history, max(start, end - _TAIL_BYTES))
        rest = b""
        try:
            while (step := reader.step(_PIECE_BYTES, end)) != b"":
                await pause()
                if isinstance(step, Gap):
                    rest = b""
                elif step is not None:
                    *lines, rest = (rest + step).split(b"\n")
                    for record in _records(lines):
                        yield record
        finally:
            reader.close()

    def _adopt(self, kept: Mapping[str, KeptLines], written: list[Record]) -> list[Record]:
        """Take recorded lines over; returns the events of those that are not among the last written."""
        known = {record.seq for record in written}
        oldest = min(known, default=0)
        missing = []
        for number in sorted(map(int, kept)):
            lines = kept[str(number)].value
            self._kept[number] = len(lines)
            self._kept_bytes += len(lines)
            self._last_kept = number
            missing += [
                each for each in _records(lines.split(b"\n")) if each.seq not in known and each.seq > oldest
            ]
        return missing

    # Writing

    def keep(self) -> None:
        """Record what has been noted since the last time."""
        unkept, self._unkept = self._unkept, []
        if self._memory is None or not unkept:
            return
        for first in range(0, len(unkept), _KEPT_TOGETHER):
            lines = b"".join(map(_line_of, unkept[first : first + _KEPT_TOGETHER]))
            self._last_kept += 1
            self._memory.put(f"{KEPT}:{self._last_kept}", lines)
            self._kept[self._last_kept] = len(lines)
            self._kept_bytes += len(lines)
        while self._kept_bytes > _MOST_KEPT_BYTES or len(self._kept) > _MOST_KEPT:
            number = next(iter(self._kept))
            self._kept_bytes -= self._kept.pop(number)
            self._memory.drop(f"{KEPT}:{number}")

    def again(self) -> None:
        """Record what is not handed over yet: the memory is another one, which has nothing."""
        self._kept.clear()
        self._kept_bytes = 0
        self._unkept = list(self._waiting)
        self.keep()

    def _note(self, record: Record) -> None:
        if len(self._waiting) == _MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(record)
        if self._memory is not None:
            if not self._unkept:
                # At the end of the turn: an action of the machine is not to wait for JSON.
                self._loop.call_soon(self.keep)
            self._unkept.append(record)
        if self._flushes is None:
            self._flushes = self._loop.call_later(_TOGETHER_S, self._flush)

    def _flush(self) -> None:
        """Hand one message over, and come back for the next."""
        self._flushes = None
        lines, taken = first_together(map(_line_of, self._waiting), _MESSAGE_BYTES)
        if not self._logs.write(KEY, lines):
            if not self._closed:
                self._flushes = self._loop.call_later(_RETRY_S, self._flush)
            return
        for _ in range(taken):
            self._waiting.popleft()
        self._tell_loss()
        if self._waiting:
            self._flushes = self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Note that procd has ended, and hand over all that waits."""
        if not self._begun or self._closed:
            return
        self._journal.note(ENDED, None)
        self._closed = True
        while self._flushes is not None:
            self._flushes.cancel()
            self._flush()
        # Nobody will ask the logger again.  The next daemon leaves numbers out, as after one that was killed.
        self._lost += len(self._waiting)
        self._waiting.clear()
        self._tell_loss()

    def _tell_loss(self) -> None:
        if self._lost:
            log.error("events are missing in their log", path=self._path, events=self._lost)
            self._lost = 0


def _line_of(record: Record) -> bytes:
    wire = record.to_wire()
    line = _encoded(wire)
    if len(line) >= _LINE_BYTES:
        line = _encoded({**{key: wire[key] for key in _HEAD}, "reason": "too long to be kept"})
    return line + b"\n"


def _encoded(facts: dict[str, Any]) -> bytes:
    try:
        # Every transition comes here: json.dumps takes ten times as long.
        return _ENCODER.encode(facts)
    except UnicodeEncodeError:
        # Text that is no UTF-8, as the name of a file may be.
        return json.dumps(facts, separators=(",", ":"), default=str).encode()


def _records(lines: list[bytes]) -> Iterator[Record]:
    """Read lines; those that are no events, as a mark of the logger, are passed over."""
    for line in lines:
        try:
            facts = json.loads(line)
            seq, at_s, kind, program = (facts.pop(key) for key in _HEAD)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        types = [type(value) for value in (seq, at_s, kind)]
        if types == [int, float, str] and 0 < seq < _LARGEST and isinstance(program, str | None):
            yield Record(seq, at_s, kind, program, facts)
