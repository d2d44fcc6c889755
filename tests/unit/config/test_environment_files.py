"""Environment files are read as systemd reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.config.environment_files import Entry, Fault, parse


def values(text: str) -> dict[str, str]:
    """The variables of a text without mistakes."""
    found = {}
    for line in parse(text):
        assert isinstance(line, Entry), line
        found[line.name] = line.value
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        (" A = b ", "b"),
        ("A=b c\td  ", "b c\td"),
        ("A=b#c # not a comment", "b#c # not a comment"),
        ("A='b c '", "b c "),
        ('A="b\\"c"', 'b"c'),
        ('A="\\$b \\`c\\\\ \\n"', "$b `c\\ \\n"),
        ("A='a\\'", "a\\"),
        ("A='a'\"b\"c", "abc"),
        ("A=it's", "it's"),
        ("A=a\\ b\\\\", "a b\\"),
        ("A=a\\\nb", "ab"),
        ('A="a\nb"', "a\nb"),
        ('A="a\\\nb"', "ab"),
        ("A='a\n#b'", "a\n#b"),
        ("A=$HOME ${X}", "$HOME ${X}"),
        ("A=b=c", "b=c"),
        ("A=b\r\n", "b"),
        ("\n\n# c\n ; d\n\t\nA=b", "b"),
        ("A=é\udcff", "é\udcff"),
        ("A=1\nA=b", "b"),
    ],
)
def test_a_value_is_read(text: str, value: str) -> None:
    """Quotes, escapes, comments and continued lines, as in systemd.exec(5)."""
    assert values(text) == {"A": value}


@pytest.mark.parametrize("text", ["", "\n", "# A=1", "# A=1\n", ";", "  \n\t", "#"])
def test_a_file_may_say_nothing(text: str) -> None:
    """Blank lines and comments are no variables."""
    assert parse(text) == []


@pytest.mark.parametrize(
    ("text", "line", "name", "what", "remedy"),
    [
        ("A=1\nnonsense\nB=2", 2, "", "'nonsense' is not NAME=value", "write NAME=value"),
        ("A=1\n\nexport B=2", 3, "export B", "is not the name of a variable", "remove export"),
        ("1A=2", 1, "1A", "is not the name of a variable", "letters"),
        ("=2", 1, "", "is not the name of a variable", "letters"),
        ("A.B=2", 1, "A.B", "is not the name of a variable", "letters"),
        ("#\nA='never\nclosed", 2, "A", "the quote is never closed", "close it"),
        ('A="never\\"', 1, "A", "the quote is never closed", "close it"),
        ("A=\0", 1, "A", "NUL", "remove it"),
    ],
)
def test_a_mistake_has_its_line(text: str, line: int, name: str, what: str, remedy: str) -> None:
    """Each line that is no assignment is named, with what to do about it."""
    (fault,) = [found for found in parse(text) if isinstance(found, Fault)]
    assert (fault.line, fault.name) == (line, name)
    assert what in fault.mistake.what
    assert remedy in fault.mistake.remedy


def test_lines_after_a_mistake_are_still_read() -> None:
    """One load finds every mistake."""
    found = parse("a b\nA=1\nc d\n")
    assert [line.line for line in found] == [1, 2, 3]
    assert found[1] == Entry(2, "A", "1")


def test_lines_are_counted_through_values_of_several_lines() -> None:
    """A quoted value and a continued line do not put the count out."""
    found = parse('A="1\n2"\nB=1\\\n2\nC=3')
    assert [line.line for line in found] == [1, 3, 5]


@given(st.text(st.characters(exclude_characters="\0'", exclude_categories=["Cs"])))
def test_single_quotes_hold_any_text(value: str) -> None:
    """Nothing is special between them."""
    assert values(f"A='{value}'") == {"A": value}


@given(st.text(st.sampled_from("A=\\\"' \n#;\r\0é"), max_size=40))
def test_any_text_is_lines_or_mistakes(text: str) -> None:
    """Nothing is raised, and no value holds what cannot be passed on."""
    for found in parse(text):
        assert 1 <= found.line <= text.count("\n") + 1
        if isinstance(found, Entry):
            assert "\0" not in found.value
