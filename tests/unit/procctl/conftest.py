"""A place for a socket, and a fake daemon on it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.procctl.fake_daemon import FakeDaemon, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where procctl looks for the daemon in this test; nobody listens yet."""
    path = tmp_path / "s"
    monkeypatch.setenv("PROCD_SOCKET", str(path))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return path


@pytest.fixture
def start_daemon(socket_path: Path) -> Iterator[Callable[..., FakeDaemon]]:
    """Start a daemon with the given methods: a function of the peer and the parameters for each."""
    with ExitStack() as stack:

        def start(**methods: Callable[[Peer, dict[str, Any]], Any]) -> FakeDaemon:
            return stack.enter_context(FakeDaemon(socket_path, **methods))

        yield start
