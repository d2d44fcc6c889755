"""`procctl logs`: what a program wrote, and what it writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from procctl import exit_codes
from procctl.completion import complete_instances
from procctl.invocation import Invocation, common_options, say
from procctl.log_output import open_output
from procctl.moments import parse_moment
from procctl.pieces import Pieces
from procctl.results import LogGap
from procctl.resume import LogPosition
from procd.errors import InvalidQuantity

if TYPE_CHECKING:
    from procctl.log_output import Output
    from procctl.results import LogPiece

DEFAULT_LINES = 10
"""What tail(1) shows."""


class LineCount(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """A number of lines, or `all`."""

    name = "lines"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:  # noqa: ANN401 - click's signature
        """Accept what `tail -n` would, and `all`."""
        word = str(value)
        if word == "all":
            return word
        if word.isascii() and word.isdigit():
            return int(word)
        return self.fail(f"{value!r} is not a number of lines, or all", param, ctx)


class Moment(click.ParamType):  # type: ignore[type-arg]  # as above
    """A time in the past, as a Unix time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's signature
        """Accept what docs/reference/procctl.md lists."""
        if isinstance(value, float):
            return value
        try:
            return parse_moment(str(value), time.time())
        except InvalidQuantity as error:
            return self.fail(str(error), param, ctx)


@click.command()
@click.argument("program", shell_complete=complete_instances)
@click.option("-f", "--follow", is_flag=True, help="Go on with what the program writes, until Ctrl-C.")
@click.option("-n", "--lines", type=LineCount(), metavar="LINES",
              help="How many of the last lines, or all.  [default: 10]")  # fmt: skip
@click.option("--since", type=Moment(), metavar="TIME",
              help="From this time on: 10m (ago), today, 14:30, 2026-11-23, '2026-11-23 14:30'.")  # fmt: skip
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Which log, if stderr has its own.")
@click.option("--raw", is_flag=True, help="Also on a terminal, show control characters unescaped.")
@common_options
@click.pass_obj
def logs(
    invocation: Invocation,
    program: str,
    *,
    follow: bool,
    lines: int | str | None,
    since: float | None,
    stream: str | None,
    raw: bool,
) -> int:
    """Show the output of a program.

    The bytes are shown unchanged, but on a terminal control characters are escaped.  With -f, procctl waits for
    a daemon that is restarted and goes on where it was.
    """
    if lines is not None and since is not None:
        raise click.UsageError("-n and --since are two beginnings: give one of them")
    if lines is None and since is None:
        lines = DEFAULT_LINES
    wanted = lines if isinstance(lines, int) else None
    client = invocation.client()
    client.reconnect_s = None if follow else 0.0
    position = LogPosition(program, stream, lines=wanted, since_s=since, follow=follow)
    with (
        open_output(as_json=invocation.json, raw=raw) as output,
        Pieces(client.another, position, tell=say) as pieces,
    ):
        if position.behind:
            say(f"what it wrote last is not in the log yet: {position.behind}")
        for piece in pieces:
            _show(piece, output)
    return exit_codes.DONE


def _show(piece: LogPiece | LogGap, output: Output) -> None:
    if isinstance(piece, LogGap):
        output.gap(piece.bytes, piece.reason)
    else:
        output.data(piece.offset, piece.data)
