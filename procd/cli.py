"""The `procd` command: run, check, schema.

Owns arguments, exit codes and what is printed.  Loads what a verb needs when it is asked for.
"""

from __future__ import annotations

import os
import sys

import click

from procd import __version__
from procd.errors import ConfigurationError

_CONFIG = click.option(
    "-c", "--config", "path", metavar="FILE", default=None, help="The configuration file ($PROCD_CONFIG)."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="procd")
def main() -> None:
    """Start programs, keep them running, and let people talk to them (with procctl)."""


@main.command()
@_CONFIG
def run(path: str | None) -> None:
    """Run in the foreground until SIGTERM or SIGINT; SIGHUP reloads the configuration."""
    from procd import start  # noqa: PLC0415 - `check` and `schema` need none of this

    start.become_keeper(path)


@main.command(hidden=True)
@click.option("--config", "path", required=True)
def rehearse(path: str) -> None:
    """What is asked before an upgrade: it is of no use to anybody else."""
    from procd import rehearsal  # noqa: PLC0415 - as above

    sys.exit(rehearsal.look(path))


@main.command()
@_CONFIG
def check(path: str | None) -> None:
    """Validate the configuration without running it; print every problem."""
    try:
        from procd import config  # noqa: PLC0415 - `--help` needs no msgspec

        configuration = config.load(path, os.environ, uid=os.geteuid())
    except ConfigurationError as error:
        _complain(error)
        sys.exit(1)
    count = len(configuration.programs)
    click.echo(f"{', '.join(configuration.files)}: {count} program{'s' * (count != 1)}, no problems")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    import json  # noqa: PLC0415 - only here

    from procd import config  # noqa: PLC0415 - only here

    click.echo(json.dumps(config.json_schema(), indent=2))


def _complain(error: ConfigurationError) -> None:
    """Print every problem."""
    for problem in error.problems:
        click.echo(str(problem), err=True)
