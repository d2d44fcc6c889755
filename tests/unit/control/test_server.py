"""The control socket: who can connect, from the first moment, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from procd.control import ControlServer, server
from procd.wire import Notification
from tests.kernel.children import in_loop, open_descriptors, until
from tests.world import Client, World


@in_loop
async def test_the_socket_has_its_mode_and_goes_away(tmp_path: Path) -> None:
    """Nobody but the owner may connect, and nothing else is made beside it."""
    async with World(tmp_path) as world:
        mode = os.stat(world.socket).st_mode  # noqa: PTH116 - a string
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert os.listdir(tmp_path) == ["s"]  # noqa: PTH208
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@in_loop
async def test_the_socket_of_a_dead_procd_is_replaced(tmp_path: Path) -> None:
    """So is what it left half made; whoever holds the lock is the only one here."""
    (tmp_path / "s").write_text("left behind")
    (tmp_path / "s.new").write_text("left behind")
    async with World(tmp_path) as world:
        await (await world.client()).call("hello")


@in_loop
async def test_a_path_of_full_length_can_be_bound(tmp_path: Path) -> None:
    """107 bytes, which is what unix(7) allows and the configuration accepts."""
    directory = tmp_path / ("d" * (107 - len(str(tmp_path)) - 1 - 2))
    directory.mkdir()
    async with World(directory) as world:
        assert len(os.fsencode(world.socket)) == 107
        await (await world.client()).call("hello")
        assert os.listdir(directory) == ["s"]  # noqa: PTH208


@pytest.mark.parametrize("place", ["missing", "file"])
@in_loop
async def test_a_place_that_does_not_exist_is_an_error_with_a_reason(tmp_path: Path, place: str) -> None:
    """And leaves nothing open."""
    (tmp_path / "file").write_text("")
    before = open_descriptors()
    control = ControlServer(World(tmp_path))
    with pytest.raises(OSError, match=r"No such file|Not a directory") as refused:
        control.listen(asyncio.get_running_loop(), str(tmp_path / place / "s"), 0o600)
    assert refused.value.strerror
    assert open_descriptors() == before
    control.close()


@in_loop
async def test_one_connection_too_many_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that leaves makes room."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with World(tmp_path) as world:
        first, second = await world.client(), await world.client()
        await first.call("hello")
        await second.call("hello")
        third = await Client.connect(world.socket)
        (message,) = await third.until_closed()
        assert isinstance(message, Notification)
        assert message.params[0]["code"] == "TOO_LARGE"
        third.close()
        first.close()
        await second.call("hello")
        await (await world.client()).call("hello")


@in_loop
async def test_the_socket_is_closed_in_children(tmp_path: Path) -> None:
    """A program must not be able to answer in procd's place."""
    async with World(tmp_path) as world:
        assert world._server._listener is not None
        assert not world._server._listener.socket.get_inheritable()
        assert Path(world.socket).exists()  # noqa: ASYNC240


@in_loop
async def test_a_connection_that_comes_as_procd_ends_is_told(tmp_path: Path) -> None:
    """It was accepted, and has no transport yet: nobody is left without a word."""
    async with World(tmp_path) as world:
        with socket.socket(socket.AF_UNIX) as connecting:
            connecting.connect(world.socket)
            assert world._server._listener is not None
            world._server._listener.drain()
            world._server.close()
            connecting.setblocking(False)
            said = await asyncio.get_running_loop().sock_recv(connecting, 65536)
            assert b"SHUTTING_DOWN" in said
            await until(lambda: not world._server._connections)
