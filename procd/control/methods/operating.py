"""Methods that operate programs: start, stop, restart, signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procd.core import Restart, Start, Stop
from procd.errors import Failed, ProcessExitedAlready, WrongState
from procd.runtime.operations import carry_out, roll

if TYPE_CHECKING:
    from procd.control.call import Answer, Call


async def _operate(call: Call, sent: dict[str, Any], request: type[Start | Stop | Restart]) -> Answer:
    if call.daemon.closing and request is not Stop:
        raise call.going_down()
    results = await carry_out(
        call.daemon.runtime, request, call.names(sent), call.peer.actor,
        wait=sent.get("wait", True), timeout_s=sent.get("timeout"),
    )  # fmt: skip
    return {"programs": [result.to_wire() for result in results]}


async def start(call: Call, sent: dict[str, Any]) -> Answer:
    """Start programs."""
    return await _operate(call, sent, Start)


async def stop(call: Call, sent: dict[str, Any]) -> Answer:
    """Stop programs."""
    return await _operate(call, sent, Stop)


async def restart(call: Call, sent: dict[str, Any]) -> Answer:
    """Restart programs, all at once or one after the other."""
    if not sent.get("rolling", False):
        return await _operate(call, sent, Restart)
    if call.daemon.closing:
        raise call.going_down()
    results = await roll(call.daemon.runtime, call.names(sent), call.peer.actor, sent.get("timeout"))
    return {"programs": [result.to_wire() for result in results]}


def signal(call: Call, sent: dict[str, Any]) -> Answer:
    """Send a signal to programs that run."""
    runtime = call.daemon.runtime
    names = call.names(sent)
    signalled = []
    for name in names:
        program, life = runtime.machine.programs[name], runtime.life(name)
        if program.pid is None or life is None:
            continue
        try:
            life.signal(sent["signal"], group=sent.get("group", False))
        except ProcessExitedAlready:
            continue
        except PermissionError as error:
            raise Failed(f"{name} (pid {program.pid}) cannot be signalled: {error.strerror}") from error
        signalled.append(name)
    if names and not signalled:
        raise WrongState(f"{', '.join(names[:3])}: not running, nobody to signal", "start it first")
    return {"signalled": signalled}
