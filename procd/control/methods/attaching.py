"""Methods of those who are at a program's terminal, or at its pipes: attach, resize."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from procd.config.access import Right
from procd.config.spec import Input
from procd.control.attachment import Attachment
from procd.control.log_stream import Beginning, LogStream
from procd.control.methods.streaming import log_of
from procd.errors import BadRequest, WrongState
from procd.output.streams import StreamKey
from procd.runtime.console import Size

if TYPE_CHECKING:
    from procd.control.call import Answer, Call
    from procd.control.streams import Source
    from procd.core import Program
    from procd.runtime.life import Life


async def attach(call: Call, sent: dict[str, Any]) -> Answer:
    """Begin a stream of a program's output, from now to the end of its present life."""
    if ("rows" in sent) != ("columns" in sent):
        raise BadRequest("attach takes `rows` and `columns`, or neither", "give both")
    program = call.program(sent)
    spec = program.spec
    if spec.stdout_log is None and spec.stderr_log is None:
        raise WrongState(
            f"{program.name} keeps no log of its output, so there is nothing to show",
            'give it `stdout = "log"`, or only write to it with `procctl send`',
        )
    _life(call, program)
    with ExitStack() as opened:
        sources = await _sources(call, program, opened)
        # It may have ended while the logs were opened.
        attachment = Attachment(call.daemon.runtime, _life(call, program), sources)
        opened.pop_all()
    number = call.streams.begin(attachment)
    if spec.terminal and "rows" in sent:
        attachment.look(Size(sent["rows"], sent["columns"]))
    typed = spec.stdin is Input.PIPE and call.permit.may(Right.WRITE, spec)
    return {"stream": number, "terminal": spec.terminal, "input": typed}


async def _sources(call: Call, program: Program, opened: ExitStack) -> dict[str, tuple[Source, int]]:
    """Open all logs of a program at their end."""
    logs = call.daemon.runtime.around.logs
    sources: dict[str, tuple[Source, int]] = {}
    for stream, kept in (("stdout", program.spec.stdout_log), ("stderr", program.spec.stderr_log)):
        if kept is not None:
            key = StreamKey(program.name, stream)
            source = LogStream(logs, key, log_of(call, key), follow=True)
            opened.callback(source.close)
            await source.start_at(Beginning(lines=0), call.streams.pause)
            sources[stream] = (source, source.offset)
    return sources


def _life(call: Call, program: Program) -> Life:
    life = call.daemon.runtime.life(program.name)
    if life is None or life.over or program.pid is None:
        raise WrongState(
            f"{program.name} is {program.state.value}", "start it first; `procctl logs` shows what it wrote"
        )
    return life


def resize(call: Call, sent: dict[str, Any]) -> Answer:
    """Say how large the screen is on which somebody sees the terminal of a program."""
    source = call.streams.source(sent["stream"])
    if not isinstance(source, Attachment):
        raise BadRequest(
            f"stream {sent['stream']} of this connection is attached to no program",
            "it may have ended by itself",
        )
    source.look(Size(sent["rows"], sent["columns"]))
    return {}
