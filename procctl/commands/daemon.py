"""`procctl reload`, `upgrade`, `shutdown` and `version`: the daemon itself."""

from __future__ import annotations

import click

from procctl import exit_codes, progress, render
from procctl.invocation import Invocation, common_options
from procd import __version__
from procd.errors import NotPermitted, TimedOut, Unreachable


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@common_options
@click.pass_obj
def reload(invocation: Invocation, *, dry_run: bool) -> int:
    """Read the configuration again, and carry out what it changes.

    A configuration with a mistake changes nothing.
    """
    with invocation.client() as client:
        answer = client.call("plan" if dry_run else "reload")
    invocation.show(answer, lambda: render.changes(answer["changes"]))
    return exit_codes.DONE


@click.command()
@common_options
@click.pass_obj
def upgrade(invocation: Invocation) -> int:
    """Let procd go on as the program that is installed now; programs notice nothing.

    If that one cannot read the configuration, or what is to be handed over, nothing changes.
    """
    with invocation.client() as client:
        answer = client.call("upgrade")
        progress.wait_for_end(client)
    with invocation.client() as client:
        # Who connects meanwhile waits.
        answer["pid"] = client.call("hello")["pid"]
    words = f"procd {render.escaped(answer['from'])} goes on as {render.escaped(answer['to'])}"
    invocation.show(answer, lambda: f"{words} (PID {answer['pid']})\n")
    return exit_codes.DONE


@click.command()
@common_options
@click.pass_obj
def shutdown(invocation: Invocation) -> int:
    """Stop every program in order, then the daemon, and wait until it has ended."""
    with invocation.client() as client:
        answer = client.call("shutdown")
        progress.wait_for_end(client)
    invocation.show(answer, lambda: "procd has stopped every program and ended\n")
    return exit_codes.DONE


@click.command()
@common_options
@click.pass_obj
def metrics(invocation: Invocation) -> int:
    """Show the numbers that procd keeps about itself and its programs."""
    with invocation.client() as client:
        answer = client.call("metrics")
    invocation.show(answer, lambda: render.numbers(answer))
    return exit_codes.DONE


@click.command()
@common_options
@click.pass_obj
def version(invocation: Invocation) -> int:
    """Show the versions of procctl and of the daemon.

    Exits with 6 when no daemon answers.
    """
    versions = {"procctl": __version__, "procd": None, "pid": None}
    try:
        with invocation.client() as client:
            hello = client.call("hello")
    except (Unreachable, NotPermitted, TimedOut) as error:
        invocation.show(versions, lambda: f"procctl {__version__}\n")
        invocation.complain(error)
        return exit_codes.of_error(error)
    versions |= {"procd": hello["version"], "pid": hello["pid"]}
    daemon = f"procd {render.escaped(hello['version'])} (PID {hello['pid']})"
    invocation.show(versions, lambda: f"procctl {__version__}\n{daemon}\n")
    return exit_codes.DONE
