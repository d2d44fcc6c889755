"""What a peer must not see: sentences about other programs, and nothing that tells by being different."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from procd.config.access import Right, Rule
from procd.config.spec import ProgramSpec
from procd.control.access import Access, Peer
from procd.control.veil import ANOTHER, Veil, VisibleJournal
from procd.runtime.journal import Journal

if TYPE_CHECKING:
    from procd.control.access import Permit

PERMIT: Permit = Access(
    [Rule(everybody=True, programs=("web", "api"), rights=frozenset({Right.STATUS, Right.EVENTS}))], own_uid=1
).of(Peer(1, 1000, 1000))
PROGRAMS: Any = {
    name: SimpleNamespace(spec=ProgramSpec(name=name, program=name, command=("x",)))
    for name in ("web", "api", "db", "start", "up", "a.b")
}
VEIL = Veil(PERMIT, PROGRAMS)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("waits for db to be ready (it is BACKOFF)", f"waits for {ANOTHER}"),
        ("waits for api to be ready (it is BACKOFF), db to be ready (it is FATAL)", f"waits for {ANOTHER}"),
        ("waits for db, which is FATAL: exec 'secret' failed", f"waits for {ANOTHER}"),
        ("needed by db: start requested (uid 0, pid 1)", f"needed by {ANOTHER}"),
        ("needed by api: needed by a.b: start requested", f"needed by {ANOTHER}"),
        ("db, which is essential, ended: exit status 1", f"{ANOTHER}, which is essential, ended"),
        ("db, which it needs, is to stop: stop requested", f"{ANOTHER}, which it needs, is to stop"),
        ("db is not healthy: connection refused", f"{ANOTHER} is not healthy"),
        ("db to be ready (it is FATAL)", ANOTHER),
        ("db", ANOTHER),
        (
            "stop requested (uid 0, pid 1); stops after api, db",
            f"stop requested (uid 0, pid 1); stops after {ANOTHER}",
        ),
    ],
)
def test_a_sentence_about_a_hidden_program_is_another_one(said: str, told: str) -> None:
    """All that it says goes: also why that other program is as it is."""
    assert VEIL.text(said) == told


@pytest.mark.parametrize(
    "said",
    [
        "waits for api to be ready (it is BACKOFF)",
        "start requested (uid 0, pid 1)",
        "exec 'db' failed: No such file or directory (ENOENT)",
        "chdir '/home/db' failed: No such file or directory (ENOENT)",
        "exec 'waits for db' failed: No such file or directory (ENOENT)",
        "exec 'x; stops after db' failed: No such file or directory (ENOENT)",
        "unhealthy: waits for db",
        "",
    ],
)
def test_every_other_sentence_stays(said: str) -> None:
    """What a caller can bring in must not tell whether there is a program of that name."""
    assert VEIL.text(said) == said


def test_only_sentences_are_looked_at() -> None:
    """Words of the protocol may be names of programs; where a path or a description has one, it stays."""
    record = {"name": "web", "desired": "up", "next": {"action": "start"}, "description": "db", "reason": "db"}
    assert VEIL.value([record]) == [{**record, "reason": ANOTHER}]
    assert VEIL.value({"stops_after": ["api", "db"], "pid": 1}) == {"stops_after": ["api", ANOTHER], "pid": 1}


def test_why_tells_nothing_of_what_is_hidden() -> None:
    """That there is something to wait for, and not what it is."""
    inner = {"name": "db", "waits_for": [], "obstacles": []}
    seen = {"name": "api", "waits_for": [inner], "obstacles": ["a start slot"]}
    explained = VEIL.explanation({"name": "web", "waits_for": [seen, inner], "obstacles": []})
    assert explained == {
        "name": "web",
        "waits_for": [{"name": "api", "waits_for": [], "obstacles": ["a start slot", ANOTHER]}],
        "obstacles": [ANOTHER],
    }


def _journal(*programs: str | None) -> tuple[Journal, VisibleJournal]:
    journal = Journal()
    for program in programs:
        journal.note("test", program, reason="waits for db")
    may = lambda program: PERMIT.may(Right.EVENTS, program)  # noqa: E731
    return journal, VisibleJournal(journal, may, VEIL, PROGRAMS)


def test_events_of_hidden_programs_are_not_there() -> None:
    """Nor those of procd as a whole; numbers stay as they are, and a piece is full of what may be seen."""
    _, seen = _journal("web", "db", None, "gone", "api", "db", "web")
    assert [(record.seq, record.program) for record in seen.since(0, 2)] == [(1, "web"), (5, "api")]
    assert [record.seq for record in seen.since(5, 2)] == [7]
    assert seen.since(7, 2) == []
    assert seen.since(0, 1) == []  # it is for one stream, and looks only ahead
    assert seen.last == 7


def test_an_event_is_told_as_it_may_be() -> None:
    """Its facts are those of every event, with other sentences."""
    _, seen = _journal("web")
    (record,) = seen.since(0, 10)
    assert record.to_wire()["reason"] == f"waits for {ANOTHER}"


def test_events_of_a_program_that_was_removed_go_by_its_name() -> None:
    """Its labels are not known any more."""
    journal = Journal()
    for name in ("web@7", "api", "other"):
        journal.note("test", name)
    programs: Any = {}
    may = lambda program: PERMIT.may(Right.EVENTS, program)  # noqa: E731
    seen = VisibleJournal(journal, may, VEIL, programs)
    assert [record.program for record in seen.since(0, 10)] == ["web@7", "api"]


def test_what_is_hidden_is_never_told_as_a_gap() -> None:
    """A stream that has looked past hidden events has not missed them when they are forgotten."""
    journal, seen = _journal(*["db"] * 10)
    assert seen.since(0, 5) == []
    for _ in range(journal._records.maxlen or 0):
        journal.note("test", "web")
    assert journal.forgotten(0) == 10
    assert seen.forgotten(0) == 0
    assert seen.since(0, 1)[0].seq == 11
