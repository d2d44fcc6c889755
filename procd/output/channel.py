"""The logger as the daemon has it: a process that is started, spoken to, and started again when it dies.

Owns the channel and the turns in which it is written to and read.  Whatever the logger does, or does not,
nothing here waits for it.  Must not know what is said.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog

from procd.errors import SpawnError
from procd.output import messages

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

log = structlog.get_logger()

#: Messages that are sent, and heard, before the loop gets its turn.
TURN_MESSAGES = 128
#: A logger that dies within so many seconds of being ready, or before, has died young.
YOUNG_S = 0.25
#: Seconds before it is started again when that has happened twice in a row; doubled with each further time.
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 2.0
#: Seconds after which a send is tried again that the kernel had no room for.
RETRY_S = 0.1

#: The kernel has no room: for descriptors that are on their way (unix(7)), or for anything.
_SHORTAGES = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})


class Child(Protocol):
    """A logger process.  One that `stays` goes on when it has closed everything: it is another's child."""

    stays: bool

    @property
    def pid(self) -> int:
        """Its PID, as long as it was not reaped."""

    def kill(self) -> None:
        """End it at once; harmless when it has ended."""


class Starter(Protocol):
    """Starts a logger with this descriptor as its channel; `on_end` hears, from the loop, how it has ended.

    Raises SpawnError.
    """

    def __call__(self, channel: int, on_end: Callable[[str], None]) -> Child:
        """Start one."""


class Parcel(NamedTuple):
    """A message with its descriptors, and what is called as soon as it was sent."""

    message: list[Any]
    fds: tuple[int, ...] = ()
    sent: Callable[[], None] | None = None


class Speaker(Protocol):
    """Who has something to say to the logger."""

    def begin_conversation(self) -> None:
        """A new logger is there, and knows nothing: everything is to be said to it."""

    def next_parcel(self) -> Parcel | None:
        """What is to be said next; the same again as long as it was not sent."""

    def hear(self, message: list[Any]) -> None:
        """What the logger says."""

    def gone(self, reason: str) -> None:
        """The logger has ended, and another will be started."""


class Channel:
    """Keeps a logger running from `open` to `release`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: Starter, speaker: Speaker) -> None:
        self._loop = loop
        self._start = start
        self._speaker = speaker
        self._socket: socket.socket | None = None
        self._child: Child | None = None
        self._ready_s: float | None = None
        self._young = 0
        self._timer: asyncio.TimerHandle | None = None
        self._flushes = self._released = False
        #: A logger was wanted.
        self.is_open = False
        #: No other one is started when this one ends.
        self.is_last = False
        #: Called when the last one has ended.
        self.on_last_end: Callable[[], None] | None = None

    @property
    def pid(self) -> int | None:
        """The PID of the logger; None while there is none."""
        return None if self._child is None else self._child.pid

    def open(self) -> None:
        """Start a logger; if that is not possible now, it is tried again."""
        self.is_open = True
        self._timer = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._ready_s = None
        try:
            with theirs:
                self._child = self._start(theirs.fileno(), self._ended)
        except SpawnError as error:
            ours.close()
            log.error("logger cannot be started", reason=str(error))  # noqa: TRY400 - a traceback tells nobody anything
            self._again()
            return
        self._socket = ours
        self._loop.add_reader(ours, self._listen)
        self._speaker.begin_conversation()
        self.flush()

    def ready(self) -> None:
        """Take note that the logger has begun its work."""
        self._ready_s = self._loop.time()

    def flush_soon(self) -> None:
        """`flush` when what is being done is done: to wake the logger takes time, and nobody waits for it."""
        if not self._flushes and self._socket is not None:
            self._flushes = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Say what is to be said, as far as the logger takes it; the rest follows by itself."""
        self._flushes = False
        channel = self._socket
        if channel is None:
            return
        for _ in range(TURN_MESSAGES):
            parcel = self._speaker.next_parcel()
            if parcel is None:
                self._loop.remove_writer(channel)
                return
            try:
                messages.send(channel, parcel.message, parcel.fds)
            except BlockingIOError:
                break
            except ConnectionError:
                # Its death is on its way to us.
                self._loop.remove_writer(channel)
                return
            except OSError as error:
                if error.errno not in _SHORTAGES:
                    raise
                self._loop.remove_writer(channel)
                self._loop.call_later(RETRY_S, self.flush)
                return
            if parcel.sent is not None:
                parcel.sent()
        self._loop.add_writer(channel, self.flush)

    def _listen(self) -> None:
        channel = self._socket
        for _ in range(TURN_MESSAGES):
            if channel is None or channel is not self._socket:
                return
            try:
                received = messages.receive(channel)
            except BlockingIOError:
                return
            if received is None:
                self._loop.remove_reader(channel)
                if self._child is not None and not self.is_last:
                    # Whatever it still does, nobody can speak to it any more.
                    self._child.kill()
                return
            self._speaker.hear(received[0])

    def closed(self) -> None:
        """The logger has closed everything, and says nothing more."""
        self.is_last = True
        if self._child is not None and self._child.stays:
            self._ended("has closed everything")

    def _ended(self, how: str) -> None:
        """The logger was reaped: hear what it has said, and start another."""
        if self._released:
            return
        # First: among what it has said may be that it has closed everything.
        self._child = None
        if self._socket is not None:
            self._hear_out(self._socket)
            self._close_socket()
        if self.is_last:
            if self.on_last_end is not None:
                self.on_last_end()
            return
        log.warning("logger has ended and is started again", reason=how)
        self._speaker.gone(how)
        self._again()

    def _hear_out(self, channel: socket.socket) -> None:
        while True:
            try:
                received = messages.receive(channel)
            except BlockingIOError:
                return
            if received is None:
                return
            self._speaker.hear(received[0])

    def _again(self) -> None:
        if self._ready_s is not None and self._loop.time() - self._ready_s >= YOUNG_S:
            self._young = 0
        self._young += 1
        delay_s = min(FIRST_DELAY_S * 2 ** (self._young - 2), LONGEST_DELAY_S) if self._young > 1 else 0.0
        self._timer = self._loop.call_later(delay_s, self.open)

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def release(self) -> None:
        """Speak and listen no more; a logger that still runs goes on until its pipes have ended."""
        self._released = True
        if self._timer is not None:
            self._timer.cancel()
        self._close_socket()
