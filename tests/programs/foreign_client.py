"""Speaks to the socket of procd with pynvim's MessagePack-RPC, and prints what it heard as JSON.

A program of its own: pynvim leaves its transports and its loop to the interpreter's end.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pynvim.msgpack_rpc import AsyncSession, EventLoop, MsgpackStream, Session


def connect() -> AsyncSession:
    """Connect as pynvim's `socket_session` does, before that introduces itself to Neovim."""
    return AsyncSession(MsgpackStream(EventLoop("socket", sys.argv[1])))


session = Session(connect())
told: dict[str, Any] = {
    "hello": session.request("hello", {}),
    "status": session.request("status", {}),
    "start": session.request("start", {"programs": ["later"]}),
    "stop": session.request("stop", {"programs": ["later"]}),
}
heard: list[tuple[str, Any]] = []


def on_notification(name: str, arguments: Any) -> None:  # noqa: ANN401 - what travels on the wire
    """Collect the pieces of the log, up to the last that was written."""
    heard.append((name, arguments))
    if b"done" in b"".join(body["data"] for _, (_, body) in heard):
        session.stop()


def begin() -> None:
    """Follow a log, and write what will come in it."""
    session.request("logs", {"program": "cat", "follow": True})
    told["write"] = session.request("write", {"program": "cat", "data": b"\xff\x00done"})


session.run(lambda *_: None, on_notification, begin)
told["methods"] = sorted({name for name, _ in heard})
told["log"] = b"".join(body["data"] for _, (_, body) in heard).hex()


# pynvim's Session takes every error for one of Neovim, an array; the layer below it gives what came.
below = connect()


def on_answer(error: Any, result: Any) -> None:  # noqa: ANN401 - the same
    """Take the refusal."""
    told["refusal"] = [error, result]
    below.stop()


below.request("stop", [{"programs": ["nobody"]}], on_answer)
below.run(lambda *_: None, lambda *_: None)
print(json.dumps(told))
