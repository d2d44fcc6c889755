"""The answer to `why`: the machine's explanation, with what comes next, as the wire has it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from procd.core import Desired
from procd.core.program import REMEMBERED
from procd.core.why import explain
from procd.runtime.journal import actor_to_wire
from procd.runtime.record import exit_to_wire, health_to_wire, next_to_wire, reason_of

if TYPE_CHECKING:
    from procd.core import Cause, Transition
    from procd.core.why import Explanation
    from procd.runtime.journal import Journal, Record
    from procd.runtime.runtime import Runtime


def why(runtime: Runtime, name: str) -> dict[str, Any]:
    """Explain a program: shape in docs/reference/protocol.md."""
    now = runtime.around.loop.time()
    return _to_wire(runtime, explain(runtime.machine, name, now), now)


def _to_wire(runtime: Runtime, explained: Explanation, now: float) -> dict[str, Any]:
    program = runtime.machine.programs[explained.name]
    limit = explained.start_limit
    stopping = explained.desired is Desired.DOWN and program.live
    life = runtime.life(explained.name)
    return {
        "name": explained.name,
        "state": explained.state.value,
        "desired": explained.desired.value,
        "for_s": explained.for_s,
        "reason": reason_of(runtime, program),
        "cause": _cause(explained.cause),
        "wish": _cause(explained.wish),
        "exit": exit_to_wire(explained.exit),
        "health": health_to_wire(program),
        "status_text": "" if life is None else life.says,
        "failures": explained.failures,
        "start_limit": None
        if limit is None
        else {"failed": explained.recent_failures, "count": limit.count, "within_s": limit.within_s},
        "waits_for": [
            {"condition": blocker.condition, **_to_wire(runtime, blocker.explanation, now)}
            for blocker in explained.waits_for
        ],
        "obstacles": list(explained.obstacles),
        "log_trouble": runtime.around.logs.trouble_of(explained.name),
        "stops_after": list(explained.holders) if stopping else [],
        "next": next_to_wire(runtime, program, now),
        "history": with_earlier(
            runtime.journal, explained.name, [_step(each, now) for each in explained.history]
        ),
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {"text": cause.text, "by": actor_to_wire(cause.actor)}


def with_earlier(journal: Journal, program: str, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put transitions under earlier daemons, which only the journal remembers, before a program's `own`."""
    left = REMEMBERED - len(own)
    if not left:
        return own
    inherited, since = journal.transitions(program)
    # A program that this daemon took over has brought the last of them with it.  They are counted, because
    # the clock that an event has may have been set since.
    brought = max(0, len(own) - since)
    earlier = inherited[: max(0, len(inherited) - brought)]
    now_s = time.time()
    return [_remembered(record, now_s) for record in earlier[-left:]] + own


def _remembered(record: Record, now_s: float) -> dict[str, Any]:
    wire = record.to_wire()
    return {
        # The clock may have been set back.
        "ago_s": max(0.0, now_s - record.time),
        "old": wire.get("old"),
        "new": wire.get("new"),
        "text": wire.get("reason"),
        "by": wire.get("by"),
    }


def _step(transition: Transition, now: float) -> dict[str, Any]:
    return {
        "ago_s": now - transition.at_s,
        "old": transition.old.value,
        "new": transition.new.value,
        **_cause(transition.cause),
    }
