"""The journal: numbers that only grow, a bounded memory, and what earlier daemons have left."""

from __future__ import annotations

import pytest

from procd.core import Cause, State, Transition
from procd.runtime.journal import REMEMBERED, Journal, Record


def a_transition(name: str = "web") -> Transition:
    """Any transition."""
    return Transition(name, State.STOPPED, State.STARTING, Cause("asked"), 5.0)


def numbers(journal: Journal, seq: int, at_most: int = 10) -> list[int]:
    """The numbers of what came after one."""
    return [record.seq for record in journal.since(seq, at_most)]


def test_events_are_numbered_and_found_by_what_came_before() -> None:
    """From any number on, as many as are wanted."""
    journal = Journal()
    assert journal.last == 0
    assert numbers(journal, 0) == []
    journal.transition(a_transition())
    for _ in range(4):
        journal.note("says", "web", phase="x")
    assert journal.last == 5
    assert numbers(journal, 0) == [1, 2, 3, 4, 5]
    assert numbers(journal, 2, 2) == [3, 4]
    assert numbers(journal, 5) == []
    assert numbers(journal, 99) == []
    assert journal.since(0, 1)[0].to_wire()["old"] == "STOPPED"
    assert journal.forgotten(0) == 0


def test_what_is_long_ago_is_forgotten_and_counted() -> None:
    """The memory is bounded."""
    journal = Journal()
    for _ in range(REMEMBERED + 5):
        journal.note("says", "web")
    assert numbers(journal, 0, 1) == [6]
    assert journal.forgotten(0) == 5
    assert journal.forgotten(4) == 1
    assert journal.forgotten(5) == 0


def test_it_goes_on_after_the_events_of_an_earlier_daemon() -> None:
    """With numbers above theirs; some are left out, and nobody counts those as missing."""
    journal = Journal()
    facts = {"old": "STOPPED", "new": "STARTING", "reason": "asked", "by": None}
    journal.inherit([Record(3, 1.0, "transition", "web", facts), Record(4, 2.0, "says", "web", {})], 1004)
    assert journal.last == 1004
    journal.transition(a_transition())
    assert numbers(journal, 0) == [3, 4, 1005]
    assert numbers(journal, 4) == [1005]
    # Of a number that the log has lost, and a client has not.
    assert numbers(journal, 500) == [1005]
    assert journal.forgotten(0) == 2
    assert journal.forgotten(2) == journal.forgotten(4) == journal.forgotten(700) == 0
    inherited, since = journal.transitions("web")
    assert ([record.seq for record in inherited], since) == ([3], 1)
    assert journal.transitions("db") == ([], 0)


def test_an_empty_journal_may_go_on_with_any_number() -> None:
    """All before it is forgotten."""
    journal = Journal()
    journal.inherit([], 10)
    assert journal.forgotten(4) == 6
    journal.note("says", None)
    assert numbers(journal, 0) == [11]
    assert journal.transitions("web") == ([], 0)


def test_what_has_happened_keeps_its_number() -> None:
    """It may have been told already."""
    journal = Journal()
    journal.note("says", None)
    with pytest.raises(AssertionError):
        journal.inherit([], 10)


def test_everybody_hears_of_an_event() -> None:
    """Who watches, and who keeps it."""
    journal = Journal()
    heard: list[object] = []
    unwatch = journal.watch(lambda: heard.append("grown"))
    journal.on_record = heard.append
    journal.note("says", None, x=1)
    unwatch()
    unwatch()
    journal.note("says", None)
    records = journal.since(0, 5)
    assert heard == [records[0], "grown", records[1]]
