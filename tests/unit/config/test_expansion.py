"""References in strings: what they become, and which are mistakes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.config.expansion import MOST_CHARACTERS, expand
from procd.config.problems import Mistake

VARIABLES = {"HOME": "/home/ann", "EMPTY": "", "DOLLAR": "${HOME}", "_x1": "y"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${HOME}/x", "/home/ann/x"),
        ("${HOME}${_x1}", "/home/anny"),
        ("${EMPTY}", ""),
        ("${NONE:-5}", "5"),
        ("${EMPTY:-5}", "5"),
        ("${HOME:-5}", "/home/ann"),
        ("${NONE:-}", ""),
        ("${NONE:-a b:-c?}", "a b:-c?"),
        ("${NONE:-${HOME}/x}y", "/home/ann/xy"),
        ("${NONE:-${ALSO:-z}}", "z"),
        ("${HOME:?is needed}", "/home/ann"),
        ("$$", "$"),
        ("$${HOME}", "${HOME}"),
        ("$$$${HOME}", "$${HOME}"),
        ("$$${HOME}", "$/home/ann"),
        ("{print $1}", "{print $1}"),
        ("$HOME $(date) $", "$HOME $(date) $"),
        ("${NONE:-$${}}", "${}"),
        ("}{", "}{"),
    ],
)
def test_references_become_values(text: str, expanded: str) -> None:
    """The forms of the documentation; every other dollar is a dollar."""
    assert expand(text, VARIABLES) == expanded


def test_values_are_not_expanded_again() -> None:
    """What a variable holds is data: it cannot reach other variables."""
    assert expand("${DOLLAR}", VARIABLES) == "${HOME}"


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("${NONE}", "NONE is not set", "write ${NONE:-DEFAULT}"),
        ("${NONE:?the port}", "NONE is not set: the port", "set NONE"),
        ("${EMPTY:?the port}", "EMPTY is not set: the port", "set EMPTY"),
        ("${NONE:?}", "NONE is not set: it is required", "set NONE"),
        ("${HOME", "'${HOME' has no closing brace", "write }"),
        ("${A:-${B}", "has no closing brace", "write }"),
        ("${}", "${} is not a reference", "write ${NAME}"),
        ("${1}", "${1} is not a reference", "write ${NAME}"),
        ("${HOME-x}", "${HOME-x} is not a reference", "write ${NAME}"),
        ("${HOME:=x}", "is not a reference", "write ${NAME}"),
        ("${ HOME }", "is not a reference", "write ${NAME}"),
        ("a\0b", "a NUL character", "remove"),
        ("${NONE:-" * 20 + "}" * 20, "within each other", "nest less"),
    ],
)
def test_a_mistake_says_what_and_what_to_do(text: str, what: str, remedy: str) -> None:
    """A reference that has no value, or is none."""
    with pytest.raises(Mistake) as caught:
        expand(text, VARIABLES)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_no_text_grows_beyond_what_the_kernel_passes_on() -> None:
    """Doubling a value forty times must not take all memory."""
    with pytest.raises(Mistake, match="longer than"):
        expand("${BIG}${BIG}", {"BIG": "x" * (MOST_CHARACTERS // 2 + 1)})


@given(st.text())
def test_dollars_that_are_doubled_come_back(text: str) -> None:
    """`$$` is the way to write any text at all."""
    if "\0" not in text:
        assert expand(text.replace("$", "$$"), {}) == text


@given(st.text(st.sampled_from("${}:-?A$\\ "), max_size=30))
def test_no_text_does_anything_but_expand_or_be_a_mistake(text: str) -> None:
    """Nothing else is raised, whatever the file says."""
    with suppress(Mistake):
        assert isinstance(expand(text, {"A": "v"}), str)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_value_goes_in_as_it_is(value: str) -> None:
    """No character of a value means anything."""
    assert expand("<${V}>", {"V": value}) == f"<{value}>"
