"""`procctl events`: what happened to programs, numbered."""

from __future__ import annotations

from typing import Any

import click

from procctl import exit_codes, render
from procctl.client import STREAM_DATA, STREAM_GAP
from procctl.invocation import Invocation, common_options, say, write


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--since", type=click.IntRange(0), default=0, metavar="SEQ", help="Only what came after this number."
)
@common_options
@click.pass_obj
def events(invocation: Invocation, *, follow: bool, since: int) -> int:
    """Show what happened: each event with its number, from which --since goes on."""
    with invocation.client() as client:
        for kind, body in client.stream("events", since=since, follow=follow):
            if kind == STREAM_GAP:
                say(f"{body['events']} events are missing: {body['reason']}")
            elif kind == STREAM_DATA:
                _show(invocation, body["events"])
    return exit_codes.DONE


def _show(invocation: Invocation, shown: list[dict[str, Any]]) -> None:
    if invocation.json:
        from json import dumps  # noqa: PLC0415 - only for --json, as everywhere

        write("".join(f"{dumps(event)}\n" for event in shown))
    else:
        write("".join(render.event(event) for event in shown))
