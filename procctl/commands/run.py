"""`procctl run` and `forget`: programs that are in no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from procctl import exit_codes, render
from procctl.client import STREAM_DATA, STREAM_GAP
from procctl.completion import complete_programs
from procctl.invocation import Invocation, common_options, say
from procctl.log_output import open_output
from procd.errors import Failed, ProcdError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procctl.client import Client
    from procctl.log_output import Output

STOP_PATIENCE_S = 60.0
"""What an interrupted `run --rm` gives its program to stop, before it is left to procd."""


class Assignment(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """`NAME=VALUE`."""

    name = "assignment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:  # noqa: ANN401 - click's signature
        """Split at the first `=`."""
        name, separator, text = str(value).partition("=")
        if not name or not separator:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, text


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.option("--name", help="Its name.  [default: one that is free]")
@click.option("--user", help="Whom it runs as.  [default: you; procd's user for root]")
@click.option(
    "-e", "--environment", multiple=True, type=Assignment(), metavar="NAME=VALUE", help="A variable for it."
)
@click.option("--directory", metavar="PATH", help="Where it runs.  [default: /]")
@click.option("--stdin", is_flag=True, help="Keep its standard input open, for `procctl send`.")
@click.option("--rm", is_flag=True, help="Forget it when it has ended; its log file stays.")
@click.option("-f", "--follow", is_flag=True, help="Show its output, and exit with its exit status.")
@common_options
@click.pass_obj
def run(  # noqa: PLR0913 - one for each option
    invocation: Invocation,
    command: tuple[str, ...],
    *,
    name: str | None,
    user: str | None,
    environment: tuple[tuple[str, str], ...],
    directory: str | None,
    stdin: bool,
    rm: bool,
    follow: bool,
) -> int:
    """Run a program that is not in the configuration, once.

    With -f its output is shown, and procctl exits as it does (128 and the number of a signal that ended it).
    Ctrl-C then leaves it running, or with --rm stops it.
    """
    spec: dict[str, Any] = {"command": [_literally(word) for word in command]}
    spec |= {key: value for key, value in (("name", name), ("user", user)) if value}
    if directory:
        spec["directory"] = _literally(directory)
    if environment:
        spec["environment"] = {variable: _literally(value) for variable, value in environment}
    if stdin:
        spec["stdin"] = "pipe"
    if rm and not follow:
        spec["rm"] = True
    with invocation.client() as client:
        record = client.call("run", spec=spec)
        if not follow:
            invocation.show(record, lambda: render.reached(record))
            return exit_codes.DONE
        with open_output(as_json=invocation.json, raw=False) as output:
            try:
                ended = _follow(client, record, output)
            except KeyboardInterrupt:
                _leave(client, record["name"], rm=rm)
                raise
        if rm:
            client.call("forget", programs=[record["name"]])
    return _exit_code(ended)


@click.command()
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True, shell_complete=complete_programs)
@common_options
@click.pass_obj
def forget(invocation: Invocation, patterns: tuple[str, ...]) -> int:
    """Forget programs of `procctl run` that have ended.

    Their log files stay.
    """
    with invocation.client() as client:
        answer = client.call("forget", programs=list(patterns))
    invocation.show(
        answer, lambda: "".join(f"{render.escaped(name)}: forgotten\n" for name in answer["forgotten"])
    )
    return exit_codes.DONE


def _literally(word: str) -> str:
    """A word that the daemon expands to what was typed: the shell has expanded it already."""
    return word.replace("$", "$$")


def _follow(client: Client, record: Mapping[str, Any], output: Output) -> Mapping[str, Any]:
    """Show what a program writes until it has ended; its last record."""
    name = record["name"]
    log = record["streams"].get("stdout")
    waiting = client.begin("wait", program=name, **{"for": "exited"})
    position = 0
    if log is not None:
        # Its log file may be older than it is: what it writes begins where the log was at its start.
        stream = client.stream("logs", program=name, offset=log["offset"], follow=True)
        position = _write(stream.until(waiting), output, log["offset"])
        client.call("cancel", stream=stream.answer["stream"])
    client.has_answer(waiting, None)
    ended: Mapping[str, Any] = client.finish(waiting)
    if log is not None:
        # What came between the last look of the stream and the end.
        _write(client.stream("logs", program=name, offset=position), output, position)
    return ended


def _write(parts: Any, output: Output, position: int) -> int:  # noqa: ANN401 - the parts of a stream
    """Show the parts of a log from a position on, each byte once; where that ends."""
    for kind, body in parts:
        if kind == STREAM_DATA:
            data = body["data"][max(0, position - body["offset"]) :]
            position = body["offset"] + len(body["data"])
            output.data(position - len(data), data)
        elif kind == STREAM_GAP:
            output.gap(body["bytes"], body["reason"])
    return position


def _leave(client: Client, name: str, *, rm: bool) -> None:
    """What becomes of a program whose follower was interrupted."""
    client.close()
    if not rm:
        say(f"{name} goes on; `procctl stop {name}` stops it")
        return
    try:
        client.call("stop", programs=[name], timeout=STOP_PATIENCE_S)
        client.call("forget", programs=[name])
    except ProcdError as error:
        say(f"{name} is not gone: {error}")


def _exit_code(ended: Mapping[str, Any]) -> int:
    how = ended.get("exit")
    if how is None:
        raise Failed(f"{ended['name']} did not start: {ended.get('reason')}")
    if "signal" in how:
        return exit_codes.SIGNALLED + int(how["signal"])
    if "code" in how:
        return int(how["code"])
    raise Failed(f"how {ended['name']} ended is not known", "`procctl why` tells what is")
