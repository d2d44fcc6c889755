"""Daemons for tests: one for each test, or one that a module shares; both are gone afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.daemon import Daemon
from tests.system.survival import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Make daemons that are not started yet; each has a directory of its own."""
    with contextlib.ExitStack() as stack:
        count = 0

        def make(programs: str, **options: Any) -> Daemon:  # noqa: ANN401 - those of Daemon
            nonlocal count
            count += 1
            directory = tmp_path / f"daemon{count}"
            directory.mkdir()
            daemon = Daemon(directory, programs, **options)
            stack.callback(daemon.end)
            return daemon

        yield make


@pytest.fixture
def start_daemon(make_daemon: Callable[..., Daemon]) -> Callable[..., Daemon]:
    """Make daemons and start them."""
    return lambda programs, **options: make_daemon(programs, **options).start()


@pytest.fixture
def stage(tmp_path: Path, start_daemon: Callable[..., Daemon]) -> Stage:
    """A stage with nothing on it yet."""
    return Stage(tmp_path, start_daemon)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the CONFIGURATION of the module, shared by its tests: each uses programs of its own."""
    daemon = Daemon(tmp_path_factory.mktemp("shared"), request.module.CONFIGURATION)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.end()
