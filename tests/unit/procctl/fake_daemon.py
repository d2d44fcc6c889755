"""A daemon without programs: it speaks the protocol on a real socket and answers as a test tells it to."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from procd.errors import Refusal, UnknownMethod
from procd.wire import Connection, Notification, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

BOUND_S = 20.0
"""How long anything here may take before a test is given up."""


class Peer:
    """One connection, as a method of the fake sees it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._connection = Connection.of_daemon()
        self._pending: list[tuple[str, tuple[object, ...]]] = []
        self._asked = 0
        self._later: list[Response] = []

    def notify(self, method: str, *params: object) -> None:
        """Send a notification before the answer, if it is called in a method."""
        self.send_bytes(self._connection.send(Notification(method, list(params))))

    def notify_afterwards(self, method: str, *params: object) -> None:
        """Send a notification behind the answer, as those of a stream come behind its id."""
        self._pending.append((method, params))

    def answer_later(self, result: object) -> object:
        """Answer the present request behind the next that is answered at once; to be returned by a method."""
        self._later.append(Response(self._asked, None, result))
        return SILENCE

    def send_bytes(self, frame: bytes) -> None:
        """Send bytes as they are, right or wrong."""
        self._socket.sendall(frame)

    def hang_up(self) -> None:
        """Close the connection at once."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def serve(self, daemon: FakeDaemon) -> None:
        """Answer until the client leaves."""
        while chunk := self._socket.recv(65536):
            for message in self._connection.receive(chunk):
                assert isinstance(message, Request)
                if self._is_agreement(daemon, message):
                    continue
                daemon.requests.append((message.method, message.params))
                answer = self._answer(daemon, message)
                if answer is not None:
                    self.send_bytes(self._connection.send(answer))
                for method, params in self._pending:
                    self.notify(method, *params)
                self._pending.clear()
                if answer is not None:
                    for late in self._later:
                        self.send_bytes(self._connection.send(late))
                    self._later.clear()

    def _is_agreement(self, daemon: FakeDaemon, request: Request) -> bool:
        """Agree to what a client asks when it connects, where no test wants to answer that itself."""
        if request.method != "hello" or "protocol" not in request.params or daemon.answers_agreement:
            return False
        self.send_bytes(self._connection.send(Response(request.id, None, {"protocol": 1})))
        return True

    def _answer(self, daemon: FakeDaemon, request: Request) -> Response | None:
        method = daemon.methods.get(request.method)
        self._asked = request.id
        try:
            if method is None:
                raise UnknownMethod(f"no method {request.method}")
            result = method(self, request.params)
        except Refusal as refusal:
            return Response(request.id, refusal.to_wire(), None)
        return None if result is SILENCE else Response(request.id, None, result)


SILENCE = object()
"""What a method returns that does not answer."""


class FakeDaemon:
    """Listens on `path`, one thread for each connection; `requests` is what was asked, in order."""

    def __init__(self, path: Path, **methods: Callable[[Peer, dict[str, Any]], Any]) -> None:
        self.path = path
        self.methods = methods
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.connections = 0
        self.answers_agreement = False
        self._peers: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close everything, as a daemon that dies does."""
        for connected in (self._listener, *self._peers):
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was closed before
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(BOUND_S)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return  # the listener was shut down
            self.connections += 1
            self._peers.append(connected)
            thread = threading.Thread(target=self._serve, args=(connected,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connected: socket.socket) -> None:
        with connected:
            try:
                Peer(connected).serve(self)
            except (BrokenPipeError, ConnectionResetError):
                return  # the client left in the middle, which is its right
