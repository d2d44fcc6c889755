"""What procd answers, typed: one frozen record for each shape of docs/reference/protocol.md.

Owns the reading of those shapes.  A key that is not known here is left out, and one that is missing has its
default: a daemon may be newer or older than this library.  `Client.call` gives the maps as they travelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class You:
    """Who procd takes us for, and what we may do."""

    uid: int
    gid: int
    pid: int
    rights: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hello:
    """The daemon that answers: the protocol that it speaks, its version, its PID."""

    protocol: int
    version: str
    pid: int
    you: You


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: with a `code`, by a `signal`, or nobody knows (neither)."""

    code: int | None = None
    signal: int | None = None
    core_dumped: bool = False


@dataclass(frozen=True, slots=True)
class Next:
    """What happens by itself, and in how many seconds."""

    action: str
    in_s: float | None


@dataclass(frozen=True, slots=True)
class Log:
    """One log: where it is, and how far it reaches.  `merged`: stderr goes where stdout goes."""

    path: str
    offset: int
    merged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One program, or one instance of it, as `status` shows it."""

    name: str
    program: str
    instance: int | None
    description: str
    state: str
    desired: str
    ready: bool
    health: str | None
    pid: int | None
    uptime_s: float | None
    restarts: int
    started_at: float | None
    exit: Exit | None
    reason: str
    next: Next | None
    uid: int | None
    gid: int | None
    cpu_s: float | None
    rss_bytes: int | None
    status_text: str
    skipped: int
    streams: dict[str, Log] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one program that was to be started, stopped, restarted or rotated.

    `state` is empty where it was not about the program's state.
    """

    name: str
    ok: bool
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a new configuration changes for one program: add, remove, restart, update or daemon."""

    name: str
    kind: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Bytes of a log, and where they stand in it."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset of what follows."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class LogGap:
    """Bytes that are not there any more."""

    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.  `facts` has what its type tells: a transition has old, new, reason, by."""

    seq: int
    time: float
    type: str
    program: str | None
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventGap:
    """Events that nobody remembers any more."""

    events: int
    reason: str


def hello_of(answer: dict[str, Any]) -> Hello:
    """Read the answer to `hello`."""
    you = answer["you"]
    mine = You(you["uid"], you["gid"], you["pid"], tuple(you["rights"]))
    return Hello(answer["protocol"], answer["version"], answer["pid"], mine)


def record_of(answer: dict[str, Any]) -> Record:
    """Read a record."""
    get = answer.get
    following = get("next")
    return Record(
        name=answer["name"],
        program=get("program") or answer["name"].partition("@")[0],
        instance=get("instance"),
        description=get("description") or "",
        state=answer["state"],
        desired=get("desired") or "",
        ready=bool(get("ready")),
        health=get("health"),
        pid=get("pid"),
        uptime_s=get("uptime_s"),
        restarts=get("restarts") or 0,
        started_at=get("started_at"),
        exit=exit_of(get("exit")),
        reason=get("reason") or "",
        next=None if following is None else Next(following["action"], following.get("in_s")),
        uid=get("uid"),
        gid=get("gid"),
        cpu_s=get("cpu_s"),
        rss_bytes=get("rss_bytes"),
        status_text=get("status_text") or "",
        skipped=get("skipped") or 0,
        streams={
            name: Log(log["path"], log["offset"], log.get("merged", False))
            for name, log in (get("streams") or {}).items()
        },
    )


def records_of(answer: dict[str, Any]) -> list[Record]:
    """Read the answer to `status`."""
    return [record_of(each) for each in answer["programs"]]


def exit_of(answer: dict[str, Any] | None) -> Exit | None:
    """Read how a process ended; None if it never has."""
    if answer is None:
        return None
    return Exit(answer.get("code"), answer.get("signal"), answer.get("core_dumped", False))


def outcomes_of(answer: dict[str, Any]) -> list[Outcome]:
    """Read what became of each program."""
    return [
        Outcome(row["name"], row["ok"], row.get("state", ""), row.get("reason") or "")
        for row in answer["programs"]
    ]


def changes_of(answer: dict[str, Any]) -> list[Change]:
    """Read the answer to `plan` and `reload`."""
    return [Change(row["name"], row["kind"], tuple(row.get("keys") or ())) for row in answer["changes"]]


def event_of(answer: dict[str, Any]) -> Event:
    """Read one event of a stream."""
    facts = {key: value for key, value in answer.items() if key not in {"seq", "time", "type", "program"}}
    return Event(answer["seq"], answer["time"], answer["type"], answer.get("program"), facts)
