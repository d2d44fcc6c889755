"""The `procctl` command.

Owns the list of verbs, and what becomes of an error: one sentence, one hint, one exit status.  A verb's module
is imported when that verb is used, because starting is most of what a command line spends its time on: no
asyncio, no logging, no JSON unless asked for.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from procctl import exit_codes
from procctl.commands import FAMILY_OF_VERB
from procctl.invocation import Invocation, common_options, write, write_error
from procd import __version__
from procd.errors import ProcdError


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
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches  # noqa: PLC0415 - only somebody who mistyped pays for it

        alike = " or ".join(get_close_matches(verb, FAMILY_OF_VERB))
        raise click.UsageError(f"there is no verb {verb!r}{f'; did you mean {alike}?' if alike else ''}", ctx)


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's signature
    # click's own version_option looks for translations when it is defined: 3 ms of every start.
    if wanted:
        write(f"procctl {__version__}\n")
        context.exit()


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@common_options
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version of procctl and exit.",
)
@click.pass_context
def procctl(context: click.Context) -> int:
    """Show and control the programs that procd supervises.

    Without a verb, shows their status.
    """
    if context.invoked_subcommand is not None:
        return exit_codes.DONE
    status = procctl.get_command(context, "status")
    assert status is not None, "status is in the table of verbs"  # noqa: S101
    code: int = context.invoke(status)
    return code


def run(arguments: list[str]) -> int:
    """Carry out one command line; its exit status."""
    invocation = Invocation()
    try:
        with procctl.make_context("procctl", list(arguments), obj=invocation) as context:
            return int(procctl.invoke(context))
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        _complain(error)
        return exit_codes.USAGE
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough, as head(1) does: nothing is wrong, and nobody to tell.
        _discard_output()
        return exit_codes.OUTPUT_CLOSED
    except (ProcdError, OSError) as error:
        write_error(error, as_json=invocation.json)
        return exit_codes.of_error(error)


def main() -> None:
    """The console script."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 gets escapes instead of an exception.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(run(sys.argv[1:]))


def _open_missing_streams() -> None:
    """Open what the caller closed (`procctl … >&-`), or the socket would become standard output."""
    descriptor = 0
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - it stays open to the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - the same


def _complain(error: click.UsageError) -> None:
    path = error.ctx.command_path if error.ctx else "procctl"
    sys.stderr.write(f"procctl: {error.format_message()}\nsee `{path} --help`\n")


def _discard_output() -> None:
    """Let the interpreter flush what is left to nowhere, or it would complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
