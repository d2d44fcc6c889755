"""`procctl events`: what happened to programs, numbered."""

from __future__ import annotations

import click

from procctl import exit_codes, render
from procctl.invocation import Invocation, common_options, say, to_json, write
from procctl.pieces import Pieces
from procctl.results import Event, EventGap
from procctl.resume import EventPosition


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--since", type=click.IntRange(0), default=0, metavar="SEQ", help="Only what came after this number."
)
@common_options
@click.pass_obj
def events(invocation: Invocation, *, follow: bool, since: int) -> int:
    """Show what happened: each event with its number, from which --since goes on.

    With -f, procctl waits for a daemon that is restarted and goes on where it was.
    """
    client = invocation.client()
    client.reconnect_s = None if follow else 0.0
    with Pieces(client.another, EventPosition(since, follow=follow), tell=say) as pieces:
        for piece in pieces:
            _show(piece, as_json=invocation.json)
    return exit_codes.DONE


def _show(piece: Event | EventGap, *, as_json: bool) -> None:
    if isinstance(piece, EventGap):
        if as_json:
            write(to_json({"gap_events": piece.events, "reason": piece.reason}))
        else:
            say(f"{render.amount(piece.events, 'event')} missing here: {piece.reason}")
        return
    event = {"seq": piece.seq, "time": piece.time, "type": piece.type, "program": piece.program, **piece.facts}
    write(to_json(event) if as_json else render.event(event))
