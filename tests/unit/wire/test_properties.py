"""What holds for every stream of bytes, cut in any way."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from procd.errors import RemoteProtocolError
from procd.wire import MAX_METHOD_LENGTH, MAX_REQUEST_ID, Connection, Message, Notification, Request, Response

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=300)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(TEXT, inner, max_size=20),
    max_leaves=20,
)
IDS = st.integers(0, MAX_REQUEST_ID)
METHODS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_METHOD_LENGTH)
REQUESTS = st.builds(Request, IDS, METHODS, st.dictionaries(TEXT, VALUES, max_size=3))
ANSWERS = (
    st.builds(Response, IDS, VALUES, st.none())
    | st.builds(Response, IDS, st.none(), VALUES)
    | st.builds(Notification, METHODS, st.lists(VALUES, max_size=3))
)


def shown(messages: list[Message]) -> str:
    """Messages with the types of their values: True is not 1, and -0.0 is not 0.0."""
    return repr(messages)


def received(connection: Connection, chunks: list[bytes]) -> tuple[list[Message], str]:
    """All messages of a stream, and the violation that ended it, if one did."""
    messages: list[Message] = []
    try:
        for chunk in chunks:
            messages.extend(connection.receive(chunk))
    except RemoteProtocolError as violation:
        return messages, str(violation)
    return messages, ""


@st.composite
def cut(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """A stream in pieces."""
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


@given(st.lists(REQUESTS, max_size=3))
def test_requests_survive_the_round_trip(requests: list[Request]) -> None:
    """What a client sends is what the daemon receives."""
    client, daemon = Connection.of_client(), Connection.of_daemon()
    messages = list(daemon.receive(b"".join(map(client.send, requests))))
    assert shown(messages) == shown(list(requests))
    assert daemon.half_frame_bytes == 0


@given(st.lists(ANSWERS, max_size=3))
def test_answers_survive_the_round_trip(answers: list[Message]) -> None:
    """What the daemon sends is what a client receives."""
    client, daemon = Connection.of_client(), Connection.of_daemon()
    messages = list(client.receive(b"".join(map(daemon.send, answers))))
    assert shown(messages) == shown(answers)


@given(st.data(), st.lists(REQUESTS, max_size=4), st.binary(max_size=60))
def test_any_cut_of_a_stream_gives_the_same_messages(
    data: st.DataObject, requests: list[Request], tail: bytes
) -> None:
    """Message boundaries do not depend on what one recv returned, nor does the violation at the end."""
    client = Connection.of_client()
    stream = b"".join(map(client.send, requests)) + tail
    whole = received(Connection.of_daemon(), [stream])
    assert received(Connection.of_daemon(), data.draw(cut(stream))) == whole
    assert received(Connection.of_daemon(), [bytes([byte]) for byte in stream]) == whole


@given(st.binary(max_size=2000))
@example(b"\x94\x00\x01\xa1x\x91\x81\xa1a\xc7\x00\x00")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
@example(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
def test_garbage_raises_nothing_but_a_violation(garbage: bytes) -> None:
    """Whatever a peer sends, the owner of the connection has one exception to catch."""
    for connection in (Connection.of_daemon(), Connection.of_client()):
        _, violation = received(connection, [garbage])
        assert connection.half_frame_bytes <= (0 if violation else len(garbage))


@given(st.data(), REQUESTS)
def test_a_message_with_bytes_exchanged_raises_nothing_but_a_violation(
    data: st.DataObject, request: Request
) -> None:
    """Garbage that is nearly a message reaches deeper than random bytes do."""
    frame = bytearray(Connection.of_client().send(request))
    for place in data.draw(st.lists(st.integers(0, len(frame) - 1), min_size=1, max_size=4)):
        frame[place] = data.draw(st.integers(0, 255))
    connection = Connection.of_daemon()
    _, violation = received(connection, [bytes(frame)])
    assert connection.half_frame_bytes <= (0 if violation else len(frame))
