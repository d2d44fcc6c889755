"""The checks of one life of a program: is it ready, is it healthy.

Owns which way of asking belongs to which kind of check, and that nothing of it outlives the life.  Must not
know what an answer leads to: counting failures and restarting is the core's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from procd.checks.asking import Asking
from procd.checks.fd_watch import FdWatch
from procd.checks.log_line import LogLine
from procd.checks.probes import probe_for
from procd.checks.watchdog import Watchdog
from procd.config.spec import CheckKind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from procd.checks.command import RunCommand
    from procd.checks.log_line import LogSource
    from procd.checks.notification import Notification
    from procd.checks.watchdog import OnFailed
    from procd.config.spec import Check, Health


class Watch(Protocol):
    """Something under way."""

    def cancel(self) -> None:
        """End it, without a word and without a trace."""


class Means(Struct, frozen=True):
    """What a life has to offer to its checks.

    `run` executes a command as the program's user, with its environment.  `logs` are read for a check of kind
    LOG.  `ready_fd` is the read end of the pipe whose other end the program has as its `fd`, for a check of
    that kind; Readiness owns it from then on.
    """

    loop: asyncio.AbstractEventLoop
    run: RunCommand
    logs: tuple[LogSource, ...] = ()
    ready_fd: int = -1


class Readiness:
    """Calls `on_ready` once, when the program is ready; begins to ask at once.

    `on_failed` hears of each attempt that says no.  `reason` says in words why it is not ready yet.  The
    callbacks are called by the loop, or from within `notified`.
    """

    __slots__ = ("_kind", "_on_failed", "_on_ready", "_watches", "reason")

    def __init__(
        self,
        check: Check,
        means: Means,
        *,
        on_ready: Callable[[], None],
        on_failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begin.  Raises re.error for a bad pattern; the configuration has seen to that."""
        self._kind = check.kind
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._watches: tuple[Watch, ...] | None = ()
        self.reason = _awaited(check)
        self._watches = self._begin(check, means)

    def _begin(self, check: Check, means: Means) -> tuple[Watch, ...]:
        match check.kind:
            case CheckKind.NOTIFY:
                return ()
            case CheckKind.FD:
                lost = f"{self.reason}, and closed it"
                return (FdWatch(means.loop, means.ready_fd, self._passed, lambda: self._failed(lost)),)
            case CheckKind.LOG:
                return tuple(LogLine(means.loop, check.pattern, log, self._passed) for log in means.logs)
            case CheckKind.TCP | CheckKind.HTTP | CheckKind.COMMAND:
                probe = probe_for(check, means.loop, means.run)
                return (
                    Asking(means.loop, probe, check.interval_s, check.timeout_s, 0.0, self._answered),
                )  # fmt: skip

    def notified(self, notification: Notification) -> None:
        """Hear what the program says by sd_notify; matters to a check of kind NOTIFY."""
        if self._kind is CheckKind.NOTIFY and notification.ready and self._watches is not None:
            self._passed()

    def _answered(self, reason: str) -> None:
        if reason:
            self._failed(reason)
        else:
            self._passed()

    def _failed(self, reason: str) -> None:
        self.reason = reason
        self._on_failed(reason)

    def _passed(self) -> None:
        self.reason = ""
        self.cancel()
        self._on_ready()

    def cancel(self) -> None:
        """The life is over, or it is ready: nothing is asked, kept or told any more."""
        watches, self._watches = self._watches, None
        for watch in watches or ():
            watch.cancel()


class HealthWatch:
    """Asks a program that is ready how it is, until it is cancelled; the first time after one interval.

    `on_passed` and `on_failed(reason, final=…)` hear of each answer.  With NOTIFY nothing is asked: see
    Watchdog.
    """

    __slots__ = ("_asking", "_watchdog")

    def __init__(
        self, health: Health, means: Means, *, on_passed: Callable[[], None], on_failed: OnFailed
    ) -> None:
        """Begin."""
        check = health.check
        self._asking: Asking | None = None
        self._watchdog: Watchdog | None = None
        if check.kind is CheckKind.NOTIFY:
            self._watchdog = Watchdog(means.loop, health.watchdog_s, on_passed, on_failed)
            return

        def answered(reason: str) -> None:
            if reason:
                on_failed(reason, final=False)
            else:
                on_passed()

        probe = probe_for(check, means.loop, means.run)
        self._asking = Asking(
            means.loop, probe, check.interval_s, check.timeout_s, check.interval_s, answered
        )  # fmt: skip

    def notified(self, notification: Notification) -> None:
        """Hear what the program says by sd_notify; matters to a watchdog."""
        if self._watchdog is not None:
            self._watchdog.notified(notification)

    def cancel(self) -> None:
        """The life is over: nothing is asked or told any more."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None


def _awaited(check: Check) -> str:
    """Say what has not happened yet."""
    match check.kind:
        case CheckKind.NOTIFY:
            return "has not sent READY=1"
        case CheckKind.FD:
            return f"has not written a newline to descriptor {check.fd}"
        case CheckKind.LOG:
            return f"has not logged a line that matches {check.pattern}"
        case CheckKind.TCP | CheckKind.HTTP | CheckKind.COMMAND:
            return "was not asked yet"
