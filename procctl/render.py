"""Answers of the daemon, as people read them.

Owns tables, sentences and colours.  Pure: it gets the maps that travelled on the wire and returns text; where
the text goes, and whether that is a terminal, it must not know.

Whatever a program or another user may have had a hand in (reasons, names, paths) is escaped: an answer cannot
move the cursor, change the colours or forge a second row (CVE-2023-26604 and its kin).
"""

from __future__ import annotations

from procd.quantities import format_duration, format_size

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

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
_BELOW = "    "
_LEAST_DETAIL = 24
"""Columns of DETAIL below which it gets a line of its own: three words are no cause."""

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


def status_table(records: Sequence[Mapping[str, Any]], *, colour: bool, width: int | None = None) -> str:
    """One row for each program: NAME STATE PID UPTIME RESTARTS CPU MEM DETAIL.

    Records with a `host` have that in front.  For a terminal of `width` columns no line is longer than that:
    DETAIL is cut, or where that would leave little of it stands below its row; and the programs are counted.
    """
    if not records:
        return "no programs are configured\n"
    headings: tuple[str, ...] = _STATUS_HEADINGS
    rows = [_status_row(record) for record in records]
    if "host" in records[0]:
        headings = ("HOST", *headings)
        rows = [[escaped(record["host"]), *row] for record, row in zip(records, rows, strict=True)]
    lines = _table(headings, rows, colour=colour, width=width)
    if width is not None and len(records) > 1:
        lines.append(cut(_census(records), width))
    return "\n".join([*lines, ""])


def _census(records: Sequence[Mapping[str, Any]]) -> str:
    """`3 programs: 2 RUNNING, 1 FATAL`."""
    count: dict[str, int] = {}
    for record in records:
        state = escaped(record.get("state"))
        count[state] = count.get(state, 0) + 1
    return f"{amount(len(records), 'program')}: {', '.join(f'{n} {state}' for state, n in count.items())}"


