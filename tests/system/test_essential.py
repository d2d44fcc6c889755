"""`essential`: when it ends for good, procd ends with its status, as a container wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

OTHER = '[programs.other]\ncommand = ["sleep", "1000"]\n'


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)],
    ids=["success", "failure", "signal"],
)
def test_procd_exits_with_the_status_of_the_essential_program(
    make_daemon: Callable[..., Daemon], script: str, status: int
) -> None:
    """Everything else is stopped first, and nothing is left."""
    daemon = make_daemon(
        OTHER
        + f'[programs.main]\ncommand = "read -r line; {script}"\nshell = true\nstdin = "pipe"\n'
        + 'restart = "never"\nessential = true\n'
    )
    daemon.start()
    daemon.until_state("other", "RUNNING")
    daemon.does("send", "main", "go")
    assert daemon.wait() == status


def test_an_essential_program_that_is_restarted_has_not_ended_for_good(
    make_daemon: Callable[..., Daemon],
) -> None:
    """And neither has one that somebody stops: procd goes on."""
    daemon = make_daemon('[programs.main]\ncommand = ["sleep", "1000"]\nessential = true\n').start()
    before = daemon.process("main")
    daemon.does("signal", "KILL", "main")
    daemon.until_state("main", "RUNNING")
    assert daemon.process("main") != before
    daemon.does("stop", "main")
    assert daemon.record("main")["state"] == "STOPPED"
    assert daemon.stop() == 0
