"""One program as `status` shows it: the record of the wire."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from procd.config.spec import Output
from procd.core import Desired, State
from procd.output import StreamKey
from procd.runtime.identity import usage

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec
    from procd.core import Exit, Program
    from procd.output import Logs

#: What happens when the deadline of a state passes.
_NEXT = {State.BACKOFF: "restart", State.STARTING: "ready", State.STOPPING: "kill"}


def record(program: Program, logs: Logs, now: float, own_ids: tuple[int, int]) -> dict[str, Any]:
    """Describe a program (shape: INTERFACE, "A record").  `own_ids` are procd's own uid and gid."""
    spec = program.spec
    pid = program.pid
    used = usage(pid) if pid is not None else None
    uid, gid = (spec.credentials.uid, spec.credentials.gid) if spec.credentials else own_ids
    uptime_s = None if pid is None or program.started_s is None else now - program.started_s
    return {
        "name": spec.name,
        "program": spec.program,
        "instance": spec.instance,
        "description": spec.description,
        "state": program.state.value,
        "desired": program.desired.value,
        "ready": program.state is State.RUNNING,
        "health": None,
        "pid": pid,
        "uptime_s": uptime_s,
        "restarts": program.restarts,
        "started_at": None if program.started_s is None else time.time() - (now - program.started_s),
        "exit": exit_to_wire(program.exit),
        "reason": str(program.cause),
        "next": _next(program, now),
        "uid": uid,
        "gid": gid,
        "cpu_s": used.cpu_s if used else None,
        "rss_bytes": used.rss_bytes if used else None,
        "streams": _streams(spec, logs),
    }


def exit_to_wire(ended: Exit | None) -> dict[str, Any] | None:
    """Describe an end: `{code}`, `{signal}` or `{unknown: true}`; None for a program that has not ended."""
    if ended is None:
        return None
    if ended.signal is not None:
        return {"signal": ended.signal, "core_dumped": ended.core_dumped}
    if ended.code is not None:
        return {"code": ended.code}
    return {"unknown": True}


def _next(program: Program, now: float) -> dict[str, Any] | None:
    if program.deadline_s is None:
        return None
    action = _NEXT[program.state]
    if program.state is State.STOPPING and program.desired is Desired.UP:
        action = "restart"
    return {"action": action, "in_s": max(0.0, program.deadline_s - now)}


def _streams(spec: ProgramSpec, logs: Logs) -> dict[str, Any]:
    streams: dict[str, Any] = {}
    if spec.stdout_log is not None:
        key = StreamKey(spec.name, "stdout")
        streams["stdout"] = {"path": spec.stdout_log.path, "offset": logs.reaches(key)}
    if spec.stderr_log is not None:
        key = StreamKey(spec.name, "stderr")
        streams["stderr"] = {"path": spec.stderr_log.path, "offset": logs.reaches(key)}
    elif spec.stderr is Output.STDOUT and "stdout" in streams:
        streams["stderr"] = {**streams["stdout"], "merged": True}
    return streams
