"""What is to be said again when one shell takes over from another, of which nobody knows how far it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.core.events import AwaitEmpty, AwaitReady, CancelHook, KillTree, WatchHealth
from procd.core.policy import signal_of_step, stop_steps
from procd.core.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procd.core.events import Action
    from procd.core.program import Program


def unfinished(program: Program) -> Iterator[Action]:
    """Name the actions about a program that may not have been carried out, or that end with the shell.

    A program that is spawned, and a hook that runs, are not among them: they must not be begun twice.
    """
    if program.hook is not None and (program.cancelled or not program.live):
        yield CancelHook(program.name)
    if program.state is State.STOPPING or program.stuck:
        yield from _of_stop(program)
    elif program.pid is not None and program.died_s is None:
        if program.state is State.STARTING and program.spec.ready is not None:
            yield AwaitReady(program.name)
        if program.state is State.RUNNING and program.spec.health is not None:
            yield WatchHealth(program.name)


def _of_stop(program: Program) -> Iterator[Action]:
    if program.empty or program.spawning:
        return
    if program.pid is None:
        yield AwaitEmpty(program.name)
    elif not program.killed and 0 <= program.step < len(stop_steps(program.spec)):
        # The steps may have been changed, and be fewer than it has behind it.
        yield signal_of_step(program.spec, program.step)
    if program.killed:
        yield KillTree(program.name)
