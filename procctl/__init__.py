"""procctl: the command line of procd, and a client library for programs that script it.

    from procctl import AsyncClient, Client

Each name is imported when it is first used, so that the command line starts fast and needs no asyncio.
"""

from __future__ import annotations

from procctl.lazy import LazyModule

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from typing import Any

    from procctl.async_client import AsyncClient
    from procctl.client import Client
    from procctl.results import (
        Change,
        Event,
        EventGap,
        Exit,
        Hello,
        Log,
        LogGap,
        LogPiece,
        Next,
        Outcome,
        Record,
        You,
    )

__all__ = [
    "AsyncClient", "Change", "Client", "Event", "EventGap", "Exit", "Hello", "Log", "LogGap", "LogPiece",
    "Next", "Outcome", "Record", "You",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class of one of the modules
    """Import what was asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'procctl' has no attribute {name!r}")
    where = {"Client": "procctl.client", "AsyncClient": "procctl.async_client"}.get(name, "procctl.results")
    return getattr(LazyModule(where), name)
