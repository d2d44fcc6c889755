"""A blocking client of procd.

Owns one connection: when it is opened, how long an answer may take, how streams share it with calls.  What a
method takes and gives stands in `procctl.questions`; `call` sends and gives the maps that travel on the wire.

    with Client(timeout_s=10) as client:
        for record in client.status():
            print(record.name, record.state)
"""

from __future__ import annotations

import errno
from collections import deque
from time import monotonic

from procctl.absence import gave_up, lost, stranger
from procctl.blocking import Methods
from procctl.dialogue import (
    PROTOCOL,
    STREAM_DATA,
    STREAM_END,
    STREAM_GAP,
    Dialogue,
    opened_stream,
    part_of,
    result_of,
)
from procctl.where import LocalSocket, find_socket
from procd.errors import Refusal, RemoteProtocolError, Unreachable
from procd.wire import Notification

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from procctl.questions import Question, T
    from procctl.where import Way
    from procd.wire import Response

__all__ = [
    "STREAM_DATA",
    "STREAM_END",
    "STREAM_GAP",
    "Client",
    "Stream",
]

RECEIVE_BYTES = 256 * 1024
"""At most what one recv takes: a few full chunks of a log, and less than a system call for each."""

SHORTEST_WAIT_S = 0.001
"""What a timeout of 0 means: a socket with settimeout(0) would not wait even for its own buffer."""

ANSWER_GRACE_S = 2.0
"""How much longer than the daemon we wait where it keeps the time itself: its answer knows more than ours."""

_PEER_LEFT = frozenset({errno.EPIPE, errno.ECONNRESET})
"""What a send to a socket says that the other side has closed."""


