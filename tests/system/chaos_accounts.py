"""What has to hold after a chaos: the evidence of the programs beside what procd has written and told.

Owns the comparison; starts nothing and waits for nothing.  Each function returns what is wrong, in words, and
nothing if all is well.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: As many mistakes of one kind as are told; one cause makes thousands.
MOST_TOLD = 5
#: The first byte of each message to a stdin, and in no other place of it.
BEGIN = b"\x01"
_ID_BYTES = 8

_LINE = re.compile(rb"(\d+) (\d+) (\.*)\r?")
#: How a life ended that nobody had asked to, in the words of the event.
_ENDED = re.compile(r"exited with status (\d+) after|killed by (SIG\w+) after")
_LIVE, _ENDED_STATES = {"STARTING", "RUNNING"}, {"WAITING", "BACKOFF", "EXITED", "FATAL"}
_SIGNALS = {"SIGKILL": "signal 9", "SIGUSR1": "signal 10"}


class Birth(NamedTuple):
    """A life as it has noted itself."""

    number: int
    pid: int
    start: int
    cookie: str


@dataclass
class Lives:
    """All lives of an instance; `ends` has how each ended, and how many lines it had written."""

    name: str
    births: list[Birth] = field(default_factory=list)
    ends: dict[int, tuple[str, int]] = field(default_factory=dict)
    #: What happened in its order, as `birth`, `end`, `hook`; `stopped`: it was stopped before what follows.
    order: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def place_of(evidence: Path, name: str, what: str) -> Path:
    """The file in which an instance notes something: every instance has its number there."""
    return evidence / f"{name if '@' in name else name + '@0'}.{what}"


def lives_of(evidence: Path, name: str) -> Lives:
    """Read what the lives of an instance have noted."""
    lives = Lives(name)
    place = place_of(evidence, name, "lives")
    for line in place.read_text().splitlines() if place.exists() else ():
        kind, *facts = line.split()
        lives.order.append(kind)
        if kind == "birth":
            lives.births.append(Birth(int(facts[0]), int(facts[1]), int(facts[2]), facts[3]))
        elif kind == "end":
            lives.ends[int(facts[0])] = f"{facts[1]} {facts[2]}", int(facts[3])
        elif kind == "overlap":
            lives.mistakes.append(f"{name}: a second life beside the first: {line}")
    return lives


def started_once(lives: Lives, most: int | None = None) -> list[str]:
    """No life overlapped another, none was started twice, and there were `most` at most."""
    mistakes = list(lives.mistakes)
    cookies = [birth.cookie for birth in lives.births]
    mistakes += [
        f"{lives.name}: started twice: {each}" for each in {c for c in cookies if cookies.count(c) > 1}
    ]
    numbers = [birth.number for birth in lives.births]
    if numbers != list(range(len(numbers))):
        mistakes.append(f"{lives.name}: lives {numbers}")
    if most is not None and len(lives.births) > most:
        mistakes.append(f"{lives.name}: {len(lives.births)} lives, though only {most} were asked for")
    return mistakes


def hooks_before(lives: Lives, most: int) -> list[str]:
    """Each life had its hook before it, and no more hooks ran than there were starts."""
    mistakes, hooks = [], 0
    for kind in lives.order:
        if kind == "hook":
            hooks += 1
        elif kind == "birth":
            if hooks == 0:
                mistakes.append(f"{lives.name}: a life without its hook: {lives.order}")
            hooks = 0
    ran = lives.order.count("hook")
    if ran > most:
        mistakes.append(f"{lives.name}: {ran} hooks ran for at most {most} starts")
    return mistakes


# Logs


def log_at(path: Path) -> bytes:
    """A log with all its rotated files, the oldest first."""
    rotated = []
    for file in path.parent.glob(f"{path.name}.*"):
        number = file.name[len(path.name) + 1 :].removesuffix(".gz")
        if number.isdecimal():
            rotated.append((int(number), file))
    files = [file for _, file in sorted(rotated, reverse=True)] + ([path] if path.exists() else [])
    return b"".join(gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files)


def _messages(text: bytes, form: str) -> Iterator[bytes]:
    for line in text.removesuffix(b"\n").split(b"\n") if text else ():
        if form == "json":
            try:
                yield json.loads(line)["message"].encode()
            except (ValueError, KeyError):
                yield line
        else:
            yield line.partition(b" ")[2] if form == "timestamp" else line


def lines_once(lives: Lives, text: bytes, form: str) -> list[str]:
    """Every line that a life has written is in its log, once and in its order; and nothing else is."""
    mistakes = []
    reached: dict[int, int] = {}
    present = -1
    for at, message in enumerate(_messages(text, form)):
        match = _LINE.fullmatch(message)
        if match is None or len(match[3]) != int(match[2]) % 60:
            mistakes.append(f"{lives.name}: line {at} of the log is none: {message[:200]!r}")
            continue
        life, number = int(match[1]), int(match[2])
        expected = reached.get(life, 0)
        if life < present:
            mistakes.append(f"{lives.name}: line {at} is of life {life}, behind one of life {present}")
        elif number != expected:
            mistakes.append(f"{lives.name}: line {at}: life {life} goes on with {number} instead of {expected}")
        present, reached[life] = max(present, life), number + 1
    for life, (how, lines) in lives.ends.items():
        if reached.get(life, 0) != lines:
            has = f"{reached.get(life, 0)} of the {lines} lines"
            mistakes.append(f"{lives.name}: the log has {has} of life {life}, which ended ({how})")
    unknown = sorted(set(reached) - {birth.number for birth in lives.births})
    if unknown:
        mistakes.append(f"{lives.name}: lines of lives that never were: {unknown}")
    return mistakes[:MOST_TOLD]


# Standard input


class Request(NamedTuple):
    """A message to a stdin; `accepted` is None where the answer was lost."""

    number: int
    size: int
    accepted: int | None


def message(number: int, size: int) -> bytes:
    """What request NUMBER writes."""
    head = BEGIN + b"%08x" % number
    pattern = b"%x " % (number * 2654435761)
    return (head + pattern * (size // len(pattern) + 1))[: max(size, len(head)) - 1] + b"\n"


def input_once(name: str, got: bytes, requests: Iterable[Request]) -> list[str]:
    """Every accepted byte came, once and in order.

    Of a request without an answer nothing may have come, or its beginning, or all of it.
    """
    mistakes = []
    if got and not got.startswith(BEGIN):
        mistakes.append(f"{name}: begins with {got[:50]!r}")
    pieces = [BEGIN + piece for piece in got.split(BEGIN)[1:]]
    at = 0
    for request in requests:
        said = message(request.number, request.size)
        piece = pieces[at] if at < len(pieces) else b""
        own = piece[: 1 + _ID_BYTES] == said[: 1 + _ID_BYTES]
        if request.accepted is None:
            if own and said.startswith(piece):
                at += 1
        elif not own or piece != said or request.accepted != len(said):
            has = f"{len(piece)} bytes" if own else f"{piece[:30]!r}"
            mistakes.append(f"{name}: of message {request.number:08x} {request} came {has}")
            at += own
        else:
            at += 1
    if at < len(pieces):
        mistakes.append(f"{name}: {len(pieces) - at} pieces that nobody sent so: {pieces[at][:50]!r}")
    return mistakes[:MOST_TOLD]


# Events


def events_at(path: Path) -> list[dict[str, object]]:
    """The events that procd has written down."""
    found = []
    for line in log_at(path).splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append({"type": "broken", "line": line[:200].decode(errors="replace")})
    return found


def numbered_upwards(events: list[dict[str, object]]) -> list[str]:
    """Numbers only grow, and every line is an event."""
    mistakes = [f"events: {event}" for event in events if event["type"] == "broken"]
    numbers = [event["seq"] for event in events if isinstance(event.get("seq"), int)]
    for one, next_one in itertools.pairwise(numbers):
        if isinstance(one, int) and isinstance(next_one, int) and next_one <= one:
            mistakes.append(f"events: number {next_one} follows {one}")
    return mistakes[:MOST_TOLD]


def ends_told(events: list[dict[str, object]], name: str) -> list[str]:
    """How the lives of an instance ended by themselves, as the events tell it: `exit 3`, `signal 9`."""
    told = []
    for event in events:
        if event.get("program") != name or event["type"] != "transition":
            continue
        if event["old"] not in _LIVE or event["new"] not in _ENDED_STATES:
            continue
        match = _ENDED.match(str(event["reason"]))
        if match is None:
            told.append(f"? {event['reason']}")
        else:
            told.append(f"exit {match[1]}" if match[1] else _SIGNALS.get(match[2], f"? {match[2]}"))
    return told


def every_end_told_once(lives: Lives, events: list[dict[str, object]]) -> list[str]:
    """The events tell every end of a life that died by itself, once, in order, and as it was.

    The last one before a stop may have come when that was asked for, and is then told as that.
    """
    told = ends_told(events, lives.name)
    at = 0
    for number, how, last in _ends_by_itself(lives):
        if at < len(told) and told[at] == how:
            at += 1
        elif not last:
            was = f"life {number} ended with {how}, told was {told[at : at + 3]} behind {told[:at][-3:]}"
            return [f"{lives.name}: {was}; {len(lives.ends)} ends, {len(told)} told"]
    return [f"{lives.name}: told were ends that never were: {told[at:]}"] if at < len(told) else []


def restarts_of(lives: Lives, events: list[dict[str, object]]) -> int:
    """How many lives began that nobody asked for.

    One that was stopped before it could note its birth is among them: the one before it had ended by itself.
    """
    told = sum(
        e["type"] == "transition" and (e["program"], e["new"]) == (lives.name, "WAITING") for e in events
    )
    order = [kind for kind in lives.order if kind in {"end", "stopped"}]
    hows = [how for how, _ in lives.ends.values()]
    before_stops = [hows[order[:at].count("end") - 1] for at, kind in enumerate(order) if kind == "stopped"]
    unborn_at_most = len(before_stops) - before_stops.count("exit 0")
    unborn = min(max(told - len(lives.births), 0), unborn_at_most)
    return len(lives.births) + unborn - 1 - len(before_stops)


def _ends_by_itself(lives: Lives) -> Iterator[tuple[int, str, bool]]:
    """Number and manner of each end that nobody asked for, and whether a stop followed."""
    numbers = iter(lives.ends)
    ends = [next(numbers) if kind == "end" else None for kind in lives.order if kind in {"end", "stopped"}]
    for place, number in enumerate(ends):
        if number is not None and lives.ends[number][0] != "exit 0":
            yield number, lives.ends[number][0], place + 1 == len(ends) or ends[place + 1] is None
