"""The line that tells what is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from procctl.progress import late, sentence


def record(name: str, state: str, **facts: Any) -> dict[str, Any]:  # noqa: ANN401 - values of a record
    """A record, as far as the line looks at it."""
    return {"name": name, "state": state, "reason": "", "next": None, "uptime_s": None, **facts}


KILL = {"action": "kill", "in_s": 2.0}


@pytest.mark.parametrize(
    ("verb", "records", "line"),
    [
        ("stop", [record("web@1", "STOPPING", next=KILL)], "stopping web@1 (8 s of 10 s)…"),
        ("stop", [record("a", "STOPPED"), record("b", "RUNNING")], "stopping b (8 s)…"),
        ("start", [record("a", "RUNNING"), record("b", "STARTING")], "starting b (8 s)…"),
        ("start", [record("a", "WAITING", reason="waits for db")], "starting a (8 s, waits for db)…"),
        ("restart", [record("a", "RUNNING", uptime_s=3.0), record("b", "RUNNING", uptime_s=99.0)],
         "restarting b (8 s)…"),
        ("stop", [record(name, "STOPPING") for name in "abcde"], "stopping a (8 s), b (8 s), c (8 s), 2 more…"),
        ("stop", [], "stopping (8 s)…"),
        ("stop", [record("\x1b[2J", "STOPPING")], "stopping \\x1b[2J (8 s)…"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)  # fmt: skip
def test_it_names_who_is_late_and_how_long_that_may_last(
    verb: str, records: list[dict[str, Any]], line: str
) -> None:
    """Those that are there are not named; who may not see them learns the time only."""
    assert sentence(verb, records, 8.2) == line


def test_who_is_there_is_not_late() -> None:
    """When nobody is, the answer is on its way, and the line stays as it is."""
    records = [record("a", "STOPPED"), record("b", "FATAL"), record("c", "STOPPING")]
    assert late("stop", records, 8.2) == [records[2]]
    assert late("stop", records[:2], 8.2) == []
