"""Who asked for what, and what became of it: one line and one event for each request that changes something.

Owns the words of the line, and the bound on what somebody without rights can make procd write.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from procd.config.access import Right
from procd.control.access import CHANGING
from procd.control.parameters import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.control.call import Call
    from procd.control.daemon import Daemon
    from procd.wire import Request

log = structlog.get_logger()

#: Programs that stand in one line; more are counted.
MAX_NAMED = 16
#: Refused requests of a user (not root, not procd's own) that have a line of their own, in each WINDOW_S; the
#: others are counted, in one line: or whoever may do nothing could fill procd's log and push the events out.
MAX_REFUSED = 20
WINDOW_S = 60.0

DONE = "done"

#: Methods that need a right to change something, and change nothing.
_ONLY_LOOK = frozenset({"plan"})


class Audit:
    """The audit trail of one control socket."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        #: By uid: refused requests of this window.
        self._refused: dict[int, int] = {}
        self._window: asyncio.TimerHandle | None = None

    def note(self, request: Request, call: Call, outcome: str) -> None:
        """Note a request that is over."""
        if call.right not in CHANGING or (outcome == DONE and request.method in _ONLY_LOOK):
            return
        if outcome == DONE and call.right is Right.WRITE:
            # One for each 64 KiB, or each key that is pressed, would be a flood of its own.
            return
        peer, programs = call.peer, call.programs
        if outcome != DONE and not self._daemon.access.is_master(peer.uid) and self._is_too_much(peer.uid):
            return
        names = _named(request.params) if programs is None else programs
        facts: dict[str, Any] = {"method": request.method, "programs": names[:MAX_NAMED], "outcome": outcome}
        if len(names) > MAX_NAMED:
            facts["more"] = len(names) - MAX_NAMED
        log.info("request", **facts, uid=peer.uid, gid=peer.gid, peer_pid=peer.pid)
        by = {"uid": peer.uid, "gid": peer.gid, "pid": peer.pid}
        # What is about one program belongs to its history; a name that is none must not get into it.
        only = names[0] if programs is not None and len(names) == 1 else None
        self._daemon.runtime.journal.note("request", only, **facts, by=by)

    def _is_too_much(self, uid: int) -> bool:
        count = self._refused[uid] = self._refused.get(uid, 0) + 1
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(WINDOW_S, self._end_window)
        return count > MAX_REFUSED

    def _end_window(self) -> None:
        self._window = None
        refused, self._refused = self._refused, {}
        for uid, count in refused.items():
            if count > MAX_REFUSED:
                log.warning("requests refused", uid=uid, more=count - MAX_REFUSED, within_s=WINDOW_S)

    def close(self) -> None:
        """Write what was only counted."""
        if self._window is not None:
            self._window.cancel()
            self._end_window()


def _named(params: Mapping[str, Any]) -> list[str]:
    """What a request names as its programs, as far as it goes into a line: nobody has checked it yet."""
    named = params.get("programs", params.get("program"))
    words = named if isinstance(named, list) else [named]
    return [word[:MAX_NAME_LENGTH] for word in words[: 4 * MAX_NAMED] if isinstance(word, str)]
