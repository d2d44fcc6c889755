"""The connection: who may say what, what is held of a half frame, and what a violation leaves behind."""

from __future__ import annotations

import msgpack
import pytest

from procd.errors import LocalProtocolError, RemoteProtocolError
from procd.wire import (
    MAX_CHUNK_BYTES,
    MAX_METHOD_LENGTH,
    MAX_REQUEST_ID,
    REPLY_LIMITS,
    REQUEST_LIMITS,
    Connection,
    Message,
    Notification,
    Request,
    Response,
)


def daemon_receives(frame: object) -> list[Message]:
    """What the daemon's end makes of a frame that was not encoded by us."""
    return list(Connection.of_daemon().receive(msgpack.packb(frame)))


def client_receives(frame: object) -> list[Message]:
    """What a client's end makes of a frame that was not encoded by us."""
    return list(Connection.of_client().receive(msgpack.packb(frame)))


def test_a_request_and_its_response_cross_the_wire() -> None:
    """Text stays text and bytes stay bytes, in both directions."""
    daemon, client = Connection.of_daemon(), Connection.of_client()
    request = Request(7, "write", {"program": "wéb", "data": b"\x00\xff"})
    assert list(daemon.receive(client.send(request))) == [request]
    response = Response(7, None, {"accepted": 2})
    assert list(client.receive(daemon.send(response))) == [response]


def test_the_frames_are_those_of_messagepack_rpc() -> None:
    """Any MessagePack-RPC library can speak to procd."""
    daemon, client = Connection.of_daemon(), Connection.of_client()
    assert msgpack.unpackb(client.send(Request(1, "status", {}))) == [0, 1, "status", [{}]]
    assert msgpack.unpackb(daemon.send(Response(1, {"code": "FAILED"}, None))) == [
        1,
        1,
        {"code": "FAILED"},
        None,
    ]
    assert msgpack.unpackb(daemon.send(Notification("stream.end", [3, {}]))) == [2, "stream.end", [3, {}]]


def test_text_may_hold_any_character() -> None:
    """NUL, control characters and what lies beyond the basic plane are data like any other."""
    text = "\x00\x1b[31m\n\u2028\U0001f600"
    client = Connection.of_client()
    (message,) = Connection.of_daemon().receive(client.send(Request(0, "echo", {text: text})))
    assert message == Request(0, "echo", {text: text})


def test_messages_that_were_not_taken_come_first_next_time() -> None:
    """An iterator that is given up loses nothing: its owner may stop in order to work first."""
    daemon, client = Connection.of_daemon(), Connection.of_client()
    one, two, three = (Request(number, "status", {}) for number in range(3))
    assert next(daemon.receive(client.send(one) + client.send(two))) == one
    assert list(daemon.receive(client.send(three))) == [two, three]


def test_a_half_frame_is_visible_until_its_end() -> None:
    """So its owner can set a time for the rest of it."""
    daemon = Connection.of_daemon()
    frame = Connection.of_client().send(Request(1, "status", {}))
    assert daemon.half_frame_bytes == 0
    assert list(daemon.receive(frame[:5])) == []
    assert daemon.half_frame_bytes == 5
    assert len(list(daemon.receive(frame[5:] + frame[:3]))) == 1
    assert daemon.half_frame_bytes == 3


def test_an_end_between_frames_is_no_violation() -> None:
    """A peer may leave when it has nothing more to say, and only then."""
    daemon = Connection.of_daemon()
    frame = Connection.of_client().send(Request(1, "status", {}))
    list(daemon.receive(frame))
    daemon.receive_end()
    list(daemon.receive(frame[:4]))
    with pytest.raises(RemoteProtocolError, match="ended after 4 bytes of a frame"):
        daemon.receive_end()


def test_messages_before_a_violation_are_given_and_the_violation_stays() -> None:
    """What was said correctly is heard, nothing after the violation is, and no byte of it is held."""
    daemon = Connection.of_daemon()
    good = Request(1, "status", {})
    messages = daemon.receive(Connection.of_client().send(good) + b"\x00" + bytes(100))
    assert next(messages) == good
    with pytest.raises(RemoteProtocolError, match="no message: 0"):
        next(messages)
    assert daemon.half_frame_bytes == 0
    with pytest.raises(RemoteProtocolError, match="no message: 0"):
        list(daemon.receive(Connection.of_client().send(good)))


