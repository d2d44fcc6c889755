"""`procctl start`, `stop`, `restart`, `signal`, `wait` and `rotate`."""

from __future__ import annotations

from typing import Any

import click

from procctl import exit_codes, progress, render
from procctl.completion import complete_instances, complete_programs
from procctl.invocation import Invocation, colours_wanted, common_options, patterns_or_all, width
from procd.errors import InvalidQuantity
from procd.quantities import SIGNAL_SYNTAX, parse_signal, signal_name

AWAITABLE = ("running", "stopped", "exited", "healthy")

_patterns = click.argument("patterns", metavar="PATTERN...", nargs=-1, shell_complete=complete_programs)
_everything = click.option("--all", "everything", is_flag=True, help="All programs.")
_no_wait = click.option("--no-wait", is_flag=True, help="Return when it is begun, not when it is done.")


class Signal(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """`TERM`, `SIGTERM` or a number."""

    name = "signal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """Read it as the configuration reads signals."""
        try:
            return parse_signal(value)
        except InvalidQuantity:
            self.fail(f"{value!r} is not {SIGNAL_SYNTAX}", param, ctx)


@click.command()
@_patterns
@_everything
@_no_wait
@common_options
@click.pass_obj
def start(invocation: Invocation, patterns: tuple[str, ...], *, everything: bool, no_wait: bool) -> int:
    """Start programs, and wait until they are ready."""
    return _change_state(
        invocation, "start", patterns_or_all(patterns, everything=everything), wait=not no_wait
    )


@click.command()
@_patterns
@_everything
@_no_wait
@common_options
@click.pass_obj
def stop(invocation: Invocation, patterns: tuple[str, ...], *, everything: bool, no_wait: bool) -> int:
    """Stop programs, and wait until no process of them is left."""
    return _change_state(invocation, "stop", patterns_or_all(patterns, everything=everything), wait=not no_wait)


@click.command()
@_patterns
@_everything
@_no_wait
@click.option(
    "--rolling", is_flag=True, help="One after the other; stop at the first that does not become ready."
)
@common_options
@click.pass_obj
def restart(
    invocation: Invocation, patterns: tuple[str, ...], *, everything: bool, no_wait: bool, rolling: bool
) -> int:
    """Stop programs and start them again, and wait until they are ready."""
    if rolling and no_wait:
        raise click.UsageError(
            "--rolling waits for each program before the next: it cannot be used with --no-wait"
        )
    programs = patterns_or_all(patterns, everything=everything)
    return _change_state(invocation, "restart", programs, wait=not no_wait, rolling=rolling)


@click.command()
@click.argument("number", metavar="SIGNAL", type=Signal())
@_patterns
@_everything
@click.option("--group", is_flag=True, help="To the whole process group, not to the main process only.")
@common_options
@click.pass_obj
def signal(
    invocation: Invocation, number: int, patterns: tuple[str, ...], *, everything: bool, group: bool
) -> int:
    """Send a signal to programs that run: TERM, SIGHUP, 10."""
    programs = patterns_or_all(patterns, everything=everything)
    with invocation.client() as client:
        answer = client.call("signal", programs=programs, signal=number, group=group)
    names = ", ".join(map(render.escaped, answer["signalled"]))
    invocation.show(answer, lambda: f"{signal_name(number)} sent to {names or 'nothing'}\n")
    return exit_codes.DONE


@click.command()
@_patterns
@_everything
@common_options
@click.pass_obj
def rotate(invocation: Invocation, patterns: tuple[str, ...], *, everything: bool) -> int:
    """Begin new log files, and keep the old ones as the configuration says."""
    programs = patterns_or_all(patterns, everything=everything)
    with invocation.client() as client:
        answer = client.call("rotate", programs=programs)
    rows = answer["programs"]
    invocation.show(answer, lambda: render.rotations(rows, width=width()))
    return exit_codes.DONE if all(row["ok"] for row in rows) else exit_codes.FAILED


@click.command()
@click.argument("program", shell_complete=complete_instances)
@click.option(
    "--for",
    "state",
    required=True,
    type=click.Choice(AWAITABLE, case_sensitive=False),
    help="What to wait for.",
)
@common_options
@click.pass_obj
def wait(invocation: Invocation, program: str, state: str) -> int:
    """Wait until a program is in a state: at once, if it is in it already."""
    with invocation.client(daemon_keeps_time=True) as client:
        record = client.call("wait", program=program, **{"for": state}, **invocation.time_limit())
    invocation.show(record, lambda: render.reached(record))
    return exit_codes.DONE


def _change_state(
    invocation: Invocation, method: str, programs: list[str], *, wait: bool, rolling: bool = False
) -> int:
    how = {"rolling": True} if rolling else {}
    with invocation.client(daemon_keeps_time=True) as client:
        request = client.begin(method, programs=programs, wait=wait, **how, **invocation.time_limit())
        answer = progress.finish(client, request, method, programs, rolling=rolling)
    rows = answer["programs"]
    invocation.show(answer, lambda: render.outcomes(rows, colour=colours_wanted(), width=width()))
    return exit_codes.DONE if all(row["ok"] for row in rows) else exit_codes.FAILED
