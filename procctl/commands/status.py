"""`procctl status`: what runs, since when, and why not."""

from __future__ import annotations

import click

from procctl.completion import complete_programs
from procctl.invocation import Invocation, common_options
from procctl.overview import show_status


@click.command()
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1, shell_complete=complete_programs)
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
    return show_status(invocation, patterns)
