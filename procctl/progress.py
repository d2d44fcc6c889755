"""What a person sees while a verb takes long: one line on standard error, rewritten.

Owns the looking, once a second and only while a terminal is looked at, and the words.  The answer itself is
somebody else's to show.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from procctl.console import EVERYTHING
from procctl.render import cut, escaped
from procd.errors import ProcdError, Refusal, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from procctl.client import Client

LOOK_EVERY_S = 1.0
"""What is done sooner than that needs no progress; and a person counts seconds."""

NAMED = 3
"""Programs that are named in the line; who waits for more reads `status`."""

_AT_REST = frozenset({"STOPPED", "EXITED", "FATAL"})
_DOING = {"start": "starting", "stop": "stopping", "restart": "restarting"}
_ERASE = "\r\x1b[K"


def wanted() -> bool:
    """Whether standard error is a terminal on which a line can be rewritten."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def finish(
    client: Client, request_id: int, verb: str, programs: Sequence[str], *, rolling: bool = False
) -> Any:  # noqa: ANN401 - what travels on the wire
    """The answer to a request that was begun; raises like `Client.finish`."""
    if not wanted():
        return client.finish(request_id)
    began_s = monotonic()
    limit_s = client.timeout_s
    with _Line() as line:
        while not client.has_answer(request_id, LOOK_EVERY_S):
            passed_s = monotonic() - began_s
            if limit_s is not None and passed_s >= limit_s:
                break
            records = _look(client, programs)
            if rolling:
                line.say(f"{escaped(name)}: RUNNING" for name in line.unsaid(_restarted(records, passed_s)))
            if not records or late(verb, records, passed_s):
                line.show(sentence(verb, records, passed_s))
            # Else all are there, and the answer is on its way: the line has nothing new to tell.
    return client.finish(request_id, None if limit_s is None else max(0.0, limit_s - (monotonic() - began_s)))


def wait_for_end(client: Client) -> None:
    """Return when a daemon that was told to end has ended; raises like `Client.wait_for_end`."""
    if not wanted():
        client.wait_for_end()
        return
    began_s = monotonic()
    limit_s = client.timeout_s
    # The connection that waits is for nothing else; to look takes another.
    with _Line() as line, client.another() as looking:
        looking.timeout_s = LOOK_EVERY_S
        while not client.has_ended(LOOK_EVERY_S):
            passed_s = monotonic() - began_s
            if limit_s is not None and passed_s + LOOK_EVERY_S >= limit_s:
                client.wait_for_end(passed_s)
                return
            # It may be gone by now, or too busy with its end to answer.
            records: Sequence[Mapping[str, Any]] = []
            with suppress(ProcdError):
                records = _look(looking, EVERYTHING)
            line.show(sentence("stop", records, passed_s))


def sentence(verb: str, records: Sequence[Mapping[str, Any]], passed_s: float) -> str:
    """`stopping web@1 (8 s of 10 s), web@2 (8 s)…`."""
    waited_for = late(verb, records, passed_s)
    named = [f"{escaped(record['name'])} ({_how_far(record, passed_s)})" for record in waited_for[:NAMED]]
    if len(waited_for) > NAMED:
        named.append(f"{len(waited_for) - NAMED} more")
    return f"{_DOING[verb]} {', '.join(named) or f'({passed_s:.0f} s)'}…"


def late(verb: str, records: Sequence[Mapping[str, Any]], passed_s: float) -> list[Mapping[str, Any]]:
    """Those that are not yet where the verb brings them."""
    return [record for record in records if not _there(verb, record, passed_s)]


def _there(verb: str, record: Mapping[str, Any], passed_s: float) -> bool:
    if verb == "stop":
        return record["state"] in _AT_REST
    return bool(record["state"] == "RUNNING") and (verb == "start" or _is_new(record, passed_s))


def _is_new(record: Mapping[str, Any], passed_s: float) -> bool:
    uptime_s = record.get("uptime_s")
    return uptime_s is not None and bool(uptime_s < passed_s)


def _how_far(record: Mapping[str, Any], passed_s: float) -> str:
    following = record.get("next")
    if record["state"] == "STOPPING" and following and following.get("in_s") is not None:
        return f"{passed_s:.0f} s of {passed_s + following['in_s']:.0f} s"
    if record["state"] == "WAITING":
        return f"{passed_s:.0f} s, {escaped(record.get('reason') or 'waits')}"
    return f"{passed_s:.0f} s"


def _restarted(records: Sequence[Mapping[str, Any]], passed_s: float) -> list[str]:
    return [record["name"] for record in records if _there("restart", record, passed_s)]


def _look(client: Client, programs: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The records as they are now; none for somebody who may not see them."""
    try:
        records: list[dict[str, Any]] = client.call("status", programs=list(programs))["programs"]
    except ShuttingDown:
        raise  # with it the connection is over, and so is what was begun on it
    except Refusal:
        return []
    return records


class _Line:
    """The last line of the terminal, gone when it is over."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write(_ERASE)

    def show(self, text: str) -> None:
        """Put a text in the place of the one before; it never takes a second line."""
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            width = 80
        self._write(f"{_ERASE}{cut(text, width - 1)}")

    def say(self, texts: Iterable[str]) -> None:
        """Leave lines behind, above this one."""
        for text in texts:
            self._write(f"{_ERASE}{text}\n")

    def unsaid(self, names: Sequence[str]) -> list[str]:
        """Those that were not asked about before."""
        fresh = [name for name in names if name not in self._said]
        self._said.update(fresh)
        return fresh

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
