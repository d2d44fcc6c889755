"""Methods that begin and end streams: logs, events, cancel."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from procd.config.access import Right
from procd.control.event_stream import EventStream
from procd.control.streams import LogStream
from procd.control.veil import Veil, VisibleJournal
from procd.errors import BadRequest, WrongState
from procd.output.streams import StreamKey

if TYPE_CHECKING:
    from procd.control.call import Answer, Call
    from procd.runtime.journal import Journal


async def logs(call: Call, sent: dict[str, Any]) -> Answer:
    """Begin a stream of a log."""
    program = call.program(sent)
    stream = sent.get("stream", "stdout")
    spec = program.spec
    kept = spec.stdout_log if stream == "stdout" else spec.stderr_log
    if kept is None:
        merged = stream == "stderr" and spec.stderr.value == "stdout" and spec.stdout_log is not None
        raise WrongState(
            f"{program.name} keeps no log of its {stream}",
            "its stderr goes where its stdout goes: ask for that" if merged else f'give it `{stream} = "log"`',
        )
    if "lines" in sent and "offset" in sent:
        raise BadRequest("logs takes `lines` or `offset`, not both", "leave one of them out")
    source = LogStream(
        call.daemon.runtime.around.logs, StreamKey(program.name, stream), kept.path,
        follow=sent.get("follow", False),
    )  # fmt: skip
    await source.start_at(lines=sent.get("lines"), offset=sent.get("offset"))
    return {"stream": call.streams.begin(source), "offset": source.offset}


def events(call: Call, sent: dict[str, Any]) -> Answer:
    """Begin a stream of events."""
    journal: Journal | VisibleJournal = call.daemon.runtime.journal
    if not call.permit.everything:
        programs = call.daemon.runtime.machine.programs
        journal = VisibleJournal(
            call.daemon.runtime.journal,
            partial(call.permit.may, Right.EVENTS),
            Veil(call.permit, programs),
            programs,
        )
    source = EventStream(journal, sent.get("since", 0), follow=sent.get("follow", False))
    return {"stream": call.streams.begin(source), "last": journal.last}


def cancel(call: Call, sent: dict[str, Any]) -> Answer:
    """End a stream of this connection."""
    if not call.streams.cancel(sent["stream"]):
        raise BadRequest(f"no stream {sent['stream']} on this connection", "it may have ended by itself")
    return {}