def test_a_half_frame_never_holds_more_than_the_bound() -> None:
    """An endless frame of small values is refused when it passes the bound, not when memory ends."""
    daemon = Connection.of_daemon()
    list(daemon.receive(b"\x94\x00\x01\xa1x\xdc\x20\x00"))
    piece = bytes([0xD9, 250]) + b"x" * 250
    while daemon.half_frame_bytes + len(piece) <= REQUEST_LIMITS.frame_bytes:
        assert list(daemon.receive(piece)) == []
    with pytest.raises(RemoteProtocolError, match="frame of more than 262144 bytes"):
        list(daemon.receive(piece))
    assert daemon.half_frame_bytes == 0


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        pytest.param(5, "no message: 5", id="a number"),
        pytest.param({}, "no message: a map of 0", id="a map"),
        pytest.param([], "no message: an array of 0", id="an empty array"),
        pytest.param([0, 1, "status"], "no message: an array of 3", id="a request without parameters"),
        pytest.param([3, 1, "status", [{}]], "no message", id="an unknown kind"),
        pytest.param([False, 1, "status", [{}]], "no message", id="false is not the kind 0"),
        pytest.param([0.0, 1, "status", [{}]], "no message", id="0.0 is not the kind 0"),
        pytest.param([0, -1, "status", [{}]], "no 32-bit unsigned integer: -1", id="a negative id"),
        pytest.param([0, 2**32, "status", [{}]], "no 32-bit unsigned integer", id="an id beyond 32 bits"),
        pytest.param([0, True, "status", [{}]], "no 32-bit unsigned integer: True", id="an id that is true"),
        pytest.param([0, "1", "status", [{}]], "no 32-bit unsigned integer: '1'", id="an id of text"),
        pytest.param(
            [0, 1, b"status", [{}]], "no name of 1 to 64 characters: b'status'", id="a method of bytes"
        ),
        pytest.param([0, 1, "", [{}]], "no name of 1 to 64 characters: ''", id="a method without a name"),
        pytest.param([0, 1, "x" * 65, [{}]], "no name of 1 to 64 characters", id="an endless method"),
        pytest.param([0, 1, "status", []], "other than one map: an array of 0", id="no parameter"),
        pytest.param([0, 1, "status", [{}, {}]], "other than one map: an array of 2", id="two parameters"),
        pytest.param([0, 1, "status", ["web"]], "other than one map", id="a parameter that is no map"),
        pytest.param([0, 1, "status", {}], "other than one map: a map of 0", id="parameters that are no array"),
        pytest.param(
            [1, 1, None, None], "a response, which is not for this side", id="a response to the daemon"
        ),
        pytest.param(
            [2, "x", []], "a notification, which is not for this side", id="a notification to the daemon"
        ),
    ],
)
def test_the_daemon_refuses_what_is_no_request(frame: object, complaint: str) -> None:
    """The complaint names the part that is at fault, briefly."""
    with pytest.raises(RemoteProtocolError, match=complaint):
        daemon_receives(frame)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        pytest.param([0, 1, "status", [{}]], "a request, which is not for this side", id="a request"),
        pytest.param([1, 1, {"code": "FAILED"}, {}], "no message", id="an error and a result"),
        pytest.param([1, -1, None, None], "no 32-bit unsigned integer", id="an id that was never used"),
        pytest.param([2, "stream.data", {}], "no message", id="parameters that are no array"),
        pytest.param([2, None, []], "no name of 1 to 64 characters: None", id="no method"),
    ],
)
def test_a_client_refuses_what_is_no_answer(frame: object, complaint: str) -> None:
    """A daemon that does not speak the protocol is told from one that refuses."""
    with pytest.raises(RemoteProtocolError, match=complaint):
        client_receives(frame)


def test_the_last_id_and_the_longest_method_are_accepted() -> None:
    """The bounds belong to what is allowed."""
    (message,) = daemon_receives([0, MAX_REQUEST_ID, "m" * MAX_METHOD_LENGTH, [{}]])
    assert message == Request(MAX_REQUEST_ID, "m" * MAX_METHOD_LENGTH, {})


def test_a_key_that_comes_twice_is_refused() -> None:
    """Otherwise two readers could see two requests in the same bytes, whatever way the keys are encoded."""
    twice = b"\x94\x00\x01\xa1x\x91\x82" + b"\xa1a\x01" + b"\xd9\x01a\x02"
    with pytest.raises(RemoteProtocolError, match="same key twice"):
        list(Connection.of_daemon().receive(twice))


def test_text_that_is_not_utf8_is_refused() -> None:
    """Bytes travel as binary; what is called text can be shown."""
    with pytest.raises(RemoteProtocolError, match="not UTF-8"):
        list(Connection.of_daemon().receive(b"\x94\x00\x01\xa1\xff\x91\x80"))


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        pytest.param(Response(1, None, None), "a response is not sent in this direction", id="direction"),
        pytest.param(Request(-1, "x", {}), "no 32-bit unsigned integer", id="id"),
        pytest.param(Request(1, "", {}), "no name", id="method"),
        pytest.param(Request(1, "x", []), "other than one map", id="params"),  # type: ignore[arg-type]
        pytest.param(Request(1, "x", {"a": object()}), "serialize", id="a type without an encoding"),
        pytest.param(Request(1, "x", {"a": 2**64}), "out of range|too big", id="a number beyond 64 bits"),
        pytest.param(Request(1, "x", {"a": "\udcff"}), "surrogates", id="a lone surrogate"),
        pytest.param(Request(1, "x", {1: 2}), "key of a map", id="a key that is no text"),  # type: ignore[dict-item]
        pytest.param(Request(1, "x", {"a": bytes(MAX_CHUNK_BYTES + 1)}), "65537 bytes of binary", id="chunk"),
    ],
)
def test_what_the_peer_would_refuse_is_not_sent(message: Message, complaint: str) -> None:
    """A mistake of ours is found where it is made, not on the other side."""
    with pytest.raises(LocalProtocolError, match=complaint):
        Connection.of_client().send(message)


def test_a_reply_that_is_too_large_is_not_sent() -> None:
    """The one bound that what the daemon says could pass by itself: a client would hang up on it."""
    chunks = [bytes(MAX_CHUNK_BYTES)] * (REPLY_LIMITS.frame_bytes // MAX_CHUNK_BYTES)
    with pytest.raises(LocalProtocolError, match="a frame of 16778"):
        Connection.of_daemon().send(Response(1, None, chunks))
    with pytest.raises(LocalProtocolError, match="surrogates"):
        Connection.of_daemon().send(Response(1, None, "\udcff"))


def test_a_full_chunk_can_be_sent() -> None:
    """The bound of a chunk is a chunk that passes, with room for the request around it."""
    request = Request(MAX_REQUEST_ID, "write", {"program": "x" * 64, "data": bytes(MAX_CHUNK_BYTES)})
    assert list(Connection.of_daemon().receive(Connection.of_client().send(request))) == [request]
