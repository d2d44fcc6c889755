"""Every method of the control socket, in one static table.

A name from the wire is looked up in `METHODS` and nowhere else (supervisord CVE-2017-11610).  Each entry says
what it takes, which right it needs and what it does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from procd import __version__
from procd.control import parameters as p
from procd.control.access import Right
from procd.control.event_stream import EventStream
from procd.control.parameters import Parameter
from procd.control.streams import LogStream
from procd.core import Restart, Start, State, Stop
from procd.errors import (
    BadRequest,
    ConfigurationError,
    Failed,
    NoSuchProgram,
    ProcessExitedAlready,
    ShuttingDown,
    StdinClosed,
    TimedOut,
    WrongState,
)
from procd.output import StreamKey
from procd.runtime.explanation import why
from procd.runtime.operations import carry_out, roll, wait_for, wait_until_healthy
from procd.runtime.record import record
from procd.runtime.selection import select

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from procd.control.access import Peer
    from procd.control.daemon import Daemon
    from procd.control.streams import Streams
    from procd.core import Program
    from procd.runtime.input import Input

PROTOCOL = 1

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, and what a method has to work with."""

    daemon: Daemon
    peer: Peer
    streams: Streams

    def names(self, sent: dict[str, Any]) -> list[str]:
        """Look up the instances that the parameter `programs` means, or all."""
        specs = {name: program.spec for name, program in self.daemon.runtime.machine.programs.items()}
        return select(sent.get("programs", ["*"]), specs)

    def program(self, sent: dict[str, Any]) -> Program:
        """Find the one program that the parameter `program` means.

        Raises NoSuchProgram, and BadRequest for a pattern that means several.
        """
        program = self.daemon.runtime.machine.programs.get(sent["program"])
        if program is not None:
            return program
        names = self.names({"programs": [sent["program"]]})
        if not names:
            raise NoSuchProgram("there are no programs", "add one to the configuration and reload")
        if len(names) > 1:
            raise BadRequest(
                f"{sent['program']!r} means {len(names)} programs", f"name one of them: {', '.join(names[:4])}"
            )
        return self.daemon.runtime.machine.programs[names[0]]


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of the table."""

    function: Callable[[Call, dict[str, Any]], Answer | Awaitable[Answer]]
    right: Right
    parameters: tuple[Parameter, ...] = ()


def _hello(call: Call, sent: dict[str, Any]) -> Answer:
    del sent
    peer = call.peer
    rights = sorted(right.value for right in peer.rights)
    you = {"uid": peer.uid, "gid": peer.gid, "pid": peer.pid, "rights": rights}
    return {"protocol": PROTOCOL, "version": __version__, "pid": os.getpid(), "you": you}


def _status(call: Call, sent: dict[str, Any]) -> Answer:
    programs = call.daemon.runtime.machine.programs
    return {"programs": [_record(call, programs[name]) for name in call.names(sent)]}


def _record(call: Call, program: Program) -> Answer:
    return record(call.daemon.runtime, program)


async def _operate(call: Call, sent: dict[str, Any], request: type[Start | Stop | Restart]) -> Answer:
    if call.daemon.closing and request is not Stop:
        raise _going_down()
    results = await carry_out(
        call.daemon.runtime, request, call.names(sent), call.peer.actor,
        wait=sent.get("wait", True), timeout_s=sent.get("timeout"),
    )  # fmt: skip
    return {"programs": [result.to_wire() for result in results]}


async def _start(call: Call, sent: dict[str, Any]) -> Answer:
    return await _operate(call, sent, Start)


async def _stop(call: Call, sent: dict[str, Any]) -> Answer:
    return await _operate(call, sent, Stop)


async def _restart(call: Call, sent: dict[str, Any]) -> Answer:
    if not sent.get("rolling", False):
        return await _operate(call, sent, Restart)
    if call.daemon.closing:
        raise _going_down()
    results = await roll(call.daemon.runtime, call.names(sent), call.peer.actor, sent.get("timeout"))
    return {"programs": [result.to_wire() for result in results]}


def _going_down() -> ShuttingDown:
    return ShuttingDown("procd is shutting down and starts nothing", "wait until it is started again")


def _signal(call: Call, sent: dict[str, Any]) -> Answer:
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


async def _write(call: Call, sent: dict[str, Any]) -> Answer:
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


def _close(call: Call, sent: dict[str, Any]) -> Answer:
    program = call.program(sent)
    if sent["stream"] == "stdin":
        _stdin(call, program).close()
    elif not call.daemon.runtime.around.logs.detach(StreamKey(program.name, sent["stream"])):
        raise WrongState(f"{program.name} has no open {sent['stream']} that procd reads")
    return {}


async def _logs(call: Call, sent: dict[str, Any]) -> Answer:
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


def _events(call: Call, sent: dict[str, Any]) -> Answer:
    journal = call.daemon.runtime.journal
    source = EventStream(journal, sent.get("since", 0), follow=sent.get("follow", False))
    return {"stream": call.streams.begin(source), "last": journal.last}


def _why(call: Call, sent: dict[str, Any]) -> Answer:
    return why(call.daemon.runtime, call.program(sent).name)


#: What `wait` can wait for.
WAITABLE = {
    "running": frozenset({State.RUNNING}),
    "stopped": frozenset({State.STOPPED}),
    "exited": frozenset({State.EXITED, State.FATAL}),
}


async def _wait(call: Call, sent: dict[str, Any]) -> Answer:
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
    return _record(call, program)


def _changes(work: Callable[[], Any]) -> Answer:
    try:
        changes = work()
    except ConfigurationError as error:
        problems = [str(problem) for problem in error.problems]
        raise Failed(
            f"the configuration has {len(problems)} problem{'s' * (len(problems) > 1)}; nothing was changed",
            "\n".join(problems),
            {"problems": problems},
        ) from error
    return {
        "changes": [
            {"name": change.name, "kind": change.kind.value, "keys": list(change.keys)} for change in changes
        ]
    }


def _plan(call: Call, sent: dict[str, Any]) -> Answer:
    del sent
    return _changes(call.daemon.plan)


def _reload(call: Call, sent: dict[str, Any]) -> Answer:
    del sent
    if call.daemon.closing:
        raise ShuttingDown("procd is shutting down", "its next start reads the configuration anyway")
    return _changes(lambda: call.daemon.reload(call.peer.actor))


def _shutdown(call: Call, sent: dict[str, Any]) -> Answer:
    del sent
    call.daemon.shutdown(call.peer.actor)
    return {}


def _cancel(call: Call, sent: dict[str, Any]) -> Answer:
    if not call.streams.cancel(sent["stream"]):
        raise BadRequest(f"no stream {sent['stream']} on this connection", "it may have ended by itself")
    return {}


_PROGRAMS = Parameter("programs", p.PATTERNS, required=True)
_PROGRAM = Parameter("program", p.TEXT, required=True)
_TIMEOUT = Parameter("timeout", p.SECONDS)
_OPERATION = (_PROGRAMS, Parameter("wait", p.FLAG), _TIMEOUT)
_STREAMS = p.one_of("stdout", "stderr")

METHODS: dict[str, Method] = {
    "hello": Method(_hello, Right.NONE),
    "status": Method(_status, Right.STATUS, (Parameter("programs", p.PATTERNS),)),
    "start": Method(_start, Right.START, _OPERATION),
    "stop": Method(_stop, Right.STOP, _OPERATION),
    "restart": Method(_restart, Right.RESTART, (*_OPERATION, Parameter("rolling", p.FLAG))),
    "signal": Method(
        _signal,
        Right.SIGNAL,
        (_PROGRAMS, Parameter("signal", p.SIGNAL, required=True), Parameter("group", p.FLAG)),
    ),
    "write": Method(_write, Right.WRITE, (_PROGRAM, Parameter("data", p.OCTETS, required=True))),
    "close": Method(
        _close,
        Right.WRITE,
        (_PROGRAM, Parameter("stream", p.one_of("stdin", "stdout", "stderr"), required=True)),
    ),
    "logs": Method(
        _logs,
        Right.LOGS,
        (
            _PROGRAM,
            Parameter("stream", _STREAMS),
            Parameter("lines", p.COUNT),
            Parameter("offset", p.COUNT),
            Parameter("follow", p.FLAG),
        ),
    ),
    "wait": Method(
        _wait,
        Right.STATUS,
        (_PROGRAM, Parameter("for", p.one_of(*WAITABLE, "healthy"), required=True), _TIMEOUT),
    ),
    "why": Method(_why, Right.STATUS, (_PROGRAM,)),
    "events": Method(_events, Right.EVENTS, (Parameter("since", p.COUNT), Parameter("follow", p.FLAG))),
    "plan": Method(_plan, Right.RELOAD),
    "reload": Method(_reload, Right.RELOAD),
    "shutdown": Method(_shutdown, Right.SHUTDOWN),
    "cancel": Method(_cancel, Right.NONE, (Parameter("stream", p.COUNT, required=True),)),
}