def is_running(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a program that runs, and is ready where it says when it is."""
    return record.get("state") == RUNNING


def outcomes(rows: Sequence[Mapping[str, Any]], *, colour: bool = False, width: int | None = None) -> str:
    """What became of each program that should be started, stopped or restarted.

    On a terminal (which has a `width`) several are counted, too.
    """
    return _counted(rows, [_outcome(row, colour=colour) for row in rows], width)


def rotations(rows: Sequence[Mapping[str, Any]], *, width: int | None = None) -> str:
    """What became of the logs of each program, in the form of `outcomes`: its state has no part in it."""
    return _counted(rows, [_rotation(row) for row in rows], width)


def _counted(rows: Sequence[Mapping[str, Any]], lines: list[str], width: int | None) -> str:
    if width is not None and len(rows) > 1:
        failed = sum(not row.get("ok") for row in rows)
        lines.append(f"{len(rows) - failed} of {len(rows)} done" + (f", {failed} failed" if failed else ""))
    return "".join(f"{line}\n" for line in lines)


def changes(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a new configuration changes: one line for each program."""
    if not rows:
        return "nothing changes\n"
    return "".join(f"{_change(row)}\n" for row in rows)


def numbers(metrics: Mapping[str, Any]) -> str:
    """Two columns: what is counted, and how many there are."""
    width = max(map(len, metrics), default=0)
    return "".join(f"{escaped(name):<{width}}  {escaped(value)}\n" for name, value in metrics.items())


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
    elif happened.get("type") == "request":
        what = _request(happened)
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


def _request(happened: Mapping[str, Any]) -> str:
    """Say what somebody asked for, as they would have typed it: `stop web@0 web@1: done`."""
    more = f" and {happened['more']} more" if happened.get("more") else ""
    words = " ".join(map(str, (happened.get("method"), *(happened.get("programs") or ()))))
    return f"asked to {words}{more}: {happened.get('outcome')}"


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

    A program that runs as it should needs no excuse; it may say something of itself (STATUS of sd_notify).
    """
    health = record.get("health") or "healthy"
    logged = not any(stream.get("trouble") for stream in (record.get("streams") or {}).values())
    as_desired = is_running(record) and record.get("desired") != "down" and health != "unhealthy" and logged
    reason = str(record.get("status_text" if as_desired else "reason") or "")
    parts = [reason]
    if health != "healthy" and not reason.startswith(health):
        parts.append(health)
    following = record.get("next")
    if following:
        delay_s = following.get("in_s")
        when = "" if delay_s is None else f" in {format_duration(delay_s)}"
        parts.append(f"{following.get('action')}{when}")
    return "; ".join(filter(None, parts))


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, colour: bool, width: int | None
) -> list[str]:
    """The lines of a table whose last column is words, and may be cut."""
    widths = [max(map(columns, column)) for column in zip(headings, *rows, strict=True)]
    state = headings.index("STATE")
    state_at = sum(widths[:state]) + state * len(_COLUMN_GAP)
    room = None if width is None else width - sum(widths[:-1]) - (len(headings) - 1) * len(_COLUMN_GAP)
    below = room is not None and room < min(widths[-1], _LEAST_DETAIL)
    lines = []
    for row in (headings, *rows):
        cells = [
            _aligned(cell, heading, columns_)
            for heading, cell, columns_ in zip(headings[:-1], row[:-1], widths[:-1], strict=True)
        ]
        line = _COLUMN_GAP.join(cells if below else [*cells, row[-1]]).rstrip()
        if width is not None:
            line = cut(line, width)
        if colour and row is not headings:
            line = _coloured(line, row[state], state_at)
        lines.append(line)
        if below and width is not None and row is not headings and row[-1]:
            lines.append(cut(f"{_BELOW}{row[-1]}", width))
    return lines


def _aligned(cell: str, heading: str, wide: int) -> str:
    padding = " " * (wide - columns(cell))
    return padding + cell if heading in _STATUS_NUMBERS else cell + padding


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - names and reasons are mostly ASCII

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int) -> str:
    """As much of a text as a terminal of that width shows in one line; what is cut ends with `…`."""
    if columns(text) <= width:
        return text
    shown = text[: max(width - 1, 0)]
    while columns(shown) > width - 1:
        shown = shown[:-1]
    return f"{shown}…"


def _coloured(line: str, state: str, at: int) -> str:
    """The line with the state in it, which begins `at` that column, in its colour."""
    colour = _COLOURS.get(state)
    # Where something before it takes two columns, or it was cut off, it stands elsewhere.
    if colour is None or not line.startswith(state, at):
        return line
    return f"{line[:at]}{colour}{state}{_PLAIN}{line[at + len(state) :]}"


def _outcome(row: Mapping[str, Any], *, colour: bool = False) -> str:
    state = row.get("state")
    if row.get("ok"):
        return _name_and_state(row, colour=colour) if state else f"{escaped(row.get('name'))}: done"
    reason = escaped(row.get("reason") or "the state asked for was not reached")
    where = f" (it is {_painted(escaped(state), colour=colour)})" if state else ""
    return f"{escaped(row.get('name'))}: failed: {reason}{where}"


def _rotation(row: Mapping[str, Any]) -> str:
    reason = escaped(row.get("reason") or ("rotated" if row.get("ok") else "its logs go on as they were"))
    return f"{escaped(row.get('name'))}: {'' if row.get('ok') else 'failed: '}{reason}"


def _name_and_state(row: Mapping[str, Any], *, colour: bool = False) -> str:
    reason = row.get("reason")
    state = _painted(escaped(row.get("state")), colour=colour)
    return f"{escaped(row.get('name'))}: {state}{f', {escaped(reason)}' if reason else ''}"


def _painted(state: str, *, colour: bool) -> str:
    return _coloured(state, state, 0) if colour else state


def _change(row: Mapping[str, Any]) -> str:
    keys = ", ".join(map(escaped, row.get("keys") or ()))
    return f"{escaped(row.get('name'))}: {escaped(row.get('kind'))}{f' ({keys})' if keys else ''}"
