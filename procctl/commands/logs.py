"""`procctl logs`: what a program wrote, and what it writes."""

from __future__ import annotations

from contextlib import suppress
from time import sleep
from typing import TYPE_CHECKING, Any

import click

from procctl import exit_codes
from procctl.client import STREAM_DATA, STREAM_GAP
from procctl.invocation import Invocation, common_options, say
from procctl.log_output import open_output
from procd.errors import Failed, ShuttingDown, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from procctl.client import Client, Stream
    from procctl.log_output import Output

DEFAULT_LINES = 10
"""What tail(1) shows."""

RECONNECT_FIRST_S = 0.1
RECONNECT_MAX_S = 2.0
"""A daemon that is restarted is back within a second; one that is down for long is asked rarely."""

END_OF_LOG = "end of log"
"""The reason of a stream.end that came because all that was asked for was sent."""


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


@click.command()
@click.argument("program")
@click.option("-f", "--follow", is_flag=True, help="Go on with what the program writes, until Ctrl-C.")
@click.option("-n", "--lines", type=LineCount(), default=DEFAULT_LINES, metavar="LINES",
              help="How many of the last lines, or all.  [default: 10]")  # fmt: skip
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Which log, if stderr has its own.")
@click.option("--raw", is_flag=True, help="Also on a terminal, show control characters unescaped.")
@common_options
@click.pass_obj
def logs(
    invocation: Invocation, program: str, *, follow: bool, lines: int | str, stream: str | None, raw: bool
) -> int:
    """Show the output of a program.

    The bytes are shown unchanged, but on a terminal control characters are escaped.  With -f, procctl waits for
    a daemon that is restarted and goes on where it was.
    """
    params: dict[str, Any] = {"program": program, "follow": follow}
    params |= {"offset": 0} if lines == "all" else {"lines": lines}
    if stream:
        params["stream"] = stream
    with open_output(as_json=invocation.json, raw=raw) as output:
        reading = Reading(params, output)
        if follow:
            reading.follow(invocation.client)
        else:
            with invocation.client() as client:
                reading.once(client)
    return exit_codes.DONE


class Reading:
    """A log as far as it was read: what to ask for next, whichever daemon answers."""

    def __init__(self, params: dict[str, Any], output: Output) -> None:
        self._params = params
        self._output = output

    def once(self, client: Client) -> None:
        """Write what there is; raises what `Client` raises, and Failed when that is not all of it."""
        self._write(client.stream("logs", **self._params))

    def follow(self, connect: Callable[[], Client]) -> None:
        """Write what comes, from one daemon after the other, until the stream ends for good.

        A daemon that is lost is told, and waited for; raises what `Client` raises for anything else, and when
        there was no daemon from the beginning.
        """
        with connect() as client:
            lost = self._lost(client.stream("logs", **self._params))
        while lost:
            say("the daemon is gone; waiting for it to come back (Ctrl-C ends this)")
            lost = self._follow_next(connect)

    def _lost(self, stream: Stream) -> bool:
        """Write a stream; whether it broke off because its daemon ended."""
        self._resume_at(stream.answer.get("offset"))
        try:
            self._write(stream)
        except (Unreachable, ShuttingDown):
            return True
        return False

    def _follow_next(self, connect: Callable[[], Client]) -> bool:
        """Wait for a daemon that opens the stream, and write it; whether that one was lost, too."""
        delay_s = RECONNECT_FIRST_S
        while True:
            with connect() as client, suppress(Unreachable, ShuttingDown):
                stream = client.stream("logs", **self._params)
                say("the daemon is back")
                return self._lost(stream)
            sleep(delay_s)
            delay_s = min(2 * delay_s, RECONNECT_MAX_S)

    def _write(self, stream: Stream) -> None:
        """Write all of a stream; raises Failed when it ended before the log did."""
        for kind, body in stream:
            if kind == STREAM_DATA:
                self._output.data(body["offset"], body["data"])
                self._resume_at(body["offset"] + len(body["data"]))
            elif kind == STREAM_GAP:
                self._output.gap(body["bytes"], body["reason"])
                if "offset" in self._params:
                    self._resume_at(self._params["offset"] + body["bytes"])
        if stream.end_reason != END_OF_LOG:
            raise Failed(f"the log ended early: {stream.end_reason}", "what was shown is not all of it")

    def _resume_at(self, offset: int | None) -> None:
        if offset is not None:
            self._params["offset"] = offset
            self._params.pop("lines", None)
