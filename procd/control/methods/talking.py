"""Methods that talk to a program through its standard streams: write, close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procd.errors import StdinClosed, WrongState
from procd.output.streams import StreamKey

if TYPE_CHECKING:
    from procd.control.call import Answer, Call
    from procd.core import Program
    from procd.runtime.input import Input


async def write(call: Call, sent: dict[str, Any]) -> Answer:
    """Write to a program's stdin; the answer comes when the kernel has the bytes."""
    pipe = _stdin(call, call.program(sent))
    return {"accepted": await pipe.put(sent["data"])}


def _stdin(call: Call, program: Program) -> Input:
    if program.spec.stdin.value != "pipe":
        raise StdinClosed(
            f"{program.name} has no stdin to write to", 'give it `stdin = "pipe"` and reload', {"accepted": 0}
        )
    life = call.daemon.runtime.life(program.name)
    if life is None or life.input is None or program.pid is None:
        raise StdinClosed(f"{program.name} is {program.state.value}", "start it first", {"accepted": 0})
    return life.input


def close(call: Call, sent: dict[str, Any]) -> Answer:
    """Close one of the standard streams of a program."""
    program = call.program(sent)
    if sent["stream"] == "stdin":
        _stdin(call, program).close()
    elif not call.daemon.runtime.around.logs.detach(StreamKey(program.name, sent["stream"])):
        raise WrongState(f"{program.name} has no open {sent['stream']} that procd reads")
    return {}
