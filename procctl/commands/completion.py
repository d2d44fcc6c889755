"""`procctl completion`: what a shell has to know in order to complete procctl's command lines."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from procctl import exit_codes
from procctl.cli import COMPLETE_VARIABLE
from procctl.invocation import common_options, write
from procctl.verbs import procctl


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def completion(shell: str) -> int:
    """Print the script that makes a shell complete verbs, options and names of programs.

    For bash: `procctl completion bash > /etc/bash_completion.d/procctl`; or in ~/.bashrc:
    `eval "$(procctl completion bash)"`.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click has all three"  # noqa: S101
    write(f"{kind(procctl, {}, 'procctl', COMPLETE_VARIABLE).source()}\n")
    return exit_codes.DONE
