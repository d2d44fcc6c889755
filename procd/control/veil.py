"""What a peer must not see, taken out of what it is told.

Methods answer with the programs that the caller may see.  But a reason, a cause or an event may name another
one: "waits for db".  Here such names are replaced, in one place and for every answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from procd.control.access import Permit
    from procd.core import Program
    from procd.runtime.journal import Journal, Record

#: What stands for a program that a peer must not see.
ANOTHER = "another program"

#: The keys of answers and events whose texts are free, or are names.  All others are words of the protocol: a
#: program that is called `up` must not change what `desired` says.
_TEXTS = frozenset({"reason", "text", "message", "hint", "problems", "obstacles", "stops_after", "programs"})

_WORD = re.compile(r"[A-Za-z0-9_.@-]+")


class Veil:
    """What one peer sees of texts and values; whoever may see everything has none."""

    __slots__ = ("_permit", "_programs")

    def __init__(self, permit: Permit, programs: Mapping[str, Program]) -> None:
        self._permit = permit
        self._programs = programs

    def text(self, text: str) -> str:
        """Replace the names of programs that are not to be seen."""
        return _WORD.sub(self._word, text)

    def _word(self, match: re.Match[str]) -> str:
        word = match[0]
        # A name at the end of a sentence has a full stop behind it.
        name = word.rstrip(".-")
        return f"{ANOTHER}{word[len(name) :]}" if self.hides(word) or self.hides(name) else word

    def hides(self, name: str) -> bool:
        """Whether there is a program of this name, and the peer must not know."""
        program = self._programs.get(name)
        return program is not None and not self._permit.sees(program.spec)

    def value(self, value: Any, *, is_text: bool = False) -> Any:  # noqa: ANN401 - whatever stands in an answer
        """Give a value as the peer may see it: with other words in the texts that are for people."""
        if isinstance(value, dict):
            return {key: self.value(item, is_text=key in _TEXTS) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, is_text=is_text) for item in value]
        return self.text(value) if is_text and isinstance(value, str) else value

    def explanation(self, explained: dict[str, Any]) -> dict[str, Any]:
        """Leave out of the answer to `why` what it says about other programs."""
        seen = [each for each in explained["waits_for"] if not self.hides(each["name"])]
        hidden = [ANOTHER] if len(seen) < len(explained["waits_for"]) else []
        return {
            **explained,
            "waits_for": [self.explanation(each) for each in seen],
            "obstacles": [*explained["obstacles"], *hidden],
        }


class _Remembered(NamedTuple):
    """A program that is not there any more: its labels are not known."""

    name: str
    program: str
    groups: tuple[str, ...] = ()


class VisibleJournal:
    """The journal as a peer may see it: events of programs on which it has the right, and nothing else.

    For one stream: it remembers how far it has looked, so that what is hidden is never told as a gap.
    """

    __slots__ = ("_journal", "_looked", "_may", "_programs", "_veil")

    def __init__(
        self, journal: Journal, may: Callable[[Any], bool], veil: Veil, programs: Mapping[str, Program]
    ) -> None:
        self._journal = journal
        self._may = may
        self._veil = veil
        self._programs = programs
        self._looked = 0

    @property
    def last(self) -> int:
        """The number of the newest event."""
        return self._journal.last

    def since(self, seq: int, at_most: int) -> list[Record]:
        """List the events after number `seq` that may be seen, the oldest first."""
        found: list[Record] = []
        position = max(seq, self._looked)
        while len(found) < at_most:
            records = self._journal.since(position, at_most)
            if not records:
                break
            for record in records:
                position = record.seq
                if self._sees(record):
                    found.append(self._veiled(record))
                    if len(found) == at_most:
                        break
        self._looked = position
        return found

    def _sees(self, record: Record) -> bool:
        if record.program is None:
            return False
        program = self._programs.get(record.program)
        if program is not None:
            return self._may(program.spec)
        return self._may(_Remembered(record.program, record.program.partition("@")[0]))

    def _veiled(self, record: Record) -> Record:
        facts = {
            key: value
            for key, value in record.to_wire().items()
            if key not in {"seq", "time", "type", "program"}
        }
        return record._replace(facts=self._veil.value(facts))

    def forgotten(self, seq: int) -> int:
        """Count the events after `seq` that nobody remembers any more."""
        return self._journal.forgotten(max(seq, self._looked))

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call back at each new event; call what is returned to end that."""
        return self._journal.watch(watcher)
