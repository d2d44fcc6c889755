"""Asking by a command: the check `command`.

Owns when it is run and what its end means.  Must not know how a command is run as a program's user: it is given
a function for that.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, TypeAlias

from procd.checks.notification import neutralise
from procd.checks.probe import Foregone
from procd.errors import SpawnError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from procd.checks.probe import Answer, Attempt

#: `run(argv, on_end) -> kill`: execute argv as the program would be, and call `on_end` once, from the loop,
#: when it was reaped: with "" when it exited with 0, or else with what happened.  `kill` sends SIGKILL to all
#: of it; its end is told as ever.  Raises SpawnError, or has `on_end` told of that.
RunCommand: TypeAlias = "Callable[[tuple[str, ...], Callable[[str], None]], Callable[[], None]]"

_MAX_SUBJECT = 80


class CommandProbe:
    """Passes when the command exits with 0.

    One that was killed and is still there (it waits for a disk, say) is not joined by another: that would be
    one more for each interval.
    """

    __slots__ = ("_argv", "_loop", "_run", "_running", "subject")

    def __init__(self, loop: asyncio.AbstractEventLoop, argv: tuple[str, ...], run: RunCommand) -> None:
        self._loop = loop
        self._argv = argv
        self._run = run
        self._running = False
        self.subject = f"command {neutralise(shlex.join(argv), _MAX_SUBJECT)}"

    def ask(self, answer: Answer) -> Attempt:
        """Run it."""
        if self._running:
            return Foregone(self._loop, f"{self.subject}: the one before was killed and has not ended", answer)
        running = _Running(answer, self.subject, self._ended)
        try:
            running.kill = self._run(self._argv, running.ended)
        except SpawnError as error:
            return Foregone(self._loop, f"{self.subject}: {error}", answer)
        self._running = True
        return running

    def _ended(self) -> None:
        self._running = False


class _Running:
    """One run of the command."""

    __slots__ = ("_answer", "_on_end", "_subject", "kill")

    kill: Callable[[], None]

    def __init__(self, answer: Answer, subject: str, on_end: Callable[[], None]) -> None:
        self._answer: Answer | None = answer
        self._subject = subject
        self._on_end = on_end

    def ended(self, failure: str) -> None:
        self._on_end()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(f"{self._subject}: {failure}" if failure else "")

    def cancel(self) -> None:
        """Kill it; nobody waits for its end any more."""
        if self._answer is not None:
            self._answer = None
            self.kill()
