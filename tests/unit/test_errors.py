"""The error tree: exceptions carry fields, and refusals travel."""

from __future__ import annotations

import errno
import json

import pytest

from procd import errors
from procd.errors import (
    REFUSALS,
    BadRequest,
    ConfigurationError,
    Failed,
    InvalidQuantity,
    NoSuchProgram,
    Problem,
    ProcdError,
    Refusal,
    RuntimeDirectoryHeld,
    SpawnError,
)

CODES = {
    "BAD_REQUEST", "UNKNOWN_METHOD", "NOT_PERMITTED", "NO_SUCH_PROGRAM", "WRONG_STATE", "STDIN_CLOSED",
    "FAILED", "TIMED_OUT", "TOO_LARGE", "SHUTTING_DOWN",
}  # fmt: skip


def test_every_exception_is_in_the_tree() -> None:
    """So that the command line can catch what procd says on purpose, and nothing else."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert kinds
    assert all(issubclass(kind, ProcdError) for kind in kinds)


def test_the_tree_is_drawn_in_the_docstring() -> None:
    """Whoever adds one draws it."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in kinds if kind.__name__ not in errors.__doc__] == []


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("a.toml", 3, "daemon.x", "is wrong", "do this"), "a.toml:3: daemon.x: is wrong; do this"),
        (Problem("a.toml", 0, "daemon.x", "is wrong", "do this"), "a.toml: daemon.x: is wrong; do this"),
        (Problem("a.toml", 3, "", "is wrong", ""), "a.toml:3: is wrong"),
    ],
)
def test_a_problem_is_one_line(problem: Problem, line: str) -> None:
    """`file:line: key: what; what to do`, with what is known of it."""
    assert str(problem) == line


def test_a_configuration_error_has_all_problems() -> None:
    """One a line."""
    problems = (Problem("a", 1, "k", "x", "y"), Problem("a", 2, "l", "x", "y"))
    error = ConfigurationError(problems)
    assert error.problems == problems
    assert str(error) == "a:1: k: x; y\na:2: l: x; y"


def test_a_spawn_error_names_stage_subject_and_reason() -> None:
    """In words and in fields."""
    error = SpawnError("chdir", errno.ENOENT, "/srv")
    assert str(error) == "chdir '/srv' failed: No such file or directory (ENOENT)"
    assert (error.stage, error.errno, error.subject) == ("chdir", errno.ENOENT, "/srv")
    assert str(SpawnError("fork", 9999)) == "fork failed: Unknown error 9999 (9999)"


def test_a_held_directory_names_its_holder_if_known() -> None:
    """The PID is the next step."""
    assert str(RuntimeDirectoryHeld("/run/procd", 7)) == "/run/procd is held by procd with PID 7"
    assert str(RuntimeDirectoryHeld("/run/procd", None)) == "/run/procd is held by another procd"


def test_an_invalid_quantity_is_a_value_error() -> None:
    """For libraries that convert, such as msgspec and click."""
    error = InvalidQuantity("1x", "a duration")
    assert isinstance(error, ValueError)
    assert str(error) == "'1x' is not a duration"


def test_the_codes_of_the_wire_are_stable() -> None:
    """They are part of the protocol: one may come, none may change."""
    assert set(REFUSALS) >= CODES
    assert all(kind.code == code for code, kind in REFUSALS.items())


@pytest.mark.parametrize("kind", REFUSALS.values(), ids=lambda kind: str(kind.code))
def test_a_refusal_survives_the_wire(kind: type[Refusal]) -> None:
    """Kind and fields come back as they were."""
    sent = kind("no", "try this", {"n": 1})
    received = Refusal.from_wire(json.loads(json.dumps(sent.to_wire())))
    assert type(received) is kind
    assert (received.message, received.hint, received.data) == ("no", "try this", {"n": 1})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("text", "text"),
        (None, "None"),
        ({}, ""),
        ({"code": "NEWER", "message": "m"}, "m"),
        ({"code": ["x"], "message": 5, "hint": None, "data": "x"}, "5"),
    ],
)
def test_what_is_no_known_refusal_is_a_failure(error: object, message: str) -> None:
    """A newer daemon may say what this client does not know."""
    received = Refusal.from_wire(error)
    assert type(received) is Failed
    assert received.message == message
    assert received.data == {}


def test_the_data_of_a_refusal_is_its_own() -> None:
    """No two refusals share a dictionary."""
    NoSuchProgram("x").data["a"] = 1
    assert BadRequest("y").data == {}
