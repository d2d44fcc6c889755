"""The stream of events: what is remembered after a number, and what follows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procd.control.streams import Outlet
    from procd.control.veil import VisibleJournal
    from procd.runtime.journal import Journal

#: Events in one notification: some tens of kilobytes, less than a connection may have unread.
BATCH = 128
#: Events that are sent at the end of procd without asking whether there is room.
REST = 1024


class EventStream:
    """The journal from a number on, and on with it if it is followed."""

    def __init__(self, journal: Journal | VisibleJournal, since: int, *, follow: bool) -> None:
        self._journal = journal
        self._seq = since
        self._follow = follow

    async def run(self, number: int, outlet: Outlet) -> None:
        """Send the stream as notifications until it ends."""
        grown = asyncio.Event()
        unwatch = self._journal.watch(grown.set)
        try:
            while True:
                grown.clear()
                await self._send_what_is_there(number, outlet)
                if not self._follow:
                    outlet.notify("stream.end", [number, {"reason": "end of events"}])
                    return
                await grown.wait()
        finally:
            unwatch()

    async def _send_what_is_there(self, number: int, outlet: Outlet) -> None:
        while True:
            await outlet.room()
            forgotten = self._journal.forgotten(self._seq)
            if forgotten:
                reason = "too long ago, and not remembered"
                outlet.notify("stream.gap", [number, {"events": forgotten, "reason": reason}])
                self._seq += forgotten
            records = self._journal.since(self._seq, BATCH)
            if not records:
                return
            events = [record.to_wire() for record in records]
            outlet.notify("stream.data", [number, {"events": events}])
            self._seq = records[-1].seq

    def send_rest(self, number: int, outlet: Outlet) -> None:
        """Send now what a follower has not had yet: how procd ended is among it."""
        records = self._journal.since(self._seq, REST)
        if records:
            events = [record.to_wire() for record in records]
            outlet.notify("stream.data", [number, {"events": events}])
            self._seq = records[-1].seq

    def close(self) -> None:
        """Hold nothing that has to be let go of."""
