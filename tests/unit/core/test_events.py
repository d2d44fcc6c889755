"""What is heard and said: values with words for people."""

from __future__ import annotations

import pytest
from msgspec import Struct

from procd.core import Actor, Cause, Exit, Start
from procd.core import events as module
from tests.unit.core.world import ANA

VALUES = [
    kind
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct
]


def test_a_cause_names_who_asked() -> None:
    """If somebody did."""
    assert str(Cause("stop requested", ANA)) == "stop requested (uid 1000, pid 4711)"
    assert str(Cause("ready")) == "ready"
    assert str(Actor(0, 1)) == "uid 0, pid 1"


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_events_and_actions_are_values_that_nobody_can_change(kind: type) -> None:
    """Frozen, and without room for more than they say."""
    assert kind.__struct_config__.frozen  # type: ignore[attr-defined]
    assert not kind.__struct_config__.dict  # type: ignore[attr-defined]


def test_equal_events_are_equal() -> None:
    """So that a test can say what it expects."""
    assert Start("web", Cause("x", ANA)) == Start("web", Cause("x", ANA))


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Exit(code=0), "exited with status 0"),
        (Exit(code=255), "exited with status 255"),
        (Exit(signal=9), "killed by SIGKILL"),
        (Exit(signal=11, core_dumped=True), "killed by SIGSEGV (core dumped)"),
        (Exit(signal=36), "killed by SIGRTMIN+2"),
        (Exit(), "ended, nobody knows how"),
    ],
)
def test_an_end_has_words(ended: Exit, words: str) -> None:
    """Also one that nobody knows."""
    assert str(ended) == words
