"""What happens to logs that people have to know: a line of procd's own log for each, and an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from procd.output.slot import Slot

log = structlog.get_logger()


class Notes:
    """Tells both.  `on_note(kind, program, **facts)` takes the events."""

    __slots__ = ("on_note",)

    def __init__(self) -> None:
        self.on_note: Callable[..., None] = _nothing

    def trouble(self, slot: Slot, reason: str) -> None:
        """A log cannot be written."""
        slot.trouble = reason
        key = slot.key
        log.error("log cannot be written", program=key.program, path=slot.path, reason=reason)
        self.on_note("log trouble", key.program, stream=key.stream, path=slot.path, reason=reason)

    def well(self, slot: Slot, dropped: int) -> None:
        """It can again; so many bytes were dropped meanwhile."""
        slot.trouble = ""
        key = slot.key
        log.info("log is written again", program=key.program, path=slot.path, dropped_bytes=dropped)
        self.on_note("log well", key.program, stream=key.stream, path=slot.path, dropped=dropped)

    def loss(self, slot: Slot, lost: int, reason: str) -> None:
        """Bytes are in no log, and will not be."""
        key = slot.key
        log.error("output lost", program=key.program, path=slot.path, bytes=lost, reason=reason)
        self.on_note("output lost", key.program, stream=key.stream, path=slot.path, bytes=lost, reason=reason)

    def logger_ended(self, reason: str) -> None:
        """The logger has died, which its channel has a line for."""
        self.on_note("logger ended", None, reason=reason)


def _nothing(*_: object, **__: object) -> None:
    """Nobody wants to know."""
