"""One program as `status` shows it: the record of the wire."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from procd.config.spec import Output
from procd.core import Desired, State
from procd.output.streams import StreamKey
from procd.runtime.identity import cgroup_usage, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procd.config.spec import LogSpec, ProgramSpec
    from procd.core import Exit, Program
    from procd.output.logs import Logs
    from procd.runtime.identity import Usage
    from procd.runtime.runtime import Runtime


def records(runtime: Runtime, programs: Sequence[Program]) -> list[dict[str, Any]]:
    """Describe programs, many of them in less time than each by itself."""
    used = runtime.usages.of([program.pid for program in programs if program.pid is not None])
    return [_record(runtime, program, used.get(program.pid or 0)) for program in programs]


def record(runtime: Runtime, program: Program) -> dict[str, Any]:
    """Describe a program (shape: INTERFACE, "A record")."""
    return _record(runtime, program, None if program.pid is None else usage(program.pid))


def _record(runtime: Runtime, program: Program, used: Usage | None) -> dict[str, Any]:
    # `status` of ten thousand programs is ten thousand of these in one go, so nothing here is looked up twice.
    spec, pid, state, around = program.spec, program.pid, program.state, runtime.around
    started_s, credentials = program.started_s, spec.credentials
    now = around.loop.time()
    life = runtime.life(program.name)
    if life is not None and life.cgroup is not None:
        used = cgroup_usage(life.cgroup, used)
    uid, gid = around.own_ids if credentials is None else (credentials.uid, credentials.gid)
    streams = _streams(spec, around.logs)
    trouble = next((stream["trouble"] for stream in streams.values() if stream["trouble"]), "")
    return {
        "name": spec.name,
        "program": spec.program,
        "instance": spec.instance,
        "description": spec.description,
        "state": state.value,
        "desired": program.desired.value,
        "ready": state is State.RUNNING,
        "health": None if spec.health is None else health_to_wire(program),
        "pid": pid,
        "uptime_s": None if pid is None or started_s is None else now - started_s,
        "restarts": program.restarts,
        "started_at": None if started_s is None else time.time() - (now - started_s),
        "exit": None if program.exit is None else exit_to_wire(program.exit),
        "reason": reason_of(runtime, program, trouble),
        "next": next_to_wire(runtime, program, now),
        "uid": uid,
        "gid": gid,
        "cpu_s": None if used is None else used.cpu_s,
        "rss_bytes": None if used is None else used.rss_bytes,
        "status_text": "" if life is None else life.says,
        "skipped": program.skipped,
        "transient": spec.name in runtime.transients,
        "streams": streams,
    }


def health_to_wire(program: Program) -> str | None:
    """Say how it is: None for a program that nobody asks, "unknown" before its first answer in this life."""
    if program.spec.health is None:
        return None
    return {True: "healthy", False: "unhealthy", None: "unknown"}[program.health]


def reason_of(runtime: Runtime, program: Program, trouble: str | None = None) -> str:
    """Say in one line why a program is where it is; `trouble` is that of its logs, where that is known."""
    match program.state:
        case State.RUNNING if program.desired is Desired.DOWN:
            holders = ", ".join(holder.name for holder in runtime.machine.gate.holders(program))
            return f"{program.wish}; stops after {holders}"
        case State.RUNNING if program.health is False:
            return f"unhealthy: {program.health_reason}"
        case State.RUNNING:
            if trouble is None:
                trouble = runtime.around.logs.trouble_of(program.name)
            return f"log: {trouble}" if trouble else str(program.cause)
        case State.WAITING:
            waits_for = runtime.machine.waits_for(program)
            return f"waits for {', '.join(waits_for)}" if waits_for else str(program.cause)
        case State.STARTING:
            return runtime.checking.reason(program.name) or str(program.cause)
        case _:
            return str(program.cause)


def next_to_wire(runtime: Runtime, program: Program, now: float) -> dict[str, Any] | None:
    """Say what happens next by itself, and in how many seconds."""
    if program.deadline_s is not None:
        return {"action": _next_action(program), "in_s": max(0.0, program.deadline_s - now)}
    due = runtime.scheduler.next_due(program.name) if program.armed and not program.live else None
    return None if due is None else {"action": "start", "in_s": max(0.0, due - time.time())}


def _next_action(program: Program) -> str:
    """Name what the deadline of a program is about."""
    match program.state:
        case State.BACKOFF:
            return "restart"
        case State.STARTING:
            return "ready" if program.spec.ready is None else "give up"
        case State.RUNNING:
            return "stop"
        case _:
            return "kill"


def exit_to_wire(ended: Exit | None) -> dict[str, Any] | None:
    """Describe an end: `{code}`, `{signal}` or `{unknown: true}`; None for a program that has not ended."""
    if ended is None:
        return None
    if ended.signal is not None:
        return {"signal": ended.signal, "core_dumped": ended.core_dumped}
    if ended.code is not None:
        return {"code": ended.code}
    return {"unknown": True}


def _streams(spec: ProgramSpec, logs: Logs) -> dict[str, Any]:
    streams: dict[str, Any] = {}
    if spec.stdout_log is not None:
        streams["stdout"] = _stream(StreamKey(spec.name, "stdout"), spec.stdout_log, logs)
    if spec.stderr_log is not None:
        streams["stderr"] = _stream(StreamKey(spec.name, "stderr"), spec.stderr_log, logs)
    elif spec.stderr is Output.STDOUT and "stdout" in streams:
        streams["stderr"] = {**streams["stdout"], "merged": True}
    return streams


def _stream(key: StreamKey, kept: LogSpec, logs: Logs) -> dict[str, Any]:
    end, dropped, trouble = logs.figures(key)
    return {"path": kept.path, "offset": end, "dropped": dropped, "trouble": trouble}
