"""Random clients of several users, for a few seconds; `fuzzing.py` goes on for as long as one likes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.fuzzing import CONFIGURATION, Fuzzing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

SECONDS = 4.0


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_clients_send_procd_lives_and_keeps_its_secrets(
    make_daemon: Callable[..., Daemon], seed: int
) -> None:
    """What they did was of every kind, and some of it was right."""
    daemon = make_daemon(CONFIGURATION)
    fuzzing = Fuzzing(daemon.start(), seed)
    fuzzing.run(SECONDS)
    assert len(fuzzing.steps) == 8
    assert {"done", "BAD_REQUEST", "closing", "NO_SUCH_PROGRAM"} <= set(fuzzing.heard)
