"""Answers as text: columns, sentences, and nothing that a terminal would obey."""

from __future__ import annotations

from typing import Any

import pytest

from procctl import render

WEB: dict[str, Any] = {
    "name": "web@0", "state": "RUNNING", "pid": 4711, "uptime_s": 200.0, "restarts": 0, "cpu_s": 1.25,
    "rss_bytes": 20 * 1024 * 1024, "reason": "ready", "health": None, "next": None,
}  # fmt: skip
DB: dict[str, Any] = {
    "name": "db", "state": "BACKOFF", "pid": None, "uptime_s": None, "restarts": 12, "cpu_s": None,
    "rss_bytes": None, "reason": "exited with status 1", "health": "unhealthy",
    "next": {"action": "restart", "in_s": 3.0},
}  # fmt: skip


def test_the_status_table_is_aligned() -> None:
    """Words to the left, numbers to the right, a dash for what is not there, and the cause at the end."""
    assert render.status_table([WEB, DB], colour=False).splitlines() == [
        "NAME   STATE     PID  UPTIME  RESTARTS   CPU    MEM  DETAIL",
        "web@0  RUNNING  4711  3m 20s         0  1.2s  20MiB",
        "db     BACKOFF     -       -        12     -      -  exited with status 1; unhealthy; restart in 3s",
    ]


def test_no_programs_are_said_in_words() -> None:
    """A table of headings would look like a mistake."""
    assert render.status_table([], colour=False) == "no programs are configured\n"


def test_an_incomplete_record_is_shown_as_far_as_it_goes() -> None:
    """A daemon of another version may leave fields out."""
    record = {"name": "x", "next": {"action": "start"}}
    assert render.status_table([record], colour=False).splitlines()[1].split() == ["x", *"------", "start"]


@pytest.mark.parametrize(
    ("state", "code"), [("RUNNING", "\x1b[32m"), ("STARTING", "\x1b[33m"), ("FATAL", "\x1b[31m")]
)
def test_colours_mark_the_state_and_keep_the_columns(state: str, code: str) -> None:
    """Without the codes the text is the same."""
    record = WEB | {"state": state}
    coloured = render.status_table([record, DB], colour=True)
    assert f"{code}{state}" in coloured
    for sequence in ("\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"):
        coloured = coloured.replace(sequence, "")
    assert coloured == render.status_table([record, DB], colour=False)


def test_a_state_without_a_colour_is_plain() -> None:
    """STOPPED is neither good nor bad."""
    assert "\x1b" not in render.status_table([WEB | {"state": "STOPPED"}], colour=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain wörds \U0001f600", "plain wörds \U0001f600"),
        ("\x1b[2J", "\\x1b[2J"),
        ("two\nlines\tand\r", "two\\nlines\\tand\\r"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        (None, "None"),
    ],
)
def test_a_field_is_one_line_without_control_characters(text: object, shown: str) -> None:
    """What a program had a hand in can forge neither a row nor a colour."""
    assert render.escaped(text) == shown


def test_output_keeps_its_lines_and_tabs() -> None:
    """Only what a terminal would obey is replaced."""
    assert render.escaped_output("a\tb\n\x1b[2Jc\r\n") == "a\tb\n\\x1b[2Jc\\r\n"


def test_a_reason_cannot_forge_a_row() -> None:
    """The table has one line for each record, whatever is in it."""
    table = render.status_table([DB | {"reason": "boom\nweb@9  RUNNING", "name": "d\x1bb"}], colour=True)
    assert len(table.splitlines()) == 2
    assert "boom\\nweb@9" in table
    assert "d\\x1bb" in table


def test_outcomes_say_what_became_of_each_program() -> None:
    """And for a failure, why, and where it is now."""
    rows = [
        {"name": "web", "ok": True, "state": "RUNNING", "reason": ""},
        {"name": "job", "ok": True, "state": "STOPPED", "reason": "killed after 10s"},
        {"name": "db", "ok": False, "state": "FATAL", "reason": "cannot exec /nope"},
        {"name": "x", "ok": False, "state": "BACKOFF", "reason": None},
    ]
    assert render.outcomes(rows).splitlines() == [
        "web: RUNNING",
        "job: STOPPED, killed after 10s",
        "db: failed: cannot exec /nope (it is FATAL)",
        "x: failed: the state asked for was not reached (it is BACKOFF)",
    ]


def test_changes_name_what_changes() -> None:
    """One line for each program, with the keys that differ where they are known."""
    rows = [
        {"name": "web", "kind": "restart", "keys": ["command", "user"]},
        {"name": "new", "kind": "add", "keys": []},
    ]
    assert render.changes(rows) == "web: restart (command, user)\nnew: add\n"
    assert render.changes([]) == "nothing changes\n"


