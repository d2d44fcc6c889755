"""Methods that begin and end streams: logs, events, cancel."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from procd.config.access import Right
from procd.config.spec import Output
from procd.control.event_stream import EventStream
from procd.control.log_stream import Beginning, LogStream
from procd.control.veil import Veil, VisibleJournal
from procd.errors import BadRequest, NoSuchProgram, WrongState
from procd.output.streams import StreamKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.config.spec import LogSpec, ProgramSpec
    from procd.control.call import Answer, Call
    from procd.runtime.journal import Journal


#: Seconds that `logs`, and `wait` for an end, wait for what a program wrote last to come into its log.  The
#: logger needs milliseconds, unless the disk of the log is stuck.
SYNC_S = 1.0
#: Devices and descriptors, which may be a log and cannot be read back.
_WRITE_ONLY = ("/dev/", "/proc/")


def log_of(call: Call, key: StreamKey) -> Callable[[], LogSpec | None]:
    """Look up how the log of a stream is kept; None when it is not, or not any more."""
    programs = call.daemon.runtime.machine.programs

    def look_up() -> LogSpec | None:
        program = programs.get(key.program)
        if program is None:
            return None
        return program.spec.stdout_log if key.stream == "stdout" else program.spec.stderr_log

    return look_up


async def logs(call: Call, sent: dict[str, Any]) -> Answer:
    """Begin a stream of a log."""
    program = call.program(sent)
    key = StreamKey(program.name, sent.get("stream", "stdout"))
    kept = log_of(call, key)
    present = kept()
    if present is None:
        raise _no_log(program.spec, key)
    if present.path.startswith(_WRITE_ONLY):
        raise WrongState(
            f"the log of {program.name} is {present.path}, which cannot be read back",
            "look where procd's own output goes" if "std" in present.path else "look there",
        )
    if len({"lines", "since", "offset"} & set(sent)) > 1:
        raise BadRequest("logs takes one of `lines`, `since` and `offset`", "leave the others out")
    follow = sent.get("follow", False)
    logs = call.daemon.runtime.around.logs
    # What a program that has just ended wrote last may still be in its pipe.
    came = follow or await logs.sync([key], SYNC_S)
    if kept() is None:
        # Meanwhile it was forgotten, or keeps no log any more.
        if call.daemon.runtime.machine.programs.get(program.name) is not program:
            raise NoSuchProgram(f"{program.name} was removed meanwhile", "`procctl status` lists all programs")
        raise _no_log(program.spec, key)
    source = LogStream(logs, key, kept, follow=follow)
    beginning = Beginning(sent.get("lines"), sent.get("offset"), sent.get("since"))
    await source.start_at(beginning, call.streams.pause)
    answer = {"stream": call.streams.begin(source), "offset": source.offset}
    behind = logs.trouble(key) or ("" if came else "the logger does not answer")
    return {**answer, "behind": behind} if behind else answer


def _no_log(spec: ProgramSpec, key: StreamKey) -> WrongState:
    """Say why there is no log, and where to look instead."""
    goes_to = spec.stdout if key.stream == "stdout" or spec.stderr is Output.STDOUT else spec.stderr
    if goes_to is Output.LOG:
        hint = "its stderr goes where its stdout goes: ask for that"
    elif goes_to is Output.JOURNAL:
        hint = f"it goes to the system's journal: journalctl -t {key.program}"
    else:
        hint = f'it is thrown away; to keep it, give it `{key.stream} = "log"`'
    return WrongState(f"{key.program} keeps no log of its {key.stream}", hint)


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
