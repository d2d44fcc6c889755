"""Restart policy: what the end of a program means, and how long to wait before the next try.

Pure functions of a spec and an end.  Chance comes in as a number, so that every delay can be tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.config.spec import Restart
from procd.core.states import Trigger

if TYPE_CHECKING:
    from procd.config.spec import Backoff, ProgramSpec, Success
    from procd.core.outcome import Exit


def is_success(exit: Exit, success: Success) -> bool:  # noqa: A002 - the field's word
    """Whether an end counts as one that was meant to be; an unknown end never does."""
    if exit.signal is not None:
        return exit.signal in success.signals
    return exit.code in success.codes


def verdict_on_exit(spec: ProgramSpec, exit: Exit, uptime_s: float) -> Trigger:  # noqa: A002 - as above
    """What follows an exit that nobody asked for.

    Dying before `min_uptime` is a failed start and waits for the backoff; after it the restart is immediate.
    """
    done = spec.restart is Restart.NEVER or (
        spec.restart is Restart.ON_FAILURE and is_success(exit, spec.success)
    )
    if done:
        return Trigger.FINISHED
    return Trigger.RESTART_NOW if uptime_s >= spec.min_uptime_s else Trigger.RESTART_LATER


def verdict_on_spawn_failure(spec: ProgramSpec) -> Trigger:
    """What follows a spawn that failed: a failed start, or the end of it where no restart is wanted."""
    return Trigger.GAVE_UP if spec.restart is Restart.NEVER else Trigger.RESTART_LATER


def backoff_delay_s(backoff: Backoff, failures: int, chance: float) -> float:
    """Seconds to wait after the `failures`-th failed start in a row (1 is the first).

    `chance` in [0, 1) spreads the delay evenly over `1 ± jitter` of it, so that programs that died together do
    not come back together.  The result is never above `max_s * (1 + jitter)`.
    """
    # The exponent is bounded before the power is taken: 2.0 ** 1024 overflows, after a long night of failures.
    exponent = min(failures - 1, 64)
    delay = min(backoff.initial_s * backoff.factor**exponent, backoff.max_s)
    return delay * (1 + backoff.jitter * (2 * chance - 1))
