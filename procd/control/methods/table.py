"""Every method of the control socket, in one static table.

A name from the wire is looked up in `METHODS` and nowhere else (supervisord CVE-2017-11610).  Each entry says
what it takes, which right it needs and what it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from procd.config.access import Right
from procd.control import parameters as p
from procd.control.methods import asking, attaching, operating, rotating, running, streaming, talking, whole
from procd.control.parameters import Parameter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from procd.control.call import Answer, Call


class Method(Struct, frozen=True):
    """One entry of the table."""

    function: Callable[[Call, dict[str, Any]], Answer | Awaitable[Answer]]
    right: Right
    parameters: tuple[Parameter, ...] = ()


_PROGRAMS = Parameter("programs", p.PATTERNS, required=True)
_PROGRAM = Parameter("program", p.TEXT, required=True)
_TIMEOUT = Parameter("timeout", p.SECONDS)
_OPERATION = (_PROGRAMS, Parameter("wait", p.FLAG), _TIMEOUT)
_STREAMS = p.one_of("stdout", "stderr")
_SIZE = (Parameter("rows", p.CELLS), Parameter("columns", p.CELLS))

METHODS: dict[str, Method] = {
    "hello": Method(asking.hello, Right.NONE, (Parameter("protocol", p.COUNT),)),
    "status": Method(asking.status, Right.STATUS, (Parameter("programs", p.PATTERNS),)),
    "start": Method(operating.start, Right.START, _OPERATION),
    "stop": Method(operating.stop, Right.STOP, _OPERATION),
    "restart": Method(operating.restart, Right.RESTART, (*_OPERATION, Parameter("rolling", p.FLAG))),
    "signal": Method(
        operating.signal,
        Right.SIGNAL,
        (_PROGRAMS, Parameter("signal", p.SIGNAL, required=True), Parameter("group", p.FLAG)),
    ),
    "write": Method(talking.write, Right.WRITE, (_PROGRAM, Parameter("data", p.OCTETS, required=True))),
    "close": Method(
        talking.close,
        Right.WRITE,
        (_PROGRAM, Parameter("stream", p.one_of("stdin", "stdout", "stderr"), required=True)),
    ),
    "logs": Method(
        streaming.logs,
        Right.LOGS,
        (
            _PROGRAM,
            Parameter("stream", _STREAMS),
            Parameter("lines", p.COUNT),
            Parameter("since", p.SECONDS),
            Parameter("offset", p.COUNT),
            Parameter("follow", p.FLAG),
        ),
    ),
    "attach": Method(attaching.attach, Right.ATTACH, (_PROGRAM, *_SIZE)),
    # Of a stream of this connection, and for that there was a right.
    "resize": Method(
        attaching.resize,
        Right.NONE,
        (
            Parameter("stream", p.COUNT, required=True),
            Parameter("rows", p.CELLS, required=True),
            Parameter("columns", p.CELLS, required=True),
        ),
    ),
    "wait": Method(
        asking.wait,
        Right.STATUS,
        (_PROGRAM, Parameter("for", p.one_of(*asking.WAITABLE, "healthy"), required=True), _TIMEOUT),
    ),
    "why": Method(asking.why, Right.STATUS, (_PROGRAM,)),
    "events": Method(
        streaming.events, Right.EVENTS, (Parameter("since", p.COUNT), Parameter("follow", p.FLAG))
    ),
    "metrics": Method(asking.metrics, Right.STATUS),
    "run": Method(running.run, Right.RUN, (Parameter("spec", p.TABLE, required=True),)),
    "forget": Method(running.forget, Right.RUN, (_PROGRAMS,)),
    "plan": Method(whole.plan, Right.RELOAD),
    "reload": Method(whole.reload, Right.RELOAD),
    "upgrade": Method(whole.upgrade, Right.UPGRADE),
    "shutdown": Method(whole.shutdown, Right.SHUTDOWN),
    "rotate": Method(rotating.rotate, Right.ROTATE, (_PROGRAMS,)),
    "cancel": Method(streaming.cancel, Right.NONE, (Parameter("stream", p.COUNT, required=True),)),
}
