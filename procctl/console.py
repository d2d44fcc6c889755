"""One run of procctl: what was asked for on all verbs alike, and how its answer leaves.

Owns the streams, and the sentence for an error.  It must not know a verb, nor click: `procctl status` starts
without it (`procctl.short_way`).
"""

from __future__ import annotations

import os
import sys

from procctl import exit_codes
from procctl.client import ANSWER_GRACE_S, Client
from procctl.render import escaped
from procd.errors import Refusal, Unreachable

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

EVERYTHING = ["*"]
"""The pattern that selects all programs."""


STREAMING_VERBS = frozenset({"logs", "events"})


class SeveralHosts(Exception):  # noqa: N818 - it names what was asked for
    """The verb is for several hosts, and has to be carried out on each (`procctl.fleet`)."""


class Invocation:
    """The options that stand before or after any verb."""

    def __init__(self, only_host: str | None = None) -> None:
        self._only_host = only_host
        self.verb = ""
        self.hosts: list[str] = []
        self.socket_path: str | None = None
        self.timeout_s: float | None = None
        self.json = False

    @property
    def host(self) -> str | None:
        """The one host that this is for; raises SeveralHosts where there are more.

        One is enough where each of many lines has to be marked with it.
        """
        if self._only_host is not None:
            return self._only_host
        if len(self.hosts) > 1 or (self.hosts and self.json and self.verb in STREAMING_VERBS):
            raise SeveralHosts
        return self.hosts[0] if self.hosts else None

    def client(self, *, daemon_keeps_time: bool = False) -> Client:
        """A client of the daemon that was named; raises what `find_socket` raises, and SeveralHosts."""
        if self.host is not None:
            end_in_order_at_sigterm()
        grace_s = ANSWER_GRACE_S if daemon_keeps_time else 0.0
        timeout_s = None if self.timeout_s is None else self.timeout_s + grace_s
        return Client(self.socket_path, timeout_s, host=self.host, agree=False)

    def time_limit(self) -> dict[str, float]:
        """The parameter for a method that waits until a state is reached."""
        return {} if self.timeout_s is None else {"timeout": self.timeout_s}

    def show(self, answer: Any, text: Callable[[], str]) -> None:  # noqa: ANN401 - what travelled on the wire
        """Print an answer, as JSON or as people read it."""
        marked = {"host": self.host, **answer} if self.json and self.host else answer
        write(to_json(marked) if self.json else text())

    def complain(self, error: Exception) -> None:
        """Say on standard error what went wrong."""
        write_error(error, as_json=self.json, host=self._only_host or next(iter(self.hosts), None))


def end_in_order_at_sigterm() -> None:
    """Let SIGTERM take back what was begun, as Ctrl-C does: an ssh, or processes for several hosts."""
    import signal  # noqa: PLC0415 - only for other hosts

    def end(number: int, _: object) -> None:
        # A second one must not interrupt what the first one began.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(exit_codes.SIGNALLED + number)

    signal.signal(signal.SIGTERM, end)


def write(text: str) -> None:
    """Print text at once, so that a failure is known while it can be reported."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_error(error: Exception, *, as_json: bool, host: str | None = None) -> None:
    """Say on standard error what went wrong, and below it what to do."""
    facts = _error_map(error)
    if as_json:
        sys.stderr.write(to_json({"host": host, **facts} if host else facts))
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


def width() -> int | None:
    """Columns of the terminal that standard output is; None where it is none, and nothing has to fit."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _error_map(error: Exception) -> dict[str, Any]:
    if isinstance(error, Refusal):
        return error.to_wire()
    code = "UNREACHABLE" if isinstance(error, Unreachable) else Refusal.code
    message = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return {"code": code, "message": message, "hint": "\n".join(getattr(error, "__notes__", ())), "data": {}}
