"""Methods that only ask: hello, status, wait, why, metrics."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from procd import __version__
from procd.control.methods.streaming import SYNC_S
from procd.control.veil import Veil
from procd.core import State
from procd.errors import BadRequest, TimedOut
from procd.output.streams import STREAMS, StreamKey
from procd.runtime.explanation import why as explain
from procd.runtime.identity import usage
from procd.runtime.operations import wait_for, wait_until_healthy
from procd.runtime.record import record, records

if TYPE_CHECKING:
    from procd.control.call import Answer, Call
    from procd.core import Program

#: The version that a client gets that does not ask for one, and all that are spoken.
PROTOCOL = 1
PROTOCOLS = (1,)


def hello(call: Call, sent: dict[str, Any]) -> Answer:
    """Say which protocol is spoken, and what the caller may do."""
    wanted = sent.get("protocol", PROTOCOL)
    if wanted not in PROTOCOLS:
        spoken = " and ".join(map(str, PROTOCOLS))
        raise BadRequest(
            f"protocol {wanted} is not spoken here",
            f"procd {__version__} speaks protocol {spoken}: take a client for that",
            {"protocols": list(PROTOCOLS)},
        )
    peer, permit = call.peer, call.permit
    you = {
        "uid": peer.uid,
        "gid": peer.gid,
        "groups": sorted(peer.groups),
        "pid": peer.pid,
        "rights": permit.words(),
        "rules": permit.to_wire(),
    }
    return {
        "protocol": wanted,
        "protocols": list(PROTOCOLS),
        "version": __version__,
        "pid": os.getpid(),
        "you": you,
    }


def status(call: Call, sent: dict[str, Any]) -> Answer:
    """Describe programs, each in a record."""
    programs = call.daemon.runtime.machine.programs
    return {"programs": records(call.daemon.runtime, [programs[name] for name in call.names(sent)])}


def _record(call: Call, program: Program) -> Answer:
    return record(call.daemon.runtime, program)


def why(call: Call, sent: dict[str, Any]) -> Answer:
    """Explain the state of one program."""
    explained = explain(call.daemon.runtime, call.program(sent).name)
    if call.permit.everything:
        return explained
    return Veil(call.permit, call.daemon.runtime.machine.programs).explanation(explained)


#: What `wait` can wait for.
WAITABLE = {
    "running": frozenset({State.RUNNING}),
    "stopped": frozenset({State.STOPPED}),
    "exited": frozenset({State.EXITED, State.FATAL}),
}
_ENDS = ("stopped", "exited")


async def wait(call: Call, sent: dict[str, Any]) -> Answer:
    """Answer with its record when a program got somewhere."""
    program = call.program(sent)
    wanted, timeout_s = sent["for"], sent.get("timeout")
    runtime = call.daemon.runtime
    if wanted != "healthy":
        arrived = await wait_for(runtime, program.name, WAITABLE[wanted], timeout_s)
    elif program.spec.health is None:
        raise BadRequest(f"{program.name} has no health check", "give it a table `health`, or wait for running")
    else:
        arrived = await wait_until_healthy(runtime, program.name, timeout_s)
    if not arrived:
        raise TimedOut(
            f"{program.name} is {program.state.value}, and was not {wanted} within {timeout_s:g} s",
            "`procctl status` shows why",
            {"record": _record(call, program)},
        )
    answer = _record(call, program)
    if wanted in _ENDS:
        # Who waited for its end reads what it wrote last.
        keys = [StreamKey(program.name, stream) for stream in STREAMS]
        await runtime.around.logs.sync(keys, SYNC_S if timeout_s is None else min(SYNC_S, timeout_s))
    return answer


def metrics(call: Call, sent: dict[str, Any]) -> Answer:
    """Count: programs that the caller may read, and what procd itself has done and used."""
    del sent
    runtime, counts = call.daemon.runtime, call.server.counts
    programs = [runtime.machine.programs[name] for name in call.names({})]
    states = Counter(program.state for program in programs)
    used = usage(os.getpid())
    return {
        "programs": len(programs),
        **{f"programs_{state.value.lower()}": states[state] for state in State},
        "restarts": sum(program.restarts for program in programs),
        "log_bytes": sum(
            runtime.around.logs.reaches(StreamKey(program.name, stream))
            for program in programs
            for stream in STREAMS
        ),
        "spawns": runtime.spawns,
        "spawns_failed": runtime.spawns_failed,
        "events": runtime.journal.last,
        "connections": call.server.open,
        "connections_accepted": counts["connections"],
        "connections_refused": counts["connections_refused"],
        "requests": counts["requests"],
        "requests_refused": counts["requests_refused"],
        "uptime_s": runtime.around.loop.time() - runtime.began_s,
        "cpu_s": used.cpu_s if used else 0.0,
        "rss_bytes": used.rss_bytes if used else 0,
    }
