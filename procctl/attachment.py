"""Being attached to a program: what is typed goes in, what it writes comes out, until one side has enough.

Owns the waiting for both at once, and the pace: no more is read from the keyboard than the program takes.
What the bytes look like on the way out, and the modes of the terminal, it must not know.
"""

from __future__ import annotations

import os
import select
import signal
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from procctl.client import STREAM_DATA, STREAM_END, STREAM_GAP, Client
from procctl.dialogue import part_of, result_of
from procd.errors import Refusal, RemoteProtocolError
from procd.wire import MAX_CHUNK_BYTES, Notification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType
    from typing import Self

    from procctl.detach_keys import DetachKeys
    from procctl.log_output import Output
    from procd.wire import Response

#: Typed and not yet taken by the program: beyond it the keyboard is not read, nor the keys to detach seen.
MOST_TYPED = 1 << 20
#: Seconds that the program gets to take what was typed before the keys that detach.
LEAVE_S = 1.0

_INTERRUPT = b"\x03"


class Line(Client):
    """A connection that is waited for together with others, and read when it is ready."""

    def fileno(self) -> int:
        """Say what to wait for."""
        return self._connected().fileno()

    def came(self) -> Iterator[Notification | Response]:
        """Read once, and give the messages that are complete; raises as `Client.notifications` does."""
        chunk = self._receive(0.0)
        if chunk is None:
            return
        if not chunk:
            self._lost("")
        self._dialogue.feed(chunk)
        yield from self._complete()

    def kept(self) -> Iterator[Notification | Response]:
        """Give what came with earlier answers, before and behind them; to be taken before `came`."""
        while self._notifications:
            yield self._notifications.popleft()
        yield from self._complete()

    def _complete(self) -> Iterator[Notification | Response]:
        while True:
            try:
                message = self._dialogue.next()
            except RemoteProtocolError as violation:
                self._refuse_peer(str(violation))
            if message is None:
                return
            yield message


class Signalled(BaseException):
    """A signal asks procctl to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """The signals that matter to somebody who has changed a terminal, as a descriptor and a queue.

    An ending one that comes while a terminal takes our output, perhaps never, is raised there.
    """

    ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    OTHERS = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)

    def __init__(self) -> None:
        self.queue: deque[int] = deque()
        self.writing = False
        self._before: dict[int, Any] = {}
        self._told, self._tell = -1, -1

    def __enter__(self) -> Self:
        self._told, self._tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (*self.ENDING, *self.OTHERS):
            # Who started us with a signal ignored (nohup) means it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        os.close(self._told)
        os.close(self._tell)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.writing and number in self.ENDING:
            raise Signalled(number)
        self.queue.append(number)
        # A full pipe wakes as well as one more byte.
        if len(self.queue) == 1:
            os.write(self._tell, b"!")

    def fileno(self) -> int:
        """Say what to wait for."""
        return self._told

    def take(self) -> Iterator[int]:
        """Give what came, in order; raises Signalled for an ending one."""
        os.read(self._told, 64)
        while self.queue:
            number = self.queue.popleft()
            if number in self.ENDING:
                raise Signalled(number)
            yield number


class Ending(NamedTuple):
    """How it ended: `detached` by the keys; or with what the daemon said of the program's end."""

    detached: bool
    reason: str = ""
    ok: bool = True
    exit: dict[str, Any] | None = None


