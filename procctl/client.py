"""A blocking client of procd.

Owns the socket: where it is, who answers on it, how long an answer may take.  It must not know what a method
means, nor how an answer is shown; a script that uses it sees the maps that travel on the wire.

    with Client() as client:
        for record in client.call("status")["programs"]:
            print(record["name"], record["state"])
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, Self

from procd.errors import NotPermitted, Refusal, RemoteProtocolError, TimedOut, Unreachable
from procd.quantities import format_duration
from procd.wire import MAX_REQUEST_ID, Connection, Message, Notification, Request, Response

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

SOCKET_OF_ROOT = "/run/procd/procd.sock"
SOCKET_BELOW_RUNTIME_DIRECTORY = "procd/procd.sock"

RECEIVE_BYTES = 256 * 1024
"""At most what one recv takes: a few full chunks of a log, and less than a system call for each."""

SHORTEST_WAIT_S = 0.001
"""What a timeout of 0 means: a socket with settimeout(0) would not wait even for its own buffer."""

START_HINT = "is procd running? start it with `procd run`, or name its socket with -s or PROCD_SOCKET"
_PEER_LEFT = frozenset({errno.EPIPE, errno.ECONNRESET})
"""What a send to a socket says that the other side has closed."""

STREAM_DATA, STREAM_GAP, STREAM_END = "stream.data", "stream.gap", "stream.end"
CLOSING = "closing"


def find_socket() -> str:
    """The path of the socket where nobody named one: $PROCD_SOCKET, or what INTERFACE says for this user.

    Raises Unreachable where neither the environment nor the user tells.
    """
    named = os.environ.get("PROCD_SOCKET")
    if named:
        return named
    if os.geteuid() == 0:
        return SOCKET_OF_ROOT
    runtime_directory = os.environ.get("XDG_RUNTIME_DIR")
    if runtime_directory:
        return os.path.join(runtime_directory, SOCKET_BELOW_RUNTIME_DIRECTORY)  # noqa: PTH118 - pathlib is slow to import
    raise _unreachable(
        "where procd listens is not known: XDG_RUNTIME_DIR is not set",
        "name the socket with -s or PROCD_SOCKET",
    )


class Client:
    """One connection to a daemon, opened by the first call and closed at the end of the `with`.

    `timeout_s` is how long one answer may take (None: for ever).  After an Unreachable or a TimedOut of its own
    the connection is closed, and the next call opens another.
    """

    _next_id: int

    def __init__(self, socket_path: str | None = None, timeout_s: float | None = None) -> None:
        self.socket_path = find_socket() if socket_path is None else socket_path
        self.timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave; requests that were not answered may still be carried out."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._forget()

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
        request_id = self._next_id
        frame = self._connection.send(Request(request_id, method, params))
        connected = self._connected()
        self._next_id = request_id % MAX_REQUEST_ID + 1
        self._waiting[request_id] = method
        try:
            connected.settimeout(None if self.timeout_s is None else max(self.timeout_s, SHORTEST_WAIT_S))
            connected.sendall(frame)
        except TimeoutError:
            self._give_up(f"answer `{method}`")
        except OSError as error:
            if error.errno not in _PEER_LEFT:
                self._lost(f"({error.strerror or error})")
            # A daemon that ends a connection says why before it closes: read up to that, or to the end.
            while True:
                self._next_message(None, f"answer `{method}`")
        return request_id

    def finish(self, request_id: int) -> Any:  # noqa: ANN401 - what travels on the wire
        """The result of a request that was begun; raises like `call`."""
        deadline_s = None if self.timeout_s is None else monotonic() + self.timeout_s
        while request_id not in self._answers:
            message = self._next_message(deadline_s, f"answer `{self._waiting[request_id]}`")
            if isinstance(message, Notification):
                self._notifications.append(message)
            elif isinstance(message, Response) and message.id in self._waiting:
                self._answers[message.id] = message
            else:
                self._refuse_peer("it answered what was never asked")
        del self._waiting[request_id]
        answer = self._answers.pop(request_id)
        if answer.error is not None:
            raise Refusal.from_wire(answer.error)
        return answer.result

    def notifications(self) -> Iterator[Notification]:
        """What the daemon sends unasked, as it comes, without a time limit.

        Raises Unreachable when the daemon leaves.  No more is held in memory than one recv brought, as long as
        no `call` is made while a stream is flowing.
        """
        while True:
            if self._notifications:
                yield self._notifications.popleft()
                continue
            message = self._next_message(None)
            if not isinstance(message, Notification):
                self._refuse_peer("it answered what was never asked")
            yield message

    def stream(self, method: str, /, **params: Any) -> Stream:  # noqa: ANN401 - what travels on the wire
        """Call a method that answers with a stream; raises like `call`."""
        answer = self.call(method, **params)
        if not isinstance(answer, dict) or "stream" not in answer:
            self._refuse_peer("it answered with a stream that has no id")
        return Stream(self, answer)

    def wait_for_end(self) -> None:
        """Return when the daemon has closed the connection, as it does when it ends.

        Raises TimedOut when it does not within `timeout_s`.
        """
        deadline_s = None if self.timeout_s is None else monotonic() + self.timeout_s
        try:
            while self._receive(deadline_s, "end"):
                pass
        except Unreachable:
            return  # it ended without the courtesy of a close
        self.close()

    def _forget(self) -> None:
        self._connection = Connection.of_client()
        self._incoming: Iterator[Message] = iter(())
        self._next_id = 1
        self._waiting: dict[int, str] = {}
        self._answers: dict[int, Response] = {}
        self._notifications: deque[Notification] = deque()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = _connect(self.socket_path, self.timeout_s)
        return self._socket

    def _next_message(self, deadline_s: float | None, deed: str = "") -> Message:
        while True:
            try:
                message = next(self._incoming, None)
            except RemoteProtocolError as violation:
                self._refuse_peer(str(violation))
            if message is None:
                chunk = self._receive(deadline_s, deed)
                if not chunk:
                    self._lost(f"and did not {deed}" if deed else "")
                self._incoming = self._connection.receive(chunk)
            elif isinstance(message, Notification) and message.method == CLOSING:
                self.close()
                raise Refusal.from_wire(message.params[0] if message.params else None)
            else:
                return message

    def _receive(self, deadline_s: float | None, deed: str) -> bytes:
        connected = self._connected()
        try:
            connected.settimeout(None if deadline_s is None else max(deadline_s - monotonic(), SHORTEST_WAIT_S))
            return connected.recv(RECEIVE_BYTES)
        except TimeoutError:
            self._give_up(deed)
        except OSError as error:
            self._lost(f"({error.strerror or error})")

    def _give_up(self, deed: str) -> NoReturn:
        self.close()
        assert self.timeout_s is not None, "only a socket with a timeout times out"  # noqa: S101
        raise TimedOut(
            f"the daemon did not {deed} within {format_duration(self.timeout_s)}",
            "what was asked for may still happen; look with `procctl status`, or allow more with --timeout",
        )

    def _lost(self, how: str) -> NoReturn:
        self.close()
        message = f"the daemon on {self.socket_path} closed the connection {how}".rstrip()
        raise _unreachable(message, "what was asked for may have happened; look with `procctl status`")

    def _refuse_peer(self, why: str) -> NoReturn:
        self.close()
        raise _unreachable(
            f"what answers on {self.socket_path} does not speak procd's protocol: {why}",
            "name the socket of procd with -s or PROCD_SOCKET",
        )


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
        for notification in self._client.notifications():
            match notification.params:
                case [stream_id, dict(body)] if stream_id == self.answer["stream"]:
                    if notification.method == STREAM_END:
                        self.end_reason = str(body.get("reason", ""))
                        return
                    yield notification.method, body


def _connect(path: str, timeout_s: float | None) -> socket.socket:
    unconnected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if timeout_s is not None:
            # Not settimeout: with that, connect to a full backlog fails at once instead of waiting (unix(7)).
            whole = int(timeout_s)
            limit = struct.pack("@ll", whole, max(int((timeout_s - whole) * 1e6), 1))
            unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        unconnected.connect(path)
    except OSError as error:
        unconnected.close()
        raise _no_connection(path, error, timeout_s) from error
    return unconnected


def _no_connection(path: str, error: OSError, timeout_s: float | None) -> Exception:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return NotPermitted(
            f"you may not connect to {path} ({error.strerror})",
            "run procctl as root, or as the user that procd runs as; who may connect is the mode of the socket",
        )
    if error.errno == errno.EAGAIN and timeout_s is not None:
        return TimedOut(
            f"the daemon on {path} took no connection within {format_duration(timeout_s)}",
            "it is too busy, or stopped; allow more with --timeout",
        )
    return _unreachable(f"no daemon answers on {path} ({error.strerror or error})", START_HINT)


def _unreachable(message: str, hint: str) -> Unreachable:
    error = Unreachable(message)
    error.add_note(hint)
    return error
