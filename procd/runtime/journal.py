"""What happened, numbered: the events that `procctl events` shows.

Owns the numbers and a bounded memory of the last events.  A number is never given twice, by no daemon that has
the same log of events (`event_log`), so a client that comes back asks for what followed the last one that it
has.  Numbers grow; where a daemon was killed some are left out.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procd.core import Actor, Transition

#: Events that are remembered.  A thousand programs that start and stop make five thousand; what a person reads
#: afterwards is the end of that.
REMEMBERED = 2048

#: The type of event that has `old`, `new`, `reason` and `by`.
TRANSITION = "transition"


class Record(Struct, frozen=True, gc=False):
    """One event.  `facts` differ by `type`; a transition has `old`, `new`, `reason`, and `by` (who asked)."""

    seq: int
    time: float
    type: str
    program: str | None
    facts: dict[str, Any] | Transition

    def to_wire(self) -> dict[str, Any]:
        """Give the event as the wire has it."""
        return {
            "seq": self.seq,
            "time": self.time,
            "type": self.type,
            "program": self.program,
            **(self.facts if isinstance(self.facts, dict) else _facts_of(self.facts)),
        }


def _facts_of(transition: Transition) -> dict[str, Any]:
    cause = transition.cause
    return {
        "old": transition.old.value,
        "new": transition.new.value,
        "reason": cause.text,
        "by": actor_to_wire(cause.actor),
    }


def actor_to_wire(actor: Actor | None) -> dict[str, int] | None:
    """Give who asked as the wire has it."""
    return None if actor is None else {"uid": actor.uid, "pid": actor.pid}


class Journal:
    """The last events, and who waits for the next."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=REMEMBERED)
        self._last = 0
        self._watchers: list[Callable[[], None]] = []
        self._inherited = 0
        #: Hears every event, for a memory that is longer than ours.
        self.on_record: Callable[[Record], None] = _nothing

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._last

    def transition(self, transition: Transition) -> None:
        """Note a transition.  It is kept as it is, and spelled out when somebody asks."""
        self._note(TRANSITION, transition.name, transition)

    def note(self, kind: str, program: str | None, **facts: Any) -> None:  # noqa: ANN401 - what a kind has to tell
        """Note anything else."""
        self._note(kind, program, facts)

    def _note(self, kind: str, program: str | None, facts: dict[str, Any] | Transition) -> None:
        self._last += 1
        record = Record(self._last, time.time(), kind, program, facts)
        self._records.append(record)
        self.on_record(record)
        for watcher in tuple(self._watchers):
            watcher()

    def inherit(self, records: Iterable[Record], last: int) -> None:
        """Go on after the events of an earlier daemon, with numbers above `last`; before anything happens."""
        if self._records:
            raise AssertionError("what has happened has numbers already")
        self._records.extend(records)
        self._inherited = self._records[-1].seq if self._records else 0
        self._last = last

    def transitions(self, program: str) -> tuple[list[Record], int]:
        """List the transitions of a program under earlier daemons, the oldest first; and count those since."""
        all_of_it = [
            record for record in self._records if record.type == TRANSITION and record.program == program
        ]
        inherited = [record for record in all_of_it if record.seq <= self._inherited]
        return inherited, len(all_of_it) - len(inherited)

    def since(self, seq: int, at_most: int) -> list[Record]:
        """List the events after number `seq` that are remembered, the oldest first."""
        newer = 0
        for record in reversed(self._records):
            if record.seq <= seq:
                break
            newer += 1
        start = len(self._records) - newer
        return list(islice(self._records, start, start + at_most))

    def forgotten(self, seq: int) -> int:
        """Count the numbers after `seq` of which nobody remembers the events any more."""
        oldest = self._records[0].seq if self._records else self._last + 1
        return max(0, oldest - 1 - seq)

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call back at each new event; call what is returned to end that."""
        self._watchers.append(watcher)

        def unwatch() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return unwatch


def _nothing(_: Record) -> None:
    """Nobody keeps it."""
