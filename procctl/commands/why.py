"""`procctl why`: the chain of causes behind a program's state."""

from __future__ import annotations

import click

from procctl import exit_codes, render_why
from procctl.completion import complete_instances
from procctl.invocation import Invocation, common_options


@click.command()
@click.argument("program", shell_complete=complete_instances)
@common_options
@click.pass_obj
def why(invocation: Invocation, program: str) -> int:
    """Tell why a program is where it is, who asked for it, and what happens next."""
    with invocation.client() as client:
        explained = client.call("why", program=program)
    invocation.show(explained, lambda: render_why.explanation(explained))
    return exit_codes.DONE
