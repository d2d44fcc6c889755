"""Restart policy: what the end of a program means, and how long to wait before the next try.

Pure functions of a spec and an end.  Chance comes in as a number, so that every delay can be tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.config.spec import Kind, Restart, StopScope, StopStep
from procd.core.events import Signal
from procd.core.states import Trigger

if TYPE_CHECKING:
    from procd.config.spec import Backoff, ProgramSpec, StartLimit, Success
    from procd.core.outcome import Exit


def is_success(exit: Exit, success: Success) -> bool:  # noqa: A002 - the field's word
    """Whether an end counts as one that was meant to be; an unknown end never does."""
    if exit.signal is not None:
        return exit.signal in success.signals
    return exit.code in success.codes


def verdict_on_exit(spec: ProgramSpec, exit: Exit, *, good_run: bool) -> Trigger:  # noqa: A002 - as above
    """What follows an exit that nobody asked for.

    After a good run (ready, and up for `min_uptime`) the restart is immediate; else it was a failed start and
    waits for the backoff.  A oneshot is done when it succeeds; when it fails, any restart waits.
    """
    success = is_success(exit, spec.success)
    oneshot = spec.kind is Kind.ONESHOT
    if spec.restart is Restart.NEVER or (success and (oneshot or spec.restart is Restart.ON_FAILURE)):
        return Trigger.FINISHED
    return Trigger.RESTART_NOW if good_run and not oneshot else Trigger.RESTART_LATER


def verdict_on_failed_start(spec: ProgramSpec) -> Trigger:
    """What follows a start that failed without an exit: a spawn, a hook, a readiness that never came."""
    return Trigger.GAVE_UP if spec.restart is Restart.NEVER else Trigger.RESTART_LATER


def verdict_on_max_runtime(spec: ProgramSpec) -> Trigger:
    """What follows when `max_runtime` is over: a service gets a new life, a oneshot has failed.

    A oneshot that is not tried again has not ended as it should, whatever it exits with when it is stopped:
    nobody who waits for its completion may take it for completed.
    """
    return Trigger.RESTART_NOW if spec.kind is Kind.SERVICE else verdict_on_failed_start(spec)


def recent_failures(limit: StartLimit | None, failed_at_s: tuple[float, ...], now: float) -> tuple[float, ...]:
    """The times of failed starts that still count, this one included."""
    if limit is None:
        return ()
    return (*(at for at in failed_at_s if at > now - limit.within_s), now)


def stop_steps(spec: ProgramSpec) -> tuple[StopStep, ...]:
    """The signals of a stop, in order, each with its time; SIGKILL follows the last."""
    return spec.stop_steps or (StopStep(spec.stop_signal, spec.stop_timeout_s),)


def signal_of_step(spec: ProgramSpec, step: int) -> Signal:
    """The signal of a step, from 0; only the first may be for the main process alone."""
    group = step > 0 or spec.stop_scope is StopScope.GROUP
    return Signal(spec.name, stop_steps(spec)[step].signal, group)


def backoff_delay_s(backoff: Backoff, failures: int, chance: float) -> float:
    """Seconds to wait after the `failures`-th failed start in a row (1 is the first).

    `chance` in [0, 1) spreads the delay evenly over `1 ± jitter` of it, so that programs that died together do
    not come back together.  The result is never above `max_s * (1 + jitter)`.
    """
    try:
        grown_s = backoff.initial_s * backoff.factor ** (failures - 1)
    except OverflowError:
        # After a long night of failures, or with a large factor; a delay that starts at zero stays there.
        grown_s = backoff.max_s if backoff.initial_s else 0.0
    delay = min(grown_s, backoff.max_s)
    return delay * (1 + backoff.jitter * (2 * chance - 1))
