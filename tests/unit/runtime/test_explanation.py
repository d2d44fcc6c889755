"""The history that `why` gives, over several daemons."""

from __future__ import annotations

from typing import Any

import pytest

from procd.core import Cause, State, Transition
from procd.core.program import REMEMBERED
from procd.runtime.explanation import with_earlier
from procd.runtime.journal import TRANSITION, Journal, Record

#: A clock that was set far back, one that runs with ours, and one that was set far ahead.
CLOCKS = [1.0, 1.8e9, 9e9]


def a_journal(earlier: int, at_s: float) -> Journal:
    """Get one with so many transitions under an earlier daemon, named by their numbers."""
    journal = Journal()
    journal.inherit(
        [Record(n, at_s, TRANSITION, "web", {"new": f"earlier-{n}"}) for n in range(1, earlier + 1)], 99
    )
    return journal


def own(*names: str) -> list[dict[str, Any]]:
    """Get the steps that a program remembers itself."""
    return [{"ago_s": 1.0, "new": name} for name in names]


def names(history: list[dict[str, Any]]) -> list[str]:
    """Tell which steps are in a history."""
    return [step["new"] for step in history]


def a_transition() -> Transition:
    """Any one."""
    return Transition("web", State.RUNNING, State.BACKOFF, Cause("it failed"), 1.0)


@pytest.mark.parametrize("at_s", CLOCKS)
def test_what_a_program_brought_is_there_once(at_s: float) -> None:
    """Whatever the clock said when it happened."""
    journal = a_journal(earlier=3, at_s=at_s)
    brought = own("earlier-1", "earlier-2", "earlier-3")
    assert with_earlier(journal, "web", brought) == brought
    journal.transition(a_transition())
    assert with_earlier(journal, "web", [*brought, *own("new")]) == [*brought, *own("new")]


@pytest.mark.parametrize("at_s", CLOCKS)
def test_what_only_the_journal_remembers_comes_first(at_s: float) -> None:
    """Of a daemon that had ended, and whose programs brought nothing; no more than is kept of a program."""
    journal = a_journal(earlier=REMEMBERED, at_s=at_s)
    journal.transition(a_transition())
    history = with_earlier(journal, "web", own("new"))
    assert names(history) == [*(f"earlier-{n}" for n in range(2, REMEMBERED + 1)), "new"]


def test_a_program_may_bring_more_than_the_journal_remembers() -> None:
    """Whose records were dropped."""
    assert names(with_earlier(a_journal(earlier=1, at_s=1.0), "web", own("a", "b", "c"))) == ["a", "b", "c"]
    assert names(with_earlier(Journal(), "web", own("a"))) == ["a"]
