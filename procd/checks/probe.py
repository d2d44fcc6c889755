"""What it is to ask once.

Owns the contract between those who ask (tcp, http, command) and the one who decides when (`asking`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Told once how an attempt went: "" when the program passed, or else why not, in words.
Answer: TypeAlias = "Callable[[str], None]"


class Attempt(Protocol):
    """One time of asking, under way."""

    def cancel(self) -> None:
        """End it without an answer; nothing of it is left, but a process that is dying."""


class Probe(Protocol):
    """A way to ask one program; it may be asked again when it has answered, or was cancelled."""

    #: What it does, for people: "connect to 127.0.0.1:5432".
    subject: str

    def ask(self, answer: Answer) -> Attempt:
        """Begin to ask; `answer` is called by the loop, never from in here."""


class Foregone:
    """An attempt whose outcome is known before it begins."""

    __slots__ = ("_handle",)

    def __init__(self, loop: asyncio.AbstractEventLoop, reason: str, answer: Answer) -> None:
        self._handle = loop.call_soon(answer, reason)

    def cancel(self) -> None:
        """Say nothing."""
        self._handle.cancel()
