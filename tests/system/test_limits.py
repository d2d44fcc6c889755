"""A machine that has no room left: for descriptors, for processes.

Whoever could not be started says why and is tried again, the others are unharmed, and nothing has to be done by
hand when there is room.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import HEAD, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

PROGRAMS = 60
#: They take none, three and two of the supervisor's descriptors: a shortage comes at every step of a start.
CONFIGURATION = f"""
[defaults.backoff]
max = "1s"
[programs.silent]
command = ["/bin/sleep", "1000"]
stdout = "null"
[programs.fed]
command = ["/bin/sleep", "1000"]
stdin = "pipe"
stderr = "log"
instances = {PROGRAMS}
[programs.logged]
command = ["/bin/sleep", "1000"]
stdin = "pipe"
instances = {PROGRAMS}
"""


def check_that_room_is_used(daemon: Daemon, reason: str) -> None:
    """Those that have no room wait with their reason; when others are stopped, it is their turn."""

    def states() -> dict[str, tuple[str, str]]:
        return {name: (record["state"], record["reason"]) for name, record in daemon.records().items()}

    def settled() -> bool:
        return {state for state, _ in states().values()} == {"RUNNING", "BACKOFF"} and all(
            reason in why for state, why in states().values() if state == "BACKOFF"
        )

    until(settled, "each to run, or to say why not")
    running = daemon.pids()
    assert running["silent"] is not None
    waiting = [name for name, pid in running.items() if pid is None]
    with daemon.client() as client:
        client.call(
            "stop", programs=[name for name, pid in running.items() if pid is not None and name != "silent"]
        )
    until(lambda: any(daemon.record(name)["state"] == "RUNNING" for name in waiting), "one that waited to run")
    assert daemon.pids()["silent"] == running["silent"]
    assert "Traceback" not in daemon.said.read_text()
    assert daemon.stop() == 0


@pytest.mark.parametrize("limit", range(100, 108))
def test_no_descriptor_is_left(make_daemon: Callable[..., Daemon], limit: int) -> None:
    """At whichever step of a start that is noticed."""
    daemon = make_daemon(CONFIGURATION, prefix=["prlimit", f"--nofile={limit}:{limit}"])
    check_that_room_is_used(daemon.start(), "EMFILE")


@pytest.mark.skipif(os.geteuid() != 0, reason="to become a user takes root")
def test_no_process_is_left(make_daemon: Callable[..., Daemon]) -> None:
    """Of a user's; TasksMax of systemd and pids.max say the same, EAGAIN, a step earlier."""
    daemon = make_daemon(CONFIGURATION, head=f'{HEAD}user = "news"\nlimits.nproc = {PROGRAMS}\n')
    check_that_room_is_used(daemon.start(), "EAGAIN")
