"""From the configuration of a check to the probe that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.checks.command import CommandProbe
from procd.checks.probe import Foregone
from procd.checks.tcp import TcpProbe
from procd.config.spec import CheckKind

if TYPE_CHECKING:
    import asyncio

    from procd.checks.command import RunCommand
    from procd.checks.probe import Answer, Probe
    from procd.config.spec import Check


def probe_for(check: Check, loop: asyncio.AbstractEventLoop, run: RunCommand) -> Probe:
    """The probe of a check of kind TCP, HTTP or COMMAND.

    An address that cannot be asked is a check that never passes, and says why: a daemon does not stop for it.
    """
    try:
        match check.kind:
            case CheckKind.TCP:
                return TcpProbe(loop, check.address)
            case CheckKind.HTTP:
                # Only for whoever has such a check: h11 takes as long to import as a tenth of all the rest.
                from procd.checks.http import GOOD_STATUSES, HttpProbe  # noqa: PLC0415

                return HttpProbe(loop, check.url, check.statuses or GOOD_STATUSES)
            case CheckKind.COMMAND:
                return CommandProbe(loop, check.command, run)
            case _:
                raise AssertionError(f"{check.kind} is told by the program: it is not asked for")
    except ValueError as error:
        return Unaskable(loop, str(error))


class Unaskable:
    """A probe that never passes."""

    __slots__ = ("_loop", "subject")

    def __init__(self, loop: asyncio.AbstractEventLoop, reason: str) -> None:
        self._loop = loop
        self.subject = reason

    def ask(self, answer: Answer) -> Foregone:
        """Say why."""
        return Foregone(self._loop, self.subject, answer)
