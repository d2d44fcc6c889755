"""The typed methods of both clients: every method of the daemon, asked in the same way."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

import procctl
from procctl import AsyncClient, Client, results
from procctl.async_methods import AsyncMethods
from procctl.blocking import Methods
from procd.control.methods import METHODS
from procd.errors import StdinClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.procctl.fake_daemon import FakeDaemon, Peer

    StartDaemon = Callable[..., FakeDaemon]

#: What is part of a stream, not a question of its own, and what has a name that a client has taken.
OTHERWISE = {"cancel": None, "attach": None, "resize": None, "close": "close_stream"}

RECORD = {"name": "web@1", "state": "RUNNING"}


def public(kind: type) -> set[str]:
    """The methods of a class that are for its users."""
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_every_method_of_the_wire_has_one_here() -> None:
    """Whoever adds one to the table adds it to the clients."""
    wanted = {OTHERWISE.get(name, name) for name in METHODS} - {None}
    assert wanted <= public(Methods)


def test_both_clients_have_the_same_methods() -> None:
    """With the same parameters."""
    assert public(Methods) == public(AsyncMethods)
    for name in public(Methods):
        ours = inspect.signature(getattr(Methods, name)).parameters
        theirs = inspect.signature(getattr(AsyncMethods, name)).parameters
        assert list(map(str, ours.values())) == list(map(str, theirs.values())), name


def test_every_public_name_is_there() -> None:
    """Each is imported when it is asked for."""
    for name in procctl.__all__:
        assert getattr(procctl, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Frob'"):
        _ = procctl.Frob


QUESTIONS = [
    ("start", ("web", "db"), {}, ("start", {"programs": ["web", "db"], "wait": True})),
    ("stop", ("web",), {"timeout_s": 2.0}, ("stop", {"programs": ["web"], "wait": True, "timeout": 2.0})),
    ("restart", ("a",), {"rolling": True}, ("restart", {"programs": ["a"], "wait": True, "rolling": True})),
    ("signal", ("HUP", "web"), {}, ("signal", {"programs": ["web"], "signal": "HUP", "group": False})),
    ("close_stream", ("web", "stdin"), {}, ("close", {"program": "web", "stream": "stdin"})),
    ("run", (["true"],), {"user": "nobody"}, ("run", {"spec": {"command": ["true"], "user": "nobody"}})),
    ("status", (), {}, ("status", {"programs": ["*"]})),
    ("wait", ("a", "exited"), {"timeout_s": 1.0}, ("wait", {"program": "a", "for": "exited", "timeout": 1.0})),
    ("rotate", ("*",), {}, ("rotate", {"programs": ["*"]})),
    ("shutdown", (), {}, ("shutdown", {})),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "arguments", "options", "asked"), QUESTIONS, ids=lambda value: str(value)[:10]
)
def test_a_method_asks_its_question(
    start_daemon: StartDaemon, method: str, arguments: tuple[Any, ...], options: dict[str, Any], asked: Any  # noqa: ANN401 - what travelled
) -> None:  # fmt: skip
    """The same for both clients."""
    rows = {"programs": [{"ok": True, "reason": "", **RECORD}], "signalled": ["web"], **RECORD}
    daemon = start_daemon(**{asked[0]: lambda _, __: rows})
    with Client() as client:
        first = getattr(client, method)(*arguments, **options)

    async def ask() -> Any:  # noqa: ANN401 - whatever it gives
        async with AsyncClient() as client:
            return await getattr(client, method)(*arguments, **options)

    assert asyncio.run(ask()) == first
    assert daemon.requests == [asked, asked]


def test_a_record_of_an_older_daemon_is_read(start_daemon: StartDaemon) -> None:
    """What it does not have is empty, and what is new in it is left out."""
    start_daemon(status=lambda _, __: {"programs": [{**RECORD, "brand_new": 1, "exit": {"unknown": True}}]})
    with Client() as client:
        (record,) = client.status()
    assert (record.program, record.pid, record.restarts, record.streams) == ("web", None, 0, {})
    assert record.exit == results.Exit(None, None)


def test_a_write_in_several_parts_counts_all_that_went_in(start_daemon: StartDaemon) -> None:
    """Also of those before the one that was refused."""
    sizes: list[int] = []

    def write(_: Peer, params: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(params["data"]))
        if len(sizes) == 3:
            raise StdinClosed("it closed its stdin", "", {"accepted": 5})
        return {"accepted": sizes[-1]}

    start_daemon(write=write)
    with Client() as client, pytest.raises(StdinClosed) as refused:
        client.write("web", bytes(3 * 65536))
    assert refused.value.data == {"accepted": 2 * 65536 + 5}
    sizes.clear()

    async def ask() -> None:
        async with AsyncClient() as client:
            with pytest.raises(StdinClosed) as refused:
                await client.write("web", bytes(3 * 65536))
        assert refused.value.data == {"accepted": 2 * 65536 + 5}

    asyncio.run(ask())
