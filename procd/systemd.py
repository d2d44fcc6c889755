"""What procd says to systemd: sd_notify(3), without a C library.

Owns the notify socket's protocol.  Silent where nobody listens, and never fails procd: a manager that does not
read its datagrams must not stop a supervisor.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import asyncio
    from collections.abc import MutableMapping

log = structlog.get_logger()


class Notifier:
    """The datagram socket to the service manager.

    Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environ`, so that no program inherits them
    (sd_notify(3), `unset_environment`).  Does nothing without NOTIFY_SOCKET.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ, pid)
        self._beat: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._failing = False
        if not address:
            return
        if address[0] not in "/@":
            log.warning(
                "service manager cannot be notified", reason=f"{address} is no address of a Unix socket"
            )
            return
        # Not connected: a manager that is started again has another socket at the same address.
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @property
    def listens(self) -> bool:
        """Whether there is a service manager to be notified."""
        return self._socket is not None

    def send(self, **fields: str | int) -> None:
        """Send one datagram, a `NAME=value` line for each field; newlines in values become spaces."""
        if self._socket is None:
            return
        lines = [f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items()]
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError as error:
            # A full socket (EAGAIN) or a manager that restarts (ECONNREFUSED): the next message comes anyway.
            if not self._failing:
                log.warning("service manager cannot be notified", reason=str(error))
            self._failing = True
        else:
            self._failing = False

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

    def start_watchdog(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat at half the interval that systemd allows, on the loop whose health it proves."""
        if self.watchdog_s is None or self._socket is None:
            return
        self.send(WATCHDOG=1)
        self._beat = loop.call_later(self.watchdog_s / 2, self.start_watchdog, loop)

    def close(self) -> None:
        """Say nothing more."""
        if self._beat is not None:
            self._beat.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_s(environ: MutableMapping[str, str], pid: int) -> float | None:
    """Seconds of WATCHDOG_USEC, if it is meant for this process (sd_watchdog_enabled(3))."""
    microseconds = environ.pop("WATCHDOG_USEC", "")
    meant_for = environ.pop("WATCHDOG_PID", str(pid))
    if not (microseconds.isascii() and microseconds.isdigit() and meant_for == str(pid)):
        return None
    return int(microseconds) / 1e6 or None
