"""An explanation of the daemon, as people read it.  Pure as `render`, and apart: only `why` needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procctl.render import escaped
from procd.quantities import format_duration, signal_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INDENT = "  "


def explanation(explained: Mapping[str, Any]) -> str:
    """Several lines: where it is and why, what it waits for and why, what comes next, and what was before."""
    lines = [*_chain(explained, 0), *_next(explained), *_history(explained)]
    return "".join(f"{line}\n" for line in lines)


def _chain(explained: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = _INDENT * depth
    where = f"is {escaped(explained['state'])} for {format_duration(explained['for_s'])}"
    yield f"{indent}{escaped(explained['name'])} {where}: {_told(explained['cause'])}"
    if explained["desired"] == "down" and explained["stops_after"]:
        yield f"{indent}{_INDENT}is to stop after {', '.join(map(escaped, explained['stops_after']))}"
    if explained["wish"]["text"] != explained["cause"]["text"]:
        yield f"{indent}{_INDENT}wanted {escaped(explained['desired'])}: {_told(explained['wish'])}"
    yield from (f"{indent}{_INDENT}{line}" for line in _facts(explained))
    for blocker in explained["waits_for"]:
        yield f"{indent}{_INDENT}waits for {escaped(blocker['name'])} to be {escaped(blocker['condition'])}"
        yield from _chain(blocker, depth + 2)
    for obstacle in explained["obstacles"]:
        yield f"{indent}{_INDENT}waits for {escaped(obstacle)}"


def _facts(explained: Mapping[str, Any]) -> Iterator[str]:
    ended = explained["exit"]
    if ended:
        yield f"last ended: {_ended(ended)}"
    if explained["health"] not in {None, "healthy"}:
        yield f"health: {escaped(explained['health'])}"
    if explained.get("status_text"):
        yield f"of itself: {escaped(explained['status_text'])}"
    if explained.get("log_trouble"):
        yield f"its log cannot be written: {escaped(explained['log_trouble'])}"
    limit = explained["start_limit"]
    if limit and limit["failed"]:
        within = format_duration(limit["within_s"])
        yield f"failed starts: {limit['failed']} within {within}, more than {limit['count']} are too many"
    elif explained["failures"]:
        yield f"failed starts in a row: {explained['failures']}"


def _ended(ended: Mapping[str, Any]) -> str:
    if "signal" in ended:
        core = " (core dumped)" if ended.get("core_dumped") else ""
        return f"killed by {signal_name(int(ended['signal']))}{core}"
    return f"exited with status {ended['code']}" if "code" in ended else "nobody knows how"


def _next(explained: Mapping[str, Any]) -> Iterator[str]:
    following = explained["next"]
    if following:
        yield f"next: {escaped(following['action'])} in {format_duration(following['in_s'])}"


def _history(explained: Mapping[str, Any]) -> Iterator[str]:
    if explained["history"]:
        yield "before:"
    for step in explained["history"]:
        ago = format_duration(step["ago_s"])
        yield f"{_INDENT}{ago:>8} ago  {escaped(step['old'])} → {escaped(step['new'])}: {_told(step)}"


def _told(cause: Mapping[str, Any]) -> str:
    by = cause["by"]
    who = f" (uid {by['uid']}, pid {by['pid']})" if by else ""
    return f"{escaped(cause['text'])}{who}"
