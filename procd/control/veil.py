"""What a peer must not see, taken out of what it is told.

Methods answer with the programs that the caller may see.  But a reason or a cause may name another one: "waits
for db".  Here such sentences are replaced, in one place and for every answer.

Only the sentences in which procd itself names another program are: they begin in a few ways, and no other text
does.  To replace names wherever they stand would tell whether there is a program of that name to whoever can
bring a text of their own into an answer: "exec 'db' failed".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import structs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from procd.control.access import Permit
    from procd.core import Program
    from procd.runtime.journal import Journal, Record

#: What stands for a program that a peer must not see.
ANOTHER = "another program"

#: The keys of answers and events whose texts are sentences, or names of other programs.
_TEXTS = frozenset({"reason", "text", "obstacles", "stops_after"})

# Not compiled here: that takes 3 ms of each start, and few daemons have anything to hide.
_WORD = r"[A-Za-z0-9_.@-]+"
# The sentences of core.machine, runtime.record and runtime.operations about another program.
_OF_ANOTHER = r"(waits for|needed by) "
_ANOTHER_IS = (
    r"[A-Za-z0-9_.@-]+(, which is essential, ended|, which it needs, is to stop| is not healthy| to be |$)"
)
_AFTER_OTHERS = r"; stops after [A-Za-z0-9_.@, -]+$"


class Veil:
    """What one peer sees of texts and values; whoever may see everything has none."""

    __slots__ = ("_permit", "_programs")

    def __init__(self, permit: Permit, programs: Mapping[str, Program]) -> None:
        self._permit = permit
        self._programs = programs

    def text(self, text: str) -> str:
        """Give a sentence, with another one in its place when it names a program that is not to be seen."""
        if not any(self.hides(word) for word in re.findall(_WORD, text)):
            return text
        if found := re.match(_OF_ANOTHER, text):
            return f"{found[1]} {ANOTHER}"
        if found := re.match(_ANOTHER_IS, text):
            return f"{ANOTHER}{found[1]}".removesuffix(" to be ")
        if found := re.search(_AFTER_OTHERS, text):
            return f"{text[: found.start()]}; stops after {ANOTHER}"
        return text

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
        return structs.replace(record, facts=self._veil.value(facts))

    def forgotten(self, seq: int) -> int:
        """Count the events after `seq` that nobody remembers any more."""
        return self._journal.forgotten(max(seq, self._looked))

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call back at each new event; call what is returned to end that."""
        return self._journal.watch(watcher)
