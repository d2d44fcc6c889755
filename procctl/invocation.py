"""One run of procctl: what was asked for on all verbs alike, and how its answer leaves.

Owns the options that every verb takes, the streams, and the sentence for an error.  It must not know a verb.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from procctl.client import Client
from procctl.render import escaped
from procd.errors import InvalidQuantity, Refusal, Unreachable
from procd.quantities import DURATION_SYNTAX, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

ANSWER_GRACE_S = 2.0
"""How much longer than the daemon we wait where it keeps the time itself: its answer knows more than ours."""

EVERYTHING = ["*"]
"""The pattern that selects all programs."""


class Invocation:
    """The options that stand before or after any verb."""

    def __init__(self) -> None:
        self.socket_path: str | None = None
        self.timeout_s: float | None = None
        self.json = False

    def client(self, *, daemon_keeps_time: bool = False) -> Client:
        """A client of the daemon that was named; raises what `find_socket` raises."""
        grace_s = ANSWER_GRACE_S if daemon_keeps_time else 0.0
        return Client(self.socket_path, None if self.timeout_s is None else self.timeout_s + grace_s)

    def time_limit(self) -> dict[str, float]:
        """The parameter for a method that waits until a state is reached."""
        return {} if self.timeout_s is None else {"timeout": self.timeout_s}

    def show(self, answer: Any, text: Callable[[], str]) -> None:  # noqa: ANN401 - what travelled on the wire
        """Print an answer, as JSON or as people read it."""
        write(to_json(answer) if self.json else text())


def write(text: str) -> None:
    """Print text at once, so that a failure is known while it can be reported."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_error(error: Exception, *, as_json: bool) -> None:
    """Say on standard error what went wrong, and below it what to do."""
    facts = _error_map(error)
    if as_json:
        sys.stderr.write(to_json(facts))
        return
    lines = [escaped(line) for text in (facts["message"], facts["hint"]) for line in str(text).splitlines()]
    sys.stderr.write("\n".join([f"procctl: {lines[0] if lines else 'it failed'}", *lines[1:], ""]))


def say(sentence: str) -> None:
    """Tell a person something that is no part of the answer."""
    sys.stderr.write(f"procctl: {escaped(sentence)}\n")
    sys.stderr.flush()


def to_json(value: Any) -> str:  # noqa: ANN401 - what travelled on the wire
    """One line of JSON."""
    import json  # noqa: PLC0415 - a tenth of the time that a verb takes, and most do not need it

    return json.dumps(value, ensure_ascii=False) + "\n"


def colours_wanted() -> bool:
    """Whether standard output is a terminal that shows colours, and nobody asked for none (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


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


def patterns_or_all(patterns: tuple[str, ...], *, everything: bool) -> list[str]:
    """The programs that a verb is for; raises UsageError where none or both are said."""
    if patterns and everything:
        raise click.UsageError("name programs or say --all, not both")
    if not patterns and not everything:
        raise click.UsageError("which programs? name them, or say --all")
    return EVERYTHING if everything else list(patterns)


def _error_map(error: Exception) -> dict[str, Any]:
    if isinstance(error, Refusal):
        return error.to_wire()
    code = "UNREACHABLE" if isinstance(error, Unreachable) else Refusal.code
    message = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return {"code": code, "message": message, "hint": "\n".join(getattr(error, "__notes__", ())), "data": {}}


def _remember(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(context: click.Context, _: click.Parameter, value: object) -> None:
        # An option that was not given says nothing about one that was, before or after the verb.
        if value is not None and value is not False:
            setattr(context.ensure_object(Invocation), field, value)

    return remember


_COMMON_OPTIONS = (
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
