"""The command line as click reads it: the options, and the verbs, each imported when it is asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from procctl import exit_codes
from procctl.commands import FAMILY_OF_VERB
from procctl.invocation import Invocation, common_options, write
from procctl.overview import show_status
from procd import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verbs(click.Group):
    """The verbs, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the documentation."""
        del ctx
        return list(FAMILY_OF_VERB)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb; None for a word that is no verb."""
        del ctx
        if cmd_name not in FAMILY_OF_VERB:
            return None
        family = import_module(f"procctl.commands.{FAMILY_OF_VERB[cmd_name]}")
        command: click.Command = getattr(family, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb, and what is left for it; raises UsageError with the verbs that are spelt alike."""
        verb = args[0]
        if verb in FAMILY_OF_VERB:
            ctx.ensure_object(Invocation).verb = verb
            return super().resolve_command(ctx, args)
        if ctx.resilient_parsing:
            return None, None, args
        from difflib import get_close_matches  # noqa: PLC0415 - only somebody who mistyped pays for it

        alike = " or ".join(get_close_matches(verb, FAMILY_OF_VERB))
        raise click.UsageError(f"there is no verb {verb!r}{f'; did you mean {alike}?' if alike else ''}", ctx)


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's signature
    # click's own version_option looks for translations when it is defined: 3 ms of every start.
    if wanted and not context.resilient_parsing:
        write(f"procctl {__version__}\n")
        context.exit()


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@common_options
@click.option(
    "--stdio",
    is_flag=True,
    help="Pass bytes between standard input and output and the daemon's socket, as `procctl -H` asks for.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version of procctl and exit.",
)
@click.pass_context
def procctl(context: click.Context, *, stdio: bool) -> int:
    """Show and control the programs that procd supervises.

    Without a verb, shows their status.
    """
    if stdio:
        raise click.UsageError("--stdio stands alone, or with -s")
    if context.invoked_subcommand is not None:
        return exit_codes.DONE
    return show_status(context.ensure_object(Invocation), ())


def run(arguments: Sequence[str], invocation: Invocation) -> int:
    """Carry out a command line; its exit status.  Raises SeveralHosts where it names more than one."""
    try:
        with procctl.make_context("procctl", list(arguments), obj=invocation) as context:
            return int(procctl.invoke(context))
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        _complain(error)
        return exit_codes.USAGE


def complete(variable: str, instruction: str) -> int:
    """Answer a shell that wants to know how its command line could go on (click's shell completion)."""
    from click.shell_completion import shell_complete  # noqa: PLC0415 - only a shell asks

    return shell_complete(procctl, {}, "procctl", variable, instruction)


def _complain(error: click.UsageError) -> None:
    path = error.ctx.command_path if error.ctx else "procctl"
    sys.stderr.write(f"procctl: {error.format_message()}\nsee `{path} --help`\n")
