"""The control socket's file, where somebody else takes its place at the worst moment."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from procd.control import socket_file
from procd.control.socket_file import SocketFile

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_one_that_is_replaced_before_it_is_watched_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would tell of it: what is watched then is the other's."""
    path = tmp_path / "procd.sock"
    watch = socket_file.inotify_watch
    others = 0

    def late(fd: int, watched: str, events: int) -> None:
        nonlocal others
        if others == 0:
            others += 1
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(f"{path}.other")
                os.replace(f"{path}.other", path)  # noqa: PTH105 - as rename(2)
        watch(fd, watched, events)

    monkeypatch.setattr(socket_file, "inotify_watch", late)

    async def test() -> None:
        made = asyncio.get_running_loop().create_future()
        file = SocketFile(asyncio.get_running_loop(), str(path), 0o600, None, made.set_result)
        first = file.bind()
        again = await asyncio.wait_for(made, 10.0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert file.inode == (path.stat().st_dev, path.stat().st_ino)
        file.close()
        first.close()
        again.close()
        assert not path.exists()

    asyncio.run(test())
    assert others == 1
