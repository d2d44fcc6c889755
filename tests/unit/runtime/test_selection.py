"""Patterns: what each kind means, and what a refusal offers."""

from __future__ import annotations

import pytest

from procd.config.spec import ProgramSpec
from procd.errors import NoSuchProgram
from procd.runtime.selection import select


def spec(name: str, *labels: str) -> ProgramSpec:
    """A program that only has names."""
    return ProgramSpec(name=name, program=name.partition("@")[0], groups=labels, command=("x",))


SPECS = {
    each.name: each
    for each in (spec("web@0", "app"), spec("web@1", "app"), spec("web2"), spec("a.b", "app", "db"), spec("z"))
}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["web"], ["web@0", "web@1"]),
        (["web@1"], ["web@1"]),
        (["web*"], ["web@0", "web@1", "web2"]),
        (["web@?"], ["web@0", "web@1"]),
        (["[az]*"], ["a.b", "z"]),
        (["a.b"], ["a.b"]),
        (["app:"], ["web@0", "web@1", "a.b"]),
        (["db:", "z"], ["a.b", "z"]),
        (["z", "web@1", "*2"], ["web@1", "web2", "z"]),
        (["z", "z", "*"], list(SPECS)),
        (["*"], list(SPECS)),
        ([], []),
    ],
)
def test_patterns_mean_instances_once_and_in_order(patterns: list[str], expected: list[str]) -> None:
    """The order is that of the configuration, however it was asked."""
    assert select(patterns, SPECS) == expected


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("wbe", "no program matches 'wbe'", "did you mean 'web'?"),
        ("web@7", "no program matches 'web@7'", "did you mean 'web'?"),
        ("ap:", "no program has the label 'ap'", "did you mean 'app'?"),
        (":", "no program has the label ''", "`procctl status` lists all programs"),
        ("nothing*", "no program matches 'nothing*'", "`procctl status` lists all programs"),
        ("Web", "no program matches 'Web'", "did you mean 'web'?"),
        ("axb", "no program matches 'axb'", "did you mean 'a.b'?"),
        ("we", "no program matches 'we'", "did you mean 'web'?"),
        ("[", "no program matches '['", "`procctl status` lists all programs"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused_with_the_nearest_name(
    pattern: str, message: str, hint: str
) -> None:
    """Also beside others that mean something: half a request is not carried out."""
    with pytest.raises(NoSuchProgram) as refused:
        select(["z", pattern], SPECS)
    assert (refused.value.message, refused.value.hint) == (message, hint)
    assert refused.value.data == {"pattern": pattern}


def test_all_of_nothing_is_nothing() -> None:
    """A procd without programs has a status."""
    assert select(["*"], {}) == []
    with pytest.raises(NoSuchProgram):
        select(["web"], {})
