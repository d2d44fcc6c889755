"""Parameters: what each kind takes, and what a refusal says."""

from __future__ import annotations

from typing import Any

import pytest

from procd.control import parameters as p
from procd.control.parameters import Kind, Parameter, checked
from procd.errors import BadRequest
from procd.wire import MAX_CHUNK_BYTES

WORDS = p.one_of("stdout", "stderr")


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (p.TEXT, "web@1", "web@1"),
        (p.TEXT, "x" * p.MAX_NAME_LENGTH, "x" * p.MAX_NAME_LENGTH),
        (p.PATTERNS, ["web", "app:", "*"], ["web", "app:", "*"]),
        (p.FLAG, True, True),
        (p.FLAG, False, False),
        (p.COUNT, 0, 0),
        (p.COUNT, 2**53, 2**53),
        (p.SECONDS, 0, 0.0),
        (p.SECONDS, 1.5, 1.5),
        (p.OCTETS, b"\x00", b"\x00"),
        (p.OCTETS, bytes(MAX_CHUNK_BYTES), bytes(MAX_CHUNK_BYTES)),
        (p.SIGNAL, "TERM", 15),
        (p.SIGNAL, "SIGHUP", 1),
        (p.SIGNAL, 9, 9),
        (WORDS, "stderr", "stderr"),
    ],
)
def test_what_is_right_is_taken(kind: Kind, value: Any, result: Any) -> None:  # noqa: ANN401 - of any kind
    """With the value as the method wants it."""
    assert checked("m", (Parameter("it", kind),), {"it": value}) == {"it": result}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (p.TEXT, ""), (p.TEXT, 5), (p.TEXT, b"web"), (p.TEXT, "x" * (p.MAX_NAME_LENGTH + 1)), (p.TEXT, ["web"]),
        (p.PATTERNS, "web"), (p.PATTERNS, []), (p.PATTERNS, [""]), (p.PATTERNS, [1]), (p.PATTERNS, {"web": 1}),
        (p.PATTERNS, ["web"] * (p.MAX_PATTERNS + 1)), (p.PATTERNS, ["x" * 131072]),
        (p.FLAG, 1), (p.FLAG, 0), (p.FLAG, "true"),
        (p.COUNT, -1), (p.COUNT, True), (p.COUNT, 1.0), (p.COUNT, "1"),
        (p.COUNT, 2**53 + 1), (p.COUNT, 2**63), (p.SECONDS, 1e12),
        (p.SECONDS, -0.1), (p.SECONDS, float("inf")), (p.SECONDS, float("nan")), (p.SECONDS, True),
        (p.SECONDS, "10s"),
        (p.OCTETS, b""), (p.OCTETS, "text"), (p.OCTETS, bytes(MAX_CHUNK_BYTES + 1)),
        (p.SIGNAL, "NOPE"), (p.SIGNAL, 0), (p.SIGNAL, 65), (p.SIGNAL, []), (p.SIGNAL, True),
        (WORDS, "stdin"), (WORDS, 1), (WORDS, ["stdout"]), (WORDS, {}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_the_value_and_what_is_right(kind: Kind, value: Any) -> None:  # noqa: ANN401
    """The message is short, whatever was sent."""
    with pytest.raises(BadRequest) as refused:
        checked("m", (Parameter("it", kind),), {"it": value})
    assert refused.value.message.startswith("'it' of m is ")
    assert len(refused.value.message) < 120
    assert refused.value.hint == f"give {kind.words}"


def test_what_is_left_out_or_nil_is_absent() -> None:
    """A client library that sends every field sends nil for those that it has not."""
    parameters = (Parameter("a", p.COUNT), Parameter("b", p.FLAG))
    assert checked("m", parameters, {"a": None}) == {}


@pytest.mark.parametrize("sent", [{}, {"program": None}])
def test_what_is_needed_is_asked_for(sent: dict[str, Any]) -> None:
    """By its name, and with what it takes."""
    with pytest.raises(BadRequest, match="m needs 'program'") as refused:
        checked("m", (Parameter("program", p.TEXT, required=True),), sent)
    assert refused.value.hint == "give a name"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("progams", "did you mean 'programs'?"),
        ("x", "it takes programs, wait"),
        ("x" * 131072, "it takes programs, wait"),
        ("\x1b[31m", "it takes programs, wait"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_known(name: str, hint: str) -> None:
    """A typo is found, and what was sent cannot colour anybody's terminal."""
    parameters = (Parameter("programs", p.PATTERNS), Parameter("wait", p.FLAG))
    with pytest.raises(BadRequest, match="m has no parameter ") as refused:
        checked("m", parameters, {name: 1})
    assert refused.value.hint == hint
    assert len(refused.value.message) < 120
    assert refused.value.message.isprintable()


def test_a_method_without_parameters_says_so() -> None:
    """Instead of an empty list."""
    with pytest.raises(BadRequest) as refused:
        checked("hello", (), {"x": 1})
    assert refused.value.hint == "it takes none"
