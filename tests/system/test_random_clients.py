"""Random clients of several users, for a few seconds; `fuzzing.py` goes on for as long as one likes."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procd.control.methods import METHODS
from procd.wire import Connection, Notification, Response
from tests.system.daemon import BOUND_S
from tests.system.fuzzing import CONFIGURATION, EXCLUDED, Fuzzing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.daemon import Daemon

SECONDS = 4.0


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_clients_send_procd_lives_and_keeps_its_secrets(
    make_daemon: Callable[..., Daemon], seed: int
) -> None:
    """What they did was of every kind, and some of it was right."""
    daemon = make_daemon(CONFIGURATION)
    fuzzing = Fuzzing(daemon.start(), seed)
    fuzzing.run(SECONDS)
    assert len(fuzzing.steps) == 8
    assert {"done", "BAD_REQUEST", "closing", "NO_SUCH_PROGRAM"} <= set(fuzzing.heard)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["fuzz-cat", "fuzz*", "nothing"])
PARAMETERS = st.sampled_from(sorted({each.name for method in METHODS.values() for each in method.parameters}))
#: What is nearly a request, of a method that there is, with parameters that there are.
REQUESTS = st.builds(
    lambda *parts: bytes(msgpack.packb([0, parts[0], parts[1], [parts[2]]])),
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(set(METHODS) - EXCLUDED)),
    st.dictionaries(PARAMETERS, VALUES | NAMES | st.lists(NAMES, min_size=1, max_size=3), max_size=4),
)
FRAMES = REQUESTS | VALUES.map(lambda value: bytes(msgpack.packb(value))) | st.binary(max_size=200)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FRAMES, min_size=1, max_size=6), st.integers(1, 400))
def test_every_sequence_of_bytes_is_answered_or_ends_its_connection(
    shared: Daemon, frames: list[bytes], piece: int
) -> None:
    """However it is cut into pieces; an answer is an answer of the protocol, and nobody else is disturbed."""
    wire = Connection.of_client()
    with socket.socket(socket.AF_UNIX) as talking:
        talking.settimeout(BOUND_S)
        talking.connect(str(shared.socket))
        said = b"".join(frames)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(said), piece):
                talking.sendall(said[start : start + piece])
            talking.shutdown(socket.SHUT_RDWR if piece == 1 else socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            # A stream that follows, or a wait without an end, goes on: then it is we who leave.
            talking.settimeout(0.2)
            while data := talking.recv(65536):
                assert all(isinstance(each, Response | Notification) for each in wire.receive(data))
    with shared.client() as client:
        assert client.call("hello")["pid"] == shared.supervisor
    assert "Traceback" not in shared.said.read_text()
