"""The `procd` command: run, check, schema.

Owns arguments, exit codes and what is printed.  Loads what a verb needs when it is asked for.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING

import click

from procd import __version__
from procd.errors import ConfigurationError, RuntimeDirectoryHeld

if TYPE_CHECKING:
    from procd.config.spec import Configuration, DaemonSpec

#: sysexits.h: the configuration is wrong; try again later, somebody else is at it; an operating system error.
EX_CONFIG, EX_TEMPFAIL, EX_OSERR = 78, 75, 71

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
    from procd import lock, standard_streams  # noqa: PLC0415 - `check` and `schema` need none of this

    # What is read now stays: to look through it again and again while it grows takes a tenth of the start.
    gc.disable()
    standard_streams.open_missing()
    os.environ.pop("PROCD_COOKIE", None)
    try:
        configuration = _load(path)
        _prepare(configuration.daemon)
        held = lock.hold(configuration.daemon.runtime_dir)
    except ConfigurationError as error:
        _complain(error)
        sys.exit(EX_CONFIG)
    except RuntimeDirectoryHeld as error:
        click.echo(f"procd: {error}", err=True)
        click.echo("procd: stop that one first, or give this one another runtime_dir", err=True)
        sys.exit(EX_TEMPFAIL)
    except OSError as error:
        click.echo(f"procd: {error.filename}: {error.strerror}", err=True)
        sys.exit(EX_OSERR)
    try:
        # By its absolute path from now on: procd works in /, where a relative one would mean another file.
        _supervise(configuration, configuration.files[0])
    except ConfigurationError as error:
        _complain(error)
        sys.exit(EX_CONFIG)
    finally:
        os.close(held)


def _supervise(configuration: Configuration, path: str) -> None:
    import asyncio  # noqa: PLC0415 - the most expensive import of all

    from procd import logging  # noqa: PLC0415 - as above
    from procd.supervisor import Supervisor  # noqa: PLC0415 - as above

    logging.configure(configuration.daemon.log_level, configuration.daemon.log_format)
    supervisor = Supervisor(configuration, lambda: _load(path), os.environ)
    gc.freeze()
    gc.enable()
    asyncio.run(supervisor.run())
    sys.exit(supervisor.exit_status)


@main.command()
@_CONFIG
def check(path: str | None) -> None:
    """Validate the configuration without running it; print every problem."""
    try:
        configuration = _load(path)
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


def _load(path: str | None) -> Configuration:
    from procd import config  # noqa: PLC0415 - `--help` needs no msgspec

    return config.load(path, os.environ, uid=os.geteuid())


def _prepare(daemon: DaemonSpec) -> None:
    """Make the directories that procd keeps its own things in.

    Raises OSError with the path for one that programs need and that cannot be made.
    """
    # Without it only events are lost with us; that is told when they cannot be written.
    with contextlib.suppress(OSError):
        os.makedirs(daemon.state_dir, mode=0o700, exist_ok=True)  # noqa: PTH103 - as mkdir(2), with the mode
    os.makedirs(daemon.log_dir, mode=0o750, exist_ok=True)  # noqa: PTH103 - as above


def _complain(error: ConfigurationError) -> None:
    for problem in error.problems:
        click.echo(str(problem), err=True)
