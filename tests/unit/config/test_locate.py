"""The locator finds the line of every key that tomllib finds."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procd.config.locate import line_of, lines_of_keys, repeated_key

DOCUMENT = '''\
# a comment with [brackets] and key = "value"
title = "x" # [not.a.table]
a.b."c d" = 1

[daemon]
include = [
    "one", # "not this",
    "two",

    { name = "three", in = { deep = 1 } },
]
text = """
[not.a.table]
key = 1
quote: \\""" and ""more"""""
literal = \'\'\'
[neither]\'\'\'
when = 1979-05-27 07:32:00
[ programs . "a.b" ] # spaces
command='[x]'
x = { y = "}", z = [1,2] }

[[sockets]]
name = "first"
[[sockets]]
name = "second"
[sockets.more]
z = 1
[[sockets.inner]]
[[sockets.inner]]
w = 1
'''

PLACES = [
    (("title",), 2),
    (("a",), 3),
    (("a", "b"), 3),
    (("a", "b", "c d"), 3),
    (("daemon",), 5),
    (("daemon", "include"), 6),
    (("daemon", "include", 0), 7),
    (("daemon", "include", 1), 8),
    (("daemon", "include", 2), 10),
    (("daemon", "include", 2, "name"), 10),
    (("daemon", "include", 2, "in", "deep"), 10),
    (("daemon", "text"), 12),
    (("daemon", "literal"), 16),
    (("daemon", "when"), 18),
    (("programs",), 19),
    (("programs", "a.b"), 19),
    (("programs", "a.b", "command"), 20),
    (("programs", "a.b", "x", "z", 1), 21),
    (("sockets",), 23),
    (("sockets", 0), 23),
    (("sockets", 0, "name"), 24),
    (("sockets", 1), 25),
    (("sockets", 1, "name"), 26),
    (("sockets", 1, "more"), 27),
    (("sockets", 1, "more", "z"), 28),
    (("sockets", 1, "inner", 0), 29),
    (("sockets", 1, "inner", 1, "w"), 31),
]


@pytest.mark.parametrize(("path", "line"), PLACES, ids=str)
def test_each_form_of_key_has_its_line(path: tuple[str | int, ...], line: int) -> None:
    """Tables, dotted and quoted keys, inline tables, arrays, arrays of tables, text of several lines."""
    tomllib.loads(DOCUMENT)
    assert lines_of_keys(DOCUMENT)[path] == line


def test_nothing_is_found_that_is_no_key() -> None:
    """Brackets in comments and strings are no tables."""
    assert set(lines_of_keys(DOCUMENT)) == _paths_with_prefixes(tomllib.loads(DOCUMENT))


def test_a_table_is_where_its_header_is_not_where_it_is_first_mentioned() -> None:
    """`[a]` may come after `[a.b]`."""
    assert lines_of_keys("[a.b]\nx = 1\n[a]\ny = 1\n")[("a",)] == 3


def test_a_missing_key_is_at_the_table_around_it() -> None:
    """A problem about what is not there points to where it should be."""
    lines = lines_of_keys("\n[programs.web]\nx = 1\n")
    assert line_of(lines, ("programs", "web", "command")) == 2
    assert line_of(lines, ("daemon",)) == 0


def test_carriage_returns_do_not_count_twice() -> None:
    """A file from another system has the same lines."""
    assert lines_of_keys("a = 1\r\n\r\n[b]\r\nc = [\r\n1,\r\n2]\r\n")[("b", "c", 1)] == 6


def test_a_repeated_key_is_named_with_the_line_of_the_first() -> None:
    """The scan goes as far as the text is TOML."""
    assert repeated_key("[a]\nb = 1\nc.d = 2\nb = 3") == ("b", 2)
    assert repeated_key("x = [\n {a = 1, a = 2},\n") == ("a", 2)
    assert repeated_key("a = 1\nb = 2\n") is None


@given(st.text(st.sampled_from("ab=.[]{}\"'#\n\\ ,1"), max_size=40))
def test_no_text_stops_the_locator(text: str) -> None:
    """A wrong line is a smaller evil than a traceback in place of the problem."""
    lines_of_keys(text)
    repeated_key(text)


def _basic(text: str) -> str:
    # TOML forbids DEL in a string, which JSON allows.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key, re.ASCII) else _basic(key)


def _dotted(keys: list[str]) -> str:
    return " . ".join(map(_key, keys))


KEYS = st.one_of(st.sampled_from(["a", "b", "web", "a-b_1", "1"]), st.text(max_size=4))
SCALARS = st.one_of(
    st.booleans().map(lambda value: "true" if value else "false"),
    st.integers(-99, 99).map(str),
    st.text(max_size=6).map(_basic),
    st.sampled_from(["'lit#eral'", "1979-05-27 07:32:00Z", "1e3", "nan", '"""\n[x]\n"""', "'''\n'\n''''"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n " + ", # c ] \n".join([*items, ""]) + "]"),
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{_key(key)} = {value}" for key, value in table.items()) + "}"
        ),
    ),
    max_leaves=6,
)
STATEMENTS = st.one_of(
    st.builds(lambda keys, value: f"{_dotted(keys)} = {value}", st.lists(KEYS, min_size=1, max_size=3), VALUES),
    st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: f"[{_dotted(keys)}]"),
    st.lists(KEYS, min_size=1, max_size=2).map(lambda keys: f"[[ {_dotted(keys)} ]] # c"),
    st.sampled_from(["", "# [a]", "  "]),
)


@given(st.lists(STATEMENTS, max_size=8).map("\n".join))
@example('a = """\\"""" \nb = 1')
def test_the_locator_finds_what_tomllib_finds(text: str) -> None:
    """For any document: the same keys, each in a line in which it is written."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = lines_of_keys(text)
    assert set(lines) == _paths_with_prefixes(document)
    written = text.split("\n")
    for path, line in lines.items():
        if isinstance(path[-1], str) and re.fullmatch(r"[a-z]+", path[-1], re.ASCII):
            assert path[-1] in written[line - 1]


def _paths_with_prefixes(value: Any, prefix: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:  # noqa: ANN401
    found = {prefix} if prefix else set()
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for step, inner in items:
        found |= _paths_with_prefixes(inner, (*prefix, step))
    return found
