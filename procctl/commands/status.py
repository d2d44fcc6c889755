"""`procctl status`: what runs, since when, and why not."""

from __future__ import annotations

import click

from procctl import exit_codes
from procctl.invocation import EVERYTHING, Invocation, colours_wanted, common_options
from procctl.render import is_running, status_table


@click.command()
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All programs, as without a pattern.")
@common_options
@click.pass_obj
def status(invocation: Invocation, patterns: tuple[str, ...], *, everything: bool) -> int:
    """Show programs and their states.

    PATTERN is a name (web: all its instances), an instance (web@1), a glob (web*) or a label (app:).  Exits
    with 3 when a program that a PATTERN names is not RUNNING.
    """
    if patterns and everything:
        raise click.UsageError("name programs or say --all, not both")
    with invocation.client() as client:
        answer = client.call("status", programs=list(patterns) or EVERYTHING)
    records = answer["programs"]
    invocation.show(answer, lambda: status_table(records, colour=colours_wanted()))
    if patterns and not all(map(is_running, records)):
        return exit_codes.NOT_RUNNING
    return exit_codes.DONE