def test_a_reached_state_is_a_sentence() -> None:
    """As the outcome of a start is."""
    assert render.reached(WEB) == "web@0: RUNNING, ready\n"
    assert render.reached(DB) == "db: BACKOFF, exited with status 1\n"


def test_amounts_have_their_number() -> None:
    """One byte, two bytes."""
    assert [render.amount(n, "byte") for n in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]
    assert render.amount(2, "entry", "entries") == "2 entries"


LONG = {**DB, "reason": "x" * 200}


def test_a_terminal_gets_lines_that_fit() -> None:
    """What is cut ends with an ellipsis, and the programs are counted."""
    lines = render.status_table([WEB, LONG], colour=False, width=100).splitlines()
    assert max(map(render.columns, lines)) == 100
    assert lines[2].endswith("x…")
    assert lines[3] == "2 programs: 1 RUNNING, 1 BACKOFF"


def test_a_narrow_terminal_gets_the_cause_below_the_row() -> None:
    """Three words at the end of a line are no cause."""
    lines = render.status_table([WEB, DB], colour=False, width=60).splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "web@0", "db", "exited", "2"]
    assert lines[3] == "    exited with status 1; unhealthy; restart in 3s"
    assert "DETAIL" not in lines[0]


def test_wide_characters_take_two_columns() -> None:
    """And combining ones none."""
    assert [render.columns(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert render.cut("日本語", 5) == "日本…"
    assert render.cut("日本語", 4) == "日…"
    table = render.status_table([WEB | {"name": "日本"}, DB], colour=False).splitlines()
    assert table[1].startswith("日本  RUNNING")
    assert table[2].startswith("db    BACKOFF")


def test_colours_survive_the_cut() -> None:
    """The state is coloured where it is whole, and nowhere else."""
    for width in range(1, 40):
        for line in render.status_table([WEB, DB], colour=True, width=width).splitlines():
            assert line.count("\x1b[3") == line.count("\x1b[0m")
            plain = line.replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[0m", "")
            assert render.columns(plain) <= width


def test_a_host_is_the_first_column() -> None:
    """Where the records have one."""
    lines = render.status_table([WEB | {"host": "one"}, DB | {"host": "two"}], colour=True).splitlines()
    assert [line.split()[0] for line in lines] == ["HOST", "one", "two"]
    assert "\x1b[32mRUNNING" in lines[1]


@pytest.mark.parametrize(
    ("facts", "detail"),
    [
        ({"status_text": "3 requests"}, "3 requests"),
        ({"health": "unhealthy", "reason": "unhealthy: connection refused"}, "unhealthy: connection refused"),
        ({"health": "unknown"}, "unknown"),
        ({"desired": "down", "reason": "stop requested; stops after db"}, "stop requested; stops after db"),
    ],
)
def test_a_program_that_runs_has_a_detail_too(facts: dict[str, Any], detail: str) -> None:
    """What it says of itself; or why it is not as it should be although it runs."""
    row = render.status_table([{**WEB, **facts}], colour=False).splitlines()[1]
    assert row.split("20MiB")[1].strip() == detail


def test_several_outcomes_are_counted_on_a_terminal() -> None:
    """With those that failed."""
    rows = [{"name": "a", "ok": True, "state": "RUNNING"}, {"name": "b", "ok": False, "state": "FATAL"}]
    lines = render.outcomes(rows, colour=True, width=80).splitlines()
    assert lines[0] == "a: \x1b[32mRUNNING\x1b[0m"
    assert lines[1].endswith("(it is \x1b[31mFATAL\x1b[0m)")
    assert lines[2] == "1 of 2 done, 1 failed"
    assert len(render.outcomes(rows[:1], width=80).splitlines()) == 1


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"programs": ["web@0", "web@1"]}, "asked to stop web@0 web@1: done (uid 0, pid 7)"),
        ({"programs": [], "method": "reload"}, "asked to reload: done (uid 0, pid 7)"),
        ({"programs": ["a"], "more": 3}, "asked to stop a and 3 more: done (uid 0, pid 7)"),
        ({"programs": ["\x1b"], "outcome": "FAILED"}, "asked to stop \\x1b: FAILED (uid 0, pid 7)"),
    ],
    ids=["several", "none", "many", "forged"],
)  # fmt: skip
def test_a_request_is_shown_in_words(facts: dict[str, Any], words: str) -> None:
    """Who asked for what, and how that ended."""
    happened = {"seq": 3, "time": 0, "type": "request", "program": None, "method": "stop", "outcome": "done"}
    shown = render.event({**happened, **facts, "by": {"uid": 0, "pid": 7}})
    assert shown.startswith("3  ")
    assert shown.endswith(f"  procd  {words}\n")
