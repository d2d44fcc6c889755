"""The three messages of MessagePack-RPC.

Owns their shapes: a request is `[0, id, method, [params]]`, a response `[1, id, error, result]`, a
notification `[2, method, params]` (github.com/msgpack-rpc/msgpack-rpc/blob/master/spec.md).  procd narrows
the request: exactly one parameter, a map.  It must not know bytes, methods or what an answer means.

They are `Value`s, because everybody who starts procctl waits for what it imports.
"""

from __future__ import annotations

from procd.errors import RemoteProtocolError
from procd.value import Value
from procd.wire.limits import MAX_METHOD_LENGTH, MAX_REQUEST_ID

TYPE_CHECKING = False  # not from typing: see procd.value
if TYPE_CHECKING:
    from typing import Any, TypeAlias

_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2


class Request(Value):
    """A method to be called; its answer is the response with the same id."""

    __slots__ = __match_args__ = ("id", "method", "params")

    def __init__(self, id: int, method: str, params: dict[str, Any]) -> None:  # noqa: A002 - the protocol's word
        self.id = id
        self.method = method
        self.params = params


class Response(Value):
    """The answer to the request with this id: of `error` and `result`, one is None at least."""

    __slots__ = __match_args__ = ("id", "error", "result")

    def __init__(self, id: int, error: Any, result: Any) -> None:  # noqa: A002, ANN401 - the protocol's word and values
        self.id = id
        self.error = error
        self.result = result


class Notification(Value):
    """Something that nobody answers, such as a piece of a stream."""

    __slots__ = __match_args__ = ("method", "params")

    def __init__(self, method: str, params: list[Any]) -> None:
        self.method = method
        self.params = params


Message: TypeAlias = Request | Response | Notification


def to_array(message: Message) -> list[Any]:
    """The array that stands for `message` on the wire."""
    match message:
        case Request(request_id, method, params):
            return [_REQUEST, request_id, method, [params]]
        case Response(request_id, error, result):
            return [_RESPONSE, request_id, error, result]
        case Notification(method, params):
            return [_NOTIFICATION, method, params]


def from_array(frame: object) -> Message:
    """The message that a decoded frame is.

    Raises RemoteProtocolError, naming the part at fault, when it is none.
    """
    # Of the type of the first element there must be no doubt: False and 0.0 match the pattern 0 as well.
    if not isinstance(frame, list) or not frame or type(frame[0]) is not int:
        raise _violation("a frame that is no message", frame)
    match frame:
        case [0, request_id, method, params]:
            return Request(_checked_id(request_id), _checked_method(method), _checked_params(params))
        case [1, request_id, error, result] if error is None or result is None:
            return Response(_checked_id(request_id), error, result)
        case [2, method, list(params)]:
            return Notification(_checked_method(method), params)
        case _:
            raise _violation("a frame that is no message", frame)


def _checked_id(request_id: object) -> int:
    if type(request_id) is not int or not 0 <= request_id <= MAX_REQUEST_ID:
        raise _violation("an id that is no 32-bit unsigned integer", request_id)
    return request_id


def _checked_method(method: object) -> str:
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_LENGTH:
        raise _violation(f"a method that is no name of 1 to {MAX_METHOD_LENGTH} characters", method)
    return method


def _checked_params(params: object) -> dict[str, Any]:
    match params:
        case [dict(only)]:
            return only
        case _:
            raise _violation("a request with parameters other than one map", params)


def _violation(what: str, value: object) -> RemoteProtocolError:
    return RemoteProtocolError(f"{what}: {_brief(value)}")


def _brief(value: object) -> str:
    """Enough of a value to recognise it by; what the peer sent may be long and is not repeated."""
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return f"a map of {len(value)}"
    return ascii(value[:40] if isinstance(value, str | bytes) else value)
