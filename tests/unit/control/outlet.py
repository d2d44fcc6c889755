"""A connection as streams see it, which remembers what it was sent."""

from __future__ import annotations

import asyncio
from typing import Any


class Outlet:
    """It has room when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.ended = 0
        self.has_room = asyncio.Event()
        self.has_room.set()

    def notify(self, method: str, params: list[Any]) -> None:
        """Remember."""
        self.sent.append((method, params[-1]))

    async def room(self) -> None:
        """Wait for the test."""
        await asyncio.sleep(0)
        await self.has_room.wait()

    def stream_ended(self) -> None:
        """Count."""
        self.ended += 1

    @property
    def content(self) -> bytes:
        """All data, which has to be of one piece since the last gap."""
        result, expected = b"", None
        for method, body in self.sent:
            if method == "stream.data":
                assert expected in {None, body["offset"]}
                expected = body["offset"] + len(body["data"])
                result += body["data"]
            else:
                expected = None
        return result

    @property
    def gaps(self) -> list[tuple[int, str]]:
        """What is missing, and why."""
        return [(body["bytes"], body["reason"]) for method, body in self.sent if method == "stream.gap"]

    @property
    def reason(self) -> str | None:
        """Why the stream ended, if it did."""
        method, body = self.sent[-1] if self.sent else ("", {})
        return body["reason"] if method == "stream.end" else None
