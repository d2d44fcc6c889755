"""The command lines that are read without click: `status`, and the bridge that ssh starts.

To import click takes longer than everything else that `procctl status` does, the daemon's answer included, and
it is `status` that people wait for and scripts ask again and again.  So what is plain is read here, and the
rest, every mistake among it, is click's: a test holds that both read the same.
"""

from __future__ import annotations

from procctl.console import Invocation
from procctl.overview import show_status
from procd.errors import InvalidQuantity
from procd.quantities import parse_duration

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def short_way(arguments: Sequence[str]) -> tuple[Invocation, Callable[[], int]] | None:
    """What a command line asks for, and how to do it; None where click has to read it."""
    invocation = Invocation()
    words: list[str] = []
    stdio = False
    rest = iter(arguments)
    for word in rest:
        if word == "--json":
            invocation.json = True
        elif word in {"-s", "--socket", "--timeout"}:
            value = next(rest, "-")
            if value.startswith("-") or not _remember(invocation, word, value):
                return None
        elif word == "--stdio":
            stdio = True
        elif not word or word.startswith("-"):
            return None
        else:
            words.append(word)
    if stdio:
        from procctl.stdio import bridge  # noqa: PLC0415 - only ssh asks for it

        return None if words or invocation.json else (invocation, lambda: bridge(invocation.socket_path))
    if words and words[0] != "status":
        return None
    return invocation, lambda: show_status(invocation, words[1:])


def _remember(invocation: Invocation, option: str, value: str) -> bool:
    """Take the value of an option; False for one that is wrong."""
    if option != "--timeout":
        invocation.socket_path = value
        return True
    try:
        invocation.timeout_s = parse_duration(value)
    except InvalidQuantity:
        return False
    return True
