"""What the keeper says to people and to the service manager; neither may make it wait.

Owns standard error and NOTIFY_SOCKET.
"""

from __future__ import annotations

import os
import select
import socket
import stat

TYPE_CHECKING = False  # as in `messages`
if TYPE_CHECKING:
    from collections.abc import MutableMapping

#: PIPE_BUF: what a pipe that is writable takes at once (pipe(7)).
MOST_LINE_BYTES = 4096
#: Processes that wait for a file system at once; further lines are lost.
MOST_WRITERS = 8


class Outside:
    """Standard error, and the datagram socket of systemd (sd_notify(3)); what they cannot take now is lost."""

    __slots__ = ("_address", "_socket", "_writers", "watchdog_s")

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        #: Seconds that systemd allows between two beats; 0 if it does not count.
        self.watchdog_s = 0.0
        #: Who writes lines to a file for us.
        self._writers: set[int] = set()
        if self._address[:1] not in {"/", "\0"}:
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        microseconds = environ.get("WATCHDOG_USEC", "")
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()) and microseconds.isdecimal():
            self.watchdog_s = int(microseconds) / 1e6

    @property
    def listens(self) -> bool:
        """Whether there is a service manager."""
        return self._socket is not None

    def notify(self, text: bytes) -> None:
        """Send a datagram of NAME=value lines to the service manager."""
        if self._socket is not None:
            try:
                self._socket.sendto(text, self._address)
            except OSError:
                # Its socket is full, or it is just starting again; it must not be waited for.
                return

    def say(self, text: str) -> None:
        """Write a line for people."""
        line = f"procd: keeper: {text}\n".encode(errors="replace")[:MOST_LINE_BYTES]
        try:
            if stat.S_ISREG(os.fstat(2).st_mode):
                # A file system can stand still, and poll(2) does not tell: let somebody else wait for it.
                self._write_elsewhere(line)
                return
            poll = select.poll()
            poll.register(2, select.POLLOUT)
            if any(events & select.POLLOUT for _, events in poll.poll(0)):
                os.write(2, line)
        except OSError:
            # Nobody can be told that nobody can be told.
            return

    def complain(self, error: Exception) -> None:
        """Write a line about an error of our own, and where it happened."""
        at, trace = "", error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename.rpartition("/")[2]
            at, trace = f"{at} {name}:{trace.tb_lineno}", trace.tb_next
        self.say(f"{type(error).__name__}: {error}; at{at}")

    def _write_elsewhere(self, line: bytes) -> None:
        if len(self._writers) >= MOST_WRITERS:
            return
        pid = os.fork()
        if pid == 0:
            try:
                os.write(2, line)
            finally:
                os._exit(0)
        self._writers.add(pid)

    def reaped(self, pid: int) -> bool:
        """A child was reaped: whether it was ours."""
        if pid not in self._writers:
            return False
        self._writers.remove(pid)
        return True
