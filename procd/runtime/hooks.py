"""Commands for a program: its hooks and the checks that are commands, run as it is run.

Owns such a command from its start to the end of everything in its group.  Must not know what its failure means.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from procd.core import Hook
from procd.errors import SpawnError
from procd.process import ProcessProtocol
from procd.quantities import format_duration
from procd.runtime.emptiness import signal_group
from procd.runtime.life import launch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from procd.config.spec import Hooks, ProgramSpec
    from procd.core import Exit
    from procd.runtime.keeping import HookRecord
    from procd.runtime.life import Surroundings


def command_of(hooks: Hooks, hook: Hook) -> tuple[str, ...]:
    """Look the command of a hook up."""
    match hook:
        case Hook.BEFORE_START:
            return hooks.before_start
        case Hook.AFTER_READY:
            return hooks.after_ready
        case Hook.BEFORE_STOP:
            return hooks.before_stop
        case Hook.AFTER_STOP:
            return hooks.after_stop


class Command(ProcessProtocol):
    """A command that is run for a program, as its user, with its output in the program's log.

    `on_end` gets a sentence about what went wrong, or an empty one, exactly once.
    """

    __slots__ = ("_late", "_on_end", "_timeout_s", "_timer", "on_exiting", "record")

    #: What is recorded of it, if it is a hook.
    record: HookRecord

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        #: Called with it when it is dead and not reaped.
        self.on_exiting: Callable[[Command], None] = _nothing
        self._timer: asyncio.TimerHandle | None = None
        self._timeout_s = 0.0
        self._late = False

    def begin(
        self,
        spec: ProgramSpec,
        command: Sequence[str],
        cookie: str,
        timeout_s: float | None,
        around: Surroundings,
        *,
        logged: bool = True,
    ) -> None:
        """Execute it; it has `timeout_s` seconds, or until it is killed."""
        try:
            launch(self, spec, command, cookie, around, logged=logged)
        except SpawnError as error:
            # From the loop, as every other end: whoever runs a hook is in the middle of something.
            around.loop.call_soon(self._on_end, str(error))
            return
        if timeout_s is not None:
            self.end_within(timeout_s, around.loop)

    @property
    def pid(self) -> int:
        """Its PID; 0 if it was not started."""
        process = getattr(self, "process", None)
        return 0 if process is None else process.pid

    def end_within(self, timeout_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """Kill it when it takes longer than that, from now."""
        self._timeout_s = timeout_s
        self._timer = loop.call_later(timeout_s, self._time_out)

    def _time_out(self) -> None:
        self._late = True
        self.kill()

    def kill(self) -> None:
        """End it now, with all that is in its group; its end is told as ever."""
        process = getattr(self, "process", None)
        if process is not None and process.exit is None:
            process.signal_process(signal.SIGKILL, group=True)

    def process_exiting(self) -> None:
        """What it left behind in its group would outlive it."""
        self.on_exiting(self)
        signal_group(self.process.pid, signal.SIGKILL)

    def process_exited(self, exit: Exit) -> None:  # noqa: A002 - the field's word
        """It was reaped."""
        if self._timer is not None:
            self._timer.cancel()
        if self._late:
            failure = f"did not end within {format_duration(self._timeout_s)}, killed"
        else:
            failure = "" if exit.code == 0 else str(exit)
        self._on_end(failure)


def _nothing(_: Command) -> None:
    """Nobody wants to know."""
