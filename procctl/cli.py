"""The `procctl` command.

Owns what becomes of an error: one sentence, one hint, one exit status.  Starting is most of what a command
line spends its time on, so only what a run needs is imported: no asyncio, no logging, no JSON unless asked
for, and no click on the short way.
"""

from __future__ import annotations

import os
import sys

from procctl import exit_codes
from procctl.console import Invocation, SeveralHosts
from procctl.short_way import short_way
from procd import standard_streams
from procd.errors import ProcdError

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

COMPLETE_VARIABLE = "_PROCCTL_COMPLETE"
"""Set by a shell that wants to know how a command line could go on; its name is click's convention."""


def run(arguments: Sequence[str], host: str | None = None) -> int:
    """Carry out one command line; its exit status.

    With `host` it is carried out there, whatever hosts it names.
    """
    asks = host is None and COMPLETE_VARIABLE not in os.environ
    invocation, action = (short_way(arguments) if asks else None) or (Invocation(host), None)
    try:
        return action() if action else _long_way(arguments, invocation)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough, as head(1) does: nothing is wrong, and nobody to tell.
        _discard_output()
        return exit_codes.OUTPUT_CLOSED
    except (ProcdError, OSError) as error:
        invocation.complain(error)
        return exit_codes.of_error(error)


def main() -> None:
    """The console script."""
    standard_streams.open_missing()
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 gets escapes instead of an exception.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    _exit(run(sys.argv[1:]))


def _exit(code: int) -> NoReturn:
    """End at once: to take the interpreter down would be a tenth of the time of a `status`.

    Nothing is left for that: what was begun ends with its block, and what was written has been flushed, or its
    failure was told.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue
    os._exit(code)


def _long_way(arguments: Sequence[str], invocation: Invocation) -> int:
    from procctl import verbs  # noqa: PLC0415 - it imports click

    if COMPLETE_VARIABLE in os.environ:
        return verbs.complete(COMPLETE_VARIABLE, os.environ[COMPLETE_VARIABLE])
    try:
        return verbs.run(arguments, invocation)
    except SeveralHosts:
        from procctl import fleet  # noqa: PLC0415 - one host is the rule

        return fleet.run(arguments, invocation, run)


def _discard_output() -> None:
    """Let the interpreter flush what is left to nowhere, or it would complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
