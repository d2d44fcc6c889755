"""`procctl forget`: what was run, has ended, and need not be seen any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system.daemon import Daemon

CONFIGURATION = """
[programs.quiet]
command = ["sleep", "infinity"]
autostart = false
"""


def test_a_program_that_has_ended_is_forgotten(shared: Daemon) -> None:
    """Its name is free again, and its log file stays."""
    shared.does("run", "--name", "once", "--", "echo", "said")
    shared.until_state("once", "EXITED")
    shared.until_output("once", b"said\n")
    assert shared.does("forget", "once") == "once: forgotten\n"
    assert "once" not in shared.records()
    assert shared.output("once") == b"said\n"
    assert shared.procctl("forget", "once").code == 4


def test_a_program_that_runs_or_is_configured_is_not(shared: Daemon) -> None:
    """And then none of those that were named is."""
    shared.does("run", "--name", "done", "--", "true")
    shared.until_state("done", "EXITED")
    shared.does("run", "--name", "goes-on", "--", "sleep", "infinity")
    done = shared.procctl("forget", "done", "goes-on")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[1] == "stop it first"
    done = shared.procctl("forget", "done", "quiet")
    assert (done.code, "quiet is in the configuration" in done.err) == (1, True)
    shared.does("stop", "goes-on")
    assert shared.json("forget", "done", "goes-on") == {"forgotten": ["done", "goes-on"]}
