"""What `procctl status` does, for click and for the short way alike."""

from __future__ import annotations

from procctl import exit_codes
from procctl.console import EVERYTHING, colours_wanted, width
from procctl.render import is_running, status_table

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from collections.abc import Sequence

    from procctl.console import Invocation


def show_status(invocation: Invocation, patterns: Sequence[str]) -> int:
    """Print the state of programs, all if none is named; the exit status."""
    with invocation.client() as client:
        answer = client.call("status", programs=list(patterns) or EVERYTHING)
    records = answer["programs"]
    if invocation.host is not None and not invocation.json:
        records = [{"host": invocation.host, **record} for record in records]
    invocation.show(answer, lambda: status_table(records, colour=colours_wanted(), width=width()))
    if patterns and not all(map(is_running, records)):
        return exit_codes.NOT_RUNNING
    return exit_codes.DONE
