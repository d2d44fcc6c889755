"""What the shell may complete a word of the command line with: names of programs, from the daemon.

Somebody waits with a finger on the Tab key: it asks once, not for long, and says nothing when nobody answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procctl.console import Invocation, SeveralHosts
from procd.errors import ProcdError

if TYPE_CHECKING:
    import click

PATIENCE_S = 0.5
"""A daemon answers within milliseconds; one that does not is not waited for."""


def complete_programs(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Names and instances that go on with what was begun; those on the command line left out."""
    given = set(context.params.get(parameter.name or "") or ())
    return sorted(word for word in _words(context) if word.startswith(begun) and word not in given)


def complete_instances(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Names of single programs that go on with what was begun."""
    del parameter
    return sorted(record["name"] for record in _records(context) if record["name"].startswith(begun))


def _words(context: click.Context) -> set[str]:
    records = _records(context)
    names = {str(record["name"]) for record in records}
    return names | {str(record["program"]) for record in records}


def _records(context: click.Context) -> list[dict[str, str]]:
    invocation = context.find_object(Invocation) or Invocation()
    invocation.timeout_s = PATIENCE_S
    try:
        with invocation.client() as client:
            programs: list[dict[str, str]] = client.call("status")["programs"]
            return programs
    except (ProcdError, OSError, SeveralHosts, KeyError, TypeError):
        return []
