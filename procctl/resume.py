"""Where a stream was left: what to ask the next daemon for, so that nothing is missed or comes twice.

Owns the positions of logs (an offset) and of events (a number).  Sans-IO, and the same for the blocking client
and the asyncio one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from procctl.dialogue import STREAM_DATA, STREAM_GAP
from procctl.results import Event, EventGap, LogGap, LogPiece, event_of
from procd.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_co = TypeVar("PIECE_co", covariant=True)

FIRST_DELAY_S, MAX_DELAY_S = 0.1, 2.0
"""A daemon that is restarted is back within a second; one that is down for long is asked rarely."""

_GOOD_ENDS = frozenset({"end of log", "the program was removed"})


class Position(Protocol[PIECE_co]):
    """A stream as far as it was read."""

    method: str

    def params(self) -> dict[str, Any]:
        """What to ask for, now."""

    def misplaced(self, answer: dict[str, Any]) -> bool:
        """Take the answer that opened the stream; whether it has to be opened again, with other params."""

    def take(self, kind: str, body: dict[str, Any]) -> Iterator[PIECE_co]:
        """Read a notification of the stream, and move on."""

    def ended(self, reason: str) -> None:
        """Take the end of the stream; raises Failed when it is not the end of what was asked for."""


class LogPosition:
    """A log, from the first byte that was not seen yet."""

    method = "logs"

    def __init__(
        self,
        program: str,
        stream: str | None,
        *,
        lines: int | None = None,
        offset: int | None = None,
        since_s: float | None = None,
        follow: bool,
    ) -> None:
        self._about: dict[str, Any] = {"program": program, "follow": follow}
        if stream is not None:
            self._about["stream"] = stream
        begin = {"lines": lines, "since": since_s}
        self._begin = {name: value for name, value in begin.items() if value is not None}
        self._offset = offset
        #: Why the log lags behind what the program has written; empty when it does not.
        self.behind = ""

    def params(self) -> dict[str, Any]:
        """The offset once one is known, where to begin until then."""
        return {**self._about, **(self._begin if self._offset is None else {"offset": self._offset})}

    def misplaced(self, answer: dict[str, Any]) -> bool:
        """Never: the daemon says where it begins, and tells a gap before that in the stream."""
        self._offset = answer.get("offset", self._offset)
        self.behind = answer.get("behind") or ""
        return False

    def take(self, kind: str, body: dict[str, Any]) -> Iterator[LogPiece | LogGap]:
        """A piece, or a gap."""
        if kind == STREAM_DATA:
            piece = LogPiece(body["offset"], body["data"])
            self._offset = piece.end
            yield piece
        elif kind == STREAM_GAP:
            self._offset = body.get("next", self._offset)
            yield LogGap(body["bytes"], body["reason"])

    def ended(self, reason: str) -> None:
        """Refuse an end before the end, such as a log that cannot be read."""
        if reason not in _GOOD_ENDS:
            raise Failed(f"the log ended early: {reason}", "what was given is not all of it")


class EventPosition:
    """The events after a number."""

    method = "events"

    def __init__(self, since: int, *, follow: bool) -> None:
        self._since = since
        self._follow = follow

    def params(self) -> dict[str, Any]:
        """The number of the last event that was seen."""
        return {"since": self._since, "follow": self._follow}

    def misplaced(self, answer: dict[str, Any]) -> bool:
        """Whether this daemon counts from the beginning again, as one does whose journal is gone."""
        if answer.get("last", self._since) >= self._since:
            return False
        self._since = 0
        return True

    def take(self, kind: str, body: dict[str, Any]) -> Iterator[Event | EventGap]:
        """Each event of a batch, or a gap."""
        if kind == STREAM_DATA:
            for each in body["events"]:
                event = event_of(each)
                self._since = event.seq
                yield event
        elif kind == STREAM_GAP:
            self._since += body["events"]
            yield EventGap(body["events"], body["reason"])

    def ended(self, reason: str) -> None:
        """There is no early end of events."""
