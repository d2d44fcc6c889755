"""The options that every verb takes, and the words that several of them read.

Owns what is click about an `Invocation`, which is given on from here for the verbs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from procctl.console import EVERYTHING, Invocation, colours_wanted, say, to_json, width, write, write_error
from procd.errors import InvalidQuantity
from procd.quantities import DURATION_SYNTAX, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "EVERYTHING", "Duration", "Invocation", "colours_wanted", "common_options", "patterns_or_all", "say",
    "to_json", "width", "write", "write_error",
]  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")


def common_options(function: Callable[P, R]) -> Callable[P, R]:
    """Let a verb take the options of procctl behind itself, too."""
    for option in reversed(_COMMON_OPTIONS):
        function = option(function)
    return function


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """`5`, `"250ms"`, `"10m"`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's signature
        """Read it as the configuration reads durations."""
        try:
            return parse_duration(value)
        except InvalidQuantity:
            self.fail(f"{value!r} is not {DURATION_SYNTAX}", param, ctx)


class Host(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """What ssh takes for a host."""

    name = "host"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's signature
        """Refuse what ssh would read as an option."""
        from procctl.remote import checked_host  # noqa: PLC0415 - most command lines name none

        try:
            return checked_host(str(value))
        except ValueError:
            self.fail(f"{value!r} is no host, nor user@host", param, ctx)


def patterns_or_all(patterns: tuple[str, ...], *, everything: bool) -> list[str]:
    """The programs that a verb is for; raises UsageError where none or both are said."""
    if patterns and everything:
        raise click.UsageError("name programs or say --all, not both")
    if not patterns and not everything:
        raise click.UsageError("which programs? name them, or say --all")
    return EVERYTHING if everything else list(patterns)


def _remember(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(context: click.Context, _: click.Parameter, value: object) -> None:
        # An option that was not given says nothing about one that was, before or after the verb.
        if value is not None and value is not False:
            setattr(context.ensure_object(Invocation), field, value)

    return remember


def _remember_hosts(context: click.Context, _: click.Parameter, hosts: tuple[str, ...]) -> None:
    asked = context.ensure_object(Invocation).hosts
    asked += [host for host in hosts if host not in asked]


_COMMON_OPTIONS = (
    click.option(
        "-H", "--host", multiple=True, type=Host(), metavar="HOST", expose_value=False,
        callback=_remember_hosts,
        help="Ask the daemon of another machine, by ssh; several times for several machines.",
    ),
    click.option(
        "-s", "--socket", metavar="PATH", expose_value=False, callback=_remember("socket_path"),
        help="The daemon's socket.  [default: $PROCD_SOCKET, or where procd of this user listens]",
    ),
    click.option(
        "--json", is_flag=True, expose_value=False, callback=_remember("json"), help="Answer with JSON."
    ),
    click.option(
        "--timeout", type=Duration(), metavar="DURATION", expose_value=False, callback=_remember("timeout_s"),
        help="Give up after that long: 10, 1.5s, 2m.",
    ),
)  # fmt: skip
