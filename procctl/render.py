"""Answers of the daemon, as people read them.

Owns tables, sentences and colours.  Pure: it gets the maps that travelled on the wire and returns text; where
the text goes, and whether that is a terminal, it must not know.

Whatever a program or another user may have had a hand in (reasons, names, paths) is escaped: an answer cannot
move the cursor, change the colours or forge a second row (CVE-2023-26604 and its kin).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procd.quantities import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Record = dict[str, Any]

RUNNING = "RUNNING"
NOTHING = "-"

_RED, _GREEN, _YELLOW = "\x1b[31m", "\x1b[32m", "\x1b[33m"
_PLAIN = "\x1b[0m"
_COLOURS = {
    "RUNNING": _GREEN,
    "STARTING": _YELLOW,
    "WAITING": _YELLOW,
    "STOPPING": _YELLOW,
    "BACKOFF": _RED,
    "FATAL": _RED,
}

_STATUS_HEADINGS = ("NAME", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEM", "DETAIL")
_STATUS_NUMBERS = frozenset({"PID", "UPTIME", "RESTARTS", "CPU", "MEM"})
_COLUMN_GAP = "  "

# C0, DEL and C1, and the characters that reorder what stands around them (Unicode TR36: a name that reads as
# another).  Shown as Python writes them.
_REORDERING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {
    code: chr(code).encode("unicode_escape").decode("ascii")
    for code in [*range(0x20), *range(0x7F, 0xA0), *_REORDERING]
}
_ESCAPES_OF_OUTPUT = {code: escape for code, escape in _ESCAPES.items() if chr(code) not in "\n\t"}


def escaped(text: object) -> str:
    """One line of text that a terminal shows and does not obey."""
    return str(text).translate(_ESCAPES)


def escaped_output(text: str) -> str:
    """What a program wrote, harmless on a terminal, with its lines and tabs."""
    return text.translate(_ESCAPES_OF_OUTPUT)


def status_table(records: Sequence[Mapping[str, Any]], *, colour: bool) -> str:
    """One row for each program: NAME STATE PID UPTIME RESTARTS CPU MEM DETAIL."""
    if not records:
        return "no programs are configured\n"
    return _table(_STATUS_HEADINGS, [_status_row(record) for record in records], colour=colour)


def is_running(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a program that runs, and is ready where it says when it is."""
    return record.get("state") == RUNNING


def outcomes(rows: Iterable[Mapping[str, Any]]) -> str:
    """What became of each program that should be started, stopped or restarted."""
    return "".join(f"{_outcome(row)}\n" for row in rows)


def changes(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a new configuration changes: one line for each program."""
    if not rows:
        return "nothing changes\n"
    return "".join(f"{_change(row)}\n" for row in rows)


def reached(record: Mapping[str, Any]) -> str:
    """The sentence that ends a wait."""
    return f"{_name_and_state(record)}\n"


def event(happened: Mapping[str, Any]) -> str:
    """One line: `17  2026-11-22 23:45:01  web  RUNNING → BACKOFF  exited with status 1 after 2s`."""
    from time import localtime, strftime  # noqa: PLC0415 - no other verb shows a time

    when = strftime("%Y-%m-%d %H:%M:%S", localtime(happened.get("time", 0)))
    known = {"seq", "time", "type", "program", "old", "new", "reason", "by"}
    if happened.get("type") == "transition":
        what = f"{happened.get('old')} → {happened.get('new')}"
    else:
        facts = [f"{key}={value}" for key, value in happened.items() if key not in known]
        what = " ".join([str(happened.get("type")), *facts])
    parts = [
        str(happened.get("seq")),
        when,
        happened.get("program") or "procd",
        what,
        happened.get("reason") or "",
    ]
    return f"{_COLUMN_GAP.join(filter(None, map(escaped, parts)))}{_by(happened.get('by'))}\n"


def _by(actor: Mapping[str, Any] | None) -> str:
    return f" (uid {actor.get('uid')}, pid {actor.get('pid')})" if actor else ""


def amount(count: int, one: str, many: str = "") -> str:
    """A number and its noun: `1 byte`, `2 bytes`."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def _status_row(record: Mapping[str, Any]) -> list[str]:
    return [
        escaped(record.get("name", NOTHING)),
        escaped(record.get("state", NOTHING)),
        _or_nothing(record.get("pid"), str),
        _or_nothing(record.get("uptime_s"), format_duration),
        _or_nothing(record.get("restarts"), str),
        _or_nothing(record.get("cpu_s"), format_duration),
        _or_nothing(record.get("rss_bytes"), format_size),
        escaped(_detail(record)),
    ]


def _or_nothing(value: Any, form: Any) -> str:  # noqa: ANN401 - a value of the wire, and its form
    return NOTHING if value is None else escaped(form(value))


def _detail(record: Mapping[str, Any]) -> str:
    """Why the program is where it is, and what happens next: `exited with status 1; restart in 3s`.

    A program that runs needs no excuse; its column is left for what is not as it should be.
    """
    parts = ["" if is_running(record) else str(record.get("reason") or "")]
    health = record.get("health")
    if health and health != "healthy":
        parts.append(str(health))
    following = record.get("next")
    if following:
        delay_s = following.get("in_s")
        when = "" if delay_s is None else f" in {format_duration(delay_s)}"
        parts.append(f"{following.get('action')}{when}")
    return "; ".join(filter(None, parts))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, colour: bool) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = [
            cell.rjust(width) if heading in _STATUS_NUMBERS else cell.ljust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        ]
        if colour and row is not headings:
            cells[1] = _coloured(row[1], cells[1])
        lines.append(_COLUMN_GAP.join(cells).rstrip())
    return "\n".join([*lines, ""])


def _coloured(state: str, cell: str) -> str:
    colour = _COLOURS.get(state)
    return f"{colour}{cell}{_PLAIN}" if colour else cell


def _outcome(row: Mapping[str, Any]) -> str:
    if row.get("ok"):
        return _name_and_state(row)
    reason = row.get("reason") or "the state asked for was not reached"
    return f"{escaped(row.get('name'))}: failed: {escaped(reason)} (it is {escaped(row.get('state'))})"


def _name_and_state(row: Mapping[str, Any]) -> str:
    reason = row.get("reason")
    return f"{escaped(row.get('name'))}: {escaped(row.get('state'))}{f', {escaped(reason)}' if reason else ''}"


def _change(row: Mapping[str, Any]) -> str:
    keys = ", ".join(map(escaped, row.get("keys") or ()))
    return f"{escaped(row.get('name'))}: {escaped(row.get('kind'))}{f' ({keys})' if keys else ''}"