class Attachment:
    """One attachment, from the answer that opened it to its end.

    `typed` is the descriptor of the keyboard, None without one.  `on_signal` is told SIGWINCH, SIGTSTP and
    SIGCONT.  `say` tells the person something.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        line: Line,
        program: str,
        stream: int,
        output: Output,
        *,
        typed: int | None,
        keys: DetachKeys,
        on_signal: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        self._line = line
        self._program = program
        self._stream = stream
        self._output = output
        self._typed = typed
        self._keys = keys
        self._on_signal = on_signal
        self._say = say
        #: Typed, and not yet sent.
        self._waiting = bytearray()
        self._write: int | None = None
        #: The program takes nothing: who types can only leave.
        self._refused = False
        #: When the patience with what is still to be taken is over, for who is about to leave.
        self._leaves_at: float | None = None
        self._ending: Ending | None = None

    def run(self, signals: Signals) -> Ending:
        """Carry bytes both ways until it ends.

        Raises Signalled, Unreachable, the Refusal of a daemon that ends, and OSError of the own output.
        """
        self._take_all(self._line.kept(), signals)
        while self._ending is None:
            for fd in self._wait(signals):
                if fd == signals.fileno():
                    for number in signals.take():
                        self._on_signal(number)
                elif fd == self._line.fileno():
                    self._take_all(self._line.came(), signals)
                elif self._leaves_at is None:
                    self._read_keyboard()
            self._leave_in_time()
        return self._ending

    def _wait(self, signals: Signals) -> list[int]:
        poll = select.poll()
        poll.register(signals.fileno(), select.POLLIN)
        poll.register(self._line.fileno(), select.POLLIN)
        if self._leaves_at is not None:
            left_ms = max(0.0, self._leaves_at - monotonic()) * 1000
            return [fd for fd, _ in poll.poll(left_ms)]
        if self._typed is not None and len(self._waiting) < MOST_TYPED:
            poll.register(self._typed, select.POLLIN)
        return [fd for fd, _ in poll.poll()]

    def _leave_in_time(self) -> None:
        """Be detached, if that was asked for, and what was typed before is in."""
        if self._leaves_at is None or self._ending is not None:
            return
        if monotonic() >= self._leaves_at or (self._write is None and not self._waiting):
            self._ending = Ending(detached=True)

    # In

    def _read_keyboard(self) -> None:
        assert self._typed is not None, "only then it is waited for"  # noqa: S101
        try:
            data = os.read(self._typed, min(MAX_CHUNK_BYTES, MOST_TYPED - len(self._waiting)))
        except OSError:
            data = b""  # EIO: the terminal is gone, or is not ours any more
        if not data:
            self._typed = None
            return
        passed, detached = self._keys.feed(data)
        if self._refused:
            detached = detached or _INTERRUPT in passed
        else:
            self._waiting += passed
            self._send()
        if detached:
            self._leaves_at = monotonic() + LEAVE_S

    def _send(self) -> None:
        """Send what waits, if nothing is under way: the answer to one write is the pace of the next."""
        if self._waiting and self._write is None:
            data = bytes(self._waiting[:MAX_CHUNK_BYTES])
            del self._waiting[:MAX_CHUNK_BYTES]
            self._write = self._line.begin("write", program=self._program, data=data)

    # Out

    def _take_all(self, messages: Iterator[Notification | Response], signals: Signals) -> None:
        """Take messages until the end of the stream: behind it may be the daemon's own, which is an error."""
        for message in messages:
            self._take(message, signals)
            if self._ending is not None:
                return

    def _take(self, message: Notification | Response, signals: Signals) -> None:
        if not isinstance(message, Notification):
            self._answered(message)
            return
        part = part_of(message, self._stream)
        if part is None:
            return
        kind, body = part
        signals.writing = True
        try:
            if kind == STREAM_DATA:
                self._output.data(body["offset"], body["data"])
            elif kind == STREAM_GAP:
                self._output.gap(body["bytes"], body["reason"])
        finally:
            signals.writing = False
        if kind == STREAM_END:
            reason, ok = str(body.get("reason", "")), bool(body.get("ok", False))
            self._ending = Ending(detached=False, reason=reason, ok=ok, exit=body.get("exit"))

    def _answered(self, answer: Response) -> None:
        if answer.id != self._write:
            return  # that of a resize: there is nobody to tell that a terminal was gone before it
        self._write = None
        try:
            result_of(answer)
        except Refusal as refusal:
            self._stop_typing(str(refusal))
        self._send()

    def _stop_typing(self, why: str) -> None:
        self._waiting.clear()
        if self._refused:
            return
        self._refused = True
        if self._typed is not None and not os.isatty(self._typed):
            self._typed = None
        self._say(f"{why}; what is typed goes nowhere now")