class Client(Methods):
    """One connection to a daemon, opened by the first call and closed at the end of the `with`.

    `timeout_s` is how long one answer may take (None: for ever).  After an Unreachable or a TimedOut of its own
    the connection is closed, and the next call opens another.  `host` is asked by ssh, as `procctl -H` does.
    `reconnect_s` is how long a stream of `logs` or `events` waits for a daemon that is gone (None: for ever).

    Each connection begins with the agreement on a version of the protocol.  Without `agree` there is none, nor
    the time that it takes: whoever asks one thing and leaves relies on the daemon's refusal.
    """

    def __init__(
        self,
        socket_path: str | None = None,
        timeout_s: float | None = None,
        *,
        host: str | None = None,
        reconnect_s: float | None = 60.0,
        agree: bool = True,
    ) -> None:
        self.socket_path = socket_path
        self.host = host
        self.timeout_s = timeout_s
        self.reconnect_s = reconnect_s
        self._agree = agree
        self._way: Way = _way(host, socket_path)
        self._socket: socket.socket | None = None
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def where(self) -> str:
        """What is connected to, in words."""
        return self._way.where

    def close(self) -> None:
        """Leave; requests that were not answered may still be carried out."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._way.leave()
        self._forget()

    def another(self) -> Client:
        """A client of the same daemon with a connection of its own, as each stream has one."""
        return Client(
            self.socket_path,
            self.timeout_s,
            host=self.host,
            reconnect_s=self.reconnect_s,
            agree=self._agree,
        )

    def ask(self, question: Question[T]) -> T:
        """The typed answer to a question; raises like `call`.

        Where the daemon keeps the time itself it is given a moment longer than that.
        """
        patience_s = self.timeout_s
        if question.takes_s is not None:
            patience_s = question.takes_s + ANSWER_GRACE_S
        return question.read(self.finish(self.begin(question.method, **question.params), patience_s))

    def call(self, method: str, /, **params: Any) -> Any:  # noqa: ANN401 - what travels on the wire
        """The result of a method.

        Raises the Refusal that the daemon answers, TimedOut when it does not answer in time, and Unreachable
        when nobody answers (any more); why is in the message, what to do in `__notes__`.
        """
        return self.finish(self.begin(method, **params))

    def begin(self, method: str, /, **params: Any) -> int:  # noqa: ANN401 - what travels on the wire
        """Send a request and do not wait: its id, for `finish`.

        The daemon takes the requests of a connection in their order, so a few may be on their way at once.
        """
        connected = self._connected()
        request_id, frame = self._dialogue.begin(method, params)
        deed = self._dialogue.deed(request_id)
        try:
            connected.settimeout(None if self.timeout_s is None else max(self.timeout_s, SHORTEST_WAIT_S))
            connected.sendall(frame)
        except TimeoutError:
            self._give_up(deed, self.timeout_s)
        except OSError as error:
            if error.errno not in _PEER_LEFT:
                self._lost(f"({error.strerror or error})")
            # A daemon that ends a connection says why before it closes: read up to that, or to the end.
            while True:
                self._take(None, deed)
        return request_id

    def finish(self, request_id: int, timeout_s: float | None = None) -> Any:  # noqa: ANN401 - what travels on the wire
        """The result of a request that was begun; raises like `call`.

        A `timeout_s` stands for that of the client.
        """
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        if not self.has_answer(request_id, timeout_s):
            self._give_up(self._dialogue.deed(request_id), timeout_s)
        return result_of(self._answers.pop(request_id))

    def has_answer(self, request_id: int, within_s: float | None) -> bool:
        """Whether the answer to a request comes within a time (None: wait for it); it is kept for `finish`."""
        deadline_s = None if within_s is None else monotonic() + within_s
        while request_id not in self._answers:
            if not self._take(deadline_s, self._dialogue.deed(request_id)):
                return False
        return True

    def notifications(self, until: int | None = None) -> Iterator[Notification]:
        """What the daemon sends unasked, as it comes, without a time limit; to the answer to a request at most.

        Raises Unreachable when the daemon leaves.  No more is held in memory than one recv brought, as long as
        no `call` is made while a stream is flowing.
        """
        while True:
            if self._notifications:
                yield self._notifications.popleft()
            elif until in self._answers:
                return
            else:
                self._take(None)

    def stream(self, method: str, /, **params: Any) -> Stream:  # noqa: ANN401 - what travels on the wire
        """Call a method that answers with a stream, on this connection; raises like `call`."""
        return self.stream_of(self.call(method, **params))

    def stream_of(self, answer: object) -> Stream:
        """The stream that an answer has opened on this connection."""
        try:
            return Stream(self, opened_stream(answer))
        except RemoteProtocolError as violation:
            self._refuse_peer(str(violation))

    def wait_for_end(self, waited_s: float = 0.0) -> None:
        """Return when the daemon has closed the connection, as it does when it ends.

        Raises TimedOut when it does not within `timeout_s`, of which `waited_s` are over.
        """
        if not self.has_ended(None if self.timeout_s is None else max(0.0, self.timeout_s - waited_s)):
            self._give_up("end", self.timeout_s)

    def has_ended(self, within_s: float | None) -> bool:
        """Whether the daemon closes the connection within a time (None: wait for it).

        Nothing more can be asked on this connection: what comes on it is not kept.
        """
        deadline_s = None if within_s is None else monotonic() + within_s
        try:
            chunk = self._receive(deadline_s)
            while chunk:
                chunk = self._receive(deadline_s)
        except Unreachable:
            return True  # it ended without the courtesy of a close
        if chunk is None:
            return False
        self.close()
        return True

    def _forget(self) -> None:
        self._dialogue = Dialogue()
        self._answers: dict[int, Response] = {}
        self._notifications: deque[Notification] = deque()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._way.connect(self.timeout_s)
            if self._agree:
                self._agree_on_protocol()
        return self._socket

    def _agree_on_protocol(self) -> None:
        # Before anything else is asked: a daemon that does not speak our version must carry out nothing.
        try:
            self.call("hello", protocol=PROTOCOL)
        except Refusal:
            self.close()
            raise

    def _take(self, deadline_s: float | None, deed: str = "") -> bool:
        """Put the next message where it belongs; False when the deadline comes first."""
        while True:
            try:
                message = self._dialogue.next()
            except RemoteProtocolError as violation:
                self._refuse_peer(str(violation))
            except Refusal:
                self.close()
                raise
            if message is not None:
                break
            chunk = self._receive(deadline_s)
            if chunk is None:
                return False
            if not chunk:
                self._lost(f"and did not {deed}" if deed else "")
            self._dialogue.feed(chunk)
        if isinstance(message, Notification):
            self._notifications.append(message)
        else:
            self._answers[message.id] = message
        return True

    def _receive(self, deadline_s: float | None) -> bytes | None:
        """What has come, nothing at the end of the connection, None at the deadline."""
        connected = self._connected()
        try:
            connected.settimeout(None if deadline_s is None else max(deadline_s - monotonic(), SHORTEST_WAIT_S))
            return connected.recv(RECEIVE_BYTES)
        except TimeoutError:
            return None
        except OSError as error:
            self._lost(f"({error.strerror or error})")

    def _give_up(self, deed: str, timeout_s: float | None) -> NoReturn:
        self.close()
        assert timeout_s is not None, "only a socket with a timeout times out"  # noqa: S101
        raise gave_up(deed, timeout_s)

    def _lost(self, how: str) -> NoReturn:
        why = self._way.why_it_ended()
        self.close()
        raise why or lost(self.where, how)

    def _refuse_peer(self, why: str) -> NoReturn:
        self.close()
        raise stranger(self.where, why)


def _way(host: str | None, socket_path: str | None) -> Way:
    if host is None:
        return LocalSocket(find_socket() if socket_path is None else socket_path)
    from procctl.remote import Ssh  # noqa: PLC0415 - it starts programs, and most calls stay on this machine

    return Ssh(host, socket_path)


class Stream:
    """The notifications of one stream, up to its end.

    `answer` is what opened it; `end_reason` is why it ended, once it has been read to its end.
    """

    def __init__(self, client: Client, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.end_reason = ""
        self._client = client

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what comes before the end, as STREAM_DATA or STREAM_GAP and its body."""
        return self.until(None)

    def until(self, request_id: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """The same, and no further than to the answer to a request of the same connection."""
        for notification in self._client.notifications(until=request_id):
            part = part_of(notification, self.answer["stream"])
            if part is not None:
                if part[0] == STREAM_END:
                    self.end_reason = str(part[1].get("reason", ""))
                    return
                yield part
