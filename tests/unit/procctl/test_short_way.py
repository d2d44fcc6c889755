"""The short way of `status` reads what click reads, or leaves it to click."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from hypothesis import given
from hypothesis import strategies as st

from procctl import commands, overview, short_way, verbs
from procctl.console import Invocation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

WORDS = [
    "status", "web", "web*", "app:", "stop", "-s", "--socket", "/a", "--json", "--timeout", "5", "2m", "soon",
    "", "-", "--", "--all", "-h", "--help", "--stdio", "--socket=/b", "-s/c", "-x", "-H", "host",
]  # fmt: skip


def _facts(invocation: Invocation, patterns: Sequence[str]) -> dict[str, Any]:
    return {
        "patterns": list(patterns),
        "socket": invocation.socket_path,
        "timeout_s": invocation.timeout_s,
        "json": invocation.json,
        "hosts": invocation.hosts,
    }


@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_both_ways_read_the_same(words: list[str]) -> None:
    """Whatever the short way takes, click takes for the same; the rest is click's alone."""
    read: list[dict[str, Any]] = []

    def instead(invocation: Invocation, patterns: Sequence[str]) -> int:
        read.append(_facts(invocation, patterns))
        return 0

    with _replaced(instead):
        taken = short_way.short_way(words)
        if taken is None or "--stdio" in words:
            return
        assert taken[1]() == 0
        assert verbs.run(words, Invocation()) == 0
    short, long = read
    assert short == long


class _replaced:  # noqa: N801 - used as a function
    """Both ways lead to `instead` in place of a daemon (monkeypatch is not for each example of hypothesis)."""

    def __init__(self, instead: Any) -> None:  # noqa: ANN401 - a function
        from procctl.commands import status  # noqa: PLC0415 - the family is imported as the verb does

        self._places = [short_way, verbs, status]
        self._instead = instead

    def __enter__(self) -> None:
        for place in self._places:
            vars(place)["show_status"] = self._instead

    def __exit__(self, *_: object) -> None:
        for place in self._places:
            vars(place)["show_status"] = overview.show_status


def test_plain_words_take_the_short_way() -> None:
    """It would be of no use if it left everything to click."""
    for words in ([], ["status"], ["-s", "/a", "status", "web", "--json"], ["--timeout", "2", "status"]):
        assert short_way.short_way(words) is not None, words
    for words in (
        ["stop", "web"],
        ["status", "--all"],
        ["-H", "a", "status"],
        ["--timeout", "soon"],
        ["--help"],
    ):
        assert short_way.short_way(words) is None, words


def test_every_verb_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of verbs names what is there."""
    monkeypatch.setenv("PROCD_SOCKET", "/nowhere")
    with verbs.procctl.make_context("procctl", ["status"], resilient_parsing=True) as context:
        for verb in commands.FAMILY_OF_VERB:
            assert isinstance(verbs.procctl.get_command(context, verb), click.Command)
