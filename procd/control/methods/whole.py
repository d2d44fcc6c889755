"""Methods about the daemon as a whole: plan, reload, upgrade, shutdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procd import __version__
from procd.errors import ConfigurationError, Failed, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from procd.control.call import Answer, Call


def _changes(work: Callable[[], Any]) -> Answer:
    try:
        changes = work()
    except ConfigurationError as error:
        problems = [str(problem) for problem in error.problems]
        raise Failed(
            f"the configuration has {len(problems)} problem{'s' * (len(problems) > 1)}; nothing was changed",
            "\n".join(problems),
            {"problems": problems},
        ) from error
    return {
        "changes": [
            {"name": change.name, "kind": change.kind.value, "keys": list(change.keys)} for change in changes
        ]
    }


def plan(call: Call, sent: dict[str, Any]) -> Answer:
    """Say what a reload would change."""
    del sent
    return _changes(call.daemon.plan)


def reload(call: Call, sent: dict[str, Any]) -> Answer:
    """Read the configuration again and carry out what has changed."""
    del sent
    if call.daemon.closing:
        raise ShuttingDown("procd is shutting down", "its next start reads the configuration anyway")
    return _changes(lambda: call.daemon.reload(call.peer.actor))


def upgrade(call: Call, sent: dict[str, Any]) -> Awaitable[Answer]:
    """Go on as the program that is installed now."""
    del sent
    if call.daemon.closing:
        raise ShuttingDown("procd is shutting down", "its next start is one of what is installed")
    return _upgrade(call)


async def _upgrade(call: Call) -> Answer:
    return {"from": __version__, "to": await call.daemon.upgrade(call.peer.actor)}


def shutdown(call: Call, sent: dict[str, Any]) -> Answer:
    """Stop everything and end."""
    del sent
    call.daemon.shutdown(call.peer.actor)
    return {}
