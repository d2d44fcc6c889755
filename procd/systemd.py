"""What procd says to systemd: sd_notify(3), through the keeper, which is the process that systemd knows.

Owns the words.  Silent where nobody listens.  The watchdog is the keeper's: it asks us whether we are well.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Notifier:
    """Says how procd is.  `send` takes NAME=value lines to the service manager; None where there is none."""

    def __init__(self, send: Callable[[str], None] | None) -> None:
        self._send = send

    @property
    def listens(self) -> bool:
        """Whether there is a service manager to be notified."""
        return self._send is not None

    def send(self, **fields: str | int) -> None:
        """Send one message, a `NAME=value` line for each field; newlines in values become spaces."""
        if self._send is not None:
            self._send(
                "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items())
            )

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is complete."""
        self.send(READY=1, STATUS=status)

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it.  The time is what Type=notify-reload needs."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def status(self, text: str) -> None:
        """Give the line that `systemctl status` shows."""
        self.send(STATUS=text)

    def stopping(self, status: str) -> None:
        """Say that procd is going down."""
        self.send(STOPPING=1, STATUS=status)

    def extend_timeout(self, seconds: float) -> None:
        """Ask for more time than TimeoutStopSec gives."""
        self.send(EXTEND_TIMEOUT_USEC=int(seconds * 1e6))
