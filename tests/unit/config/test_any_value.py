"""Whatever a file says, it is a configuration or a list of problems with their places."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from procd.config.convert import converted, without_mistakes
from procd.config.document import Document, Place
from procd.config.problems import Problems, quoted
from procd.config.program_schema import ProgramTable
from procd.config.reference import keys_of
from procd.config.schema import ControlTable, DaemonTable, SocketTable
from procd.config.table import is_table
from procd.errors import ConfigurationError

if TYPE_CHECKING:
    from procd.config.table import Table
    from tests.unit.config.conftest import Site

WORDS = st.one_of(
    st.sampled_from(
        [
            "",
            "null",
            "log",
            "always",
            "TERM",
            "1s",
            "022",
            "root",
            "a b",
            "${HOME}",
            "${",
            "/x",
            "a'b",
            "[::1]:80",
            "ready",
            "0-1",
            "CAP_KILL",
            "1GiB",
            "unlimited",
            "web",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
SCALARS = st.one_of(
    st.booleans(), st.integers(-2, 300), st.sampled_from([2**32, 2**63, 16**50]), WORDS,
    st.floats(-2.0, 200.0), st.sampled_from([float("nan"), float("inf")]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=5,
)


def toml(value: object) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() if abs(value) >= 2**64:
            return hex(value)
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
        case _:
            raise AssertionError(value)


def keys_and_values(table: type[Table]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the keys of a table, and perhaps others, each with any value, or, for a table, keys of it."""
    inner = {field.name: keys_and_values(field.type) for field in structs.fields(table) if is_table(field.type)}
    keys = st.sampled_from([*table.__struct_fields__, "unknwon"])
    pairs = keys.flatmap(lambda key: st.tuples(st.just(key), st.one_of(VALUES, inner.get(key, VALUES))))
    return st.lists(pairs, max_size=5).map(dict)


FILES = st.fixed_dictionaries(
    {},
    optional={
        "daemon": st.one_of(keys_and_values(DaemonTable), VALUES),
        "control": st.one_of(keys_and_values(ControlTable), VALUES),
        "defaults": st.one_of(keys_and_values(ProgramTable), VALUES),
        "programs": st.one_of(
            st.dictionaries(WORDS, st.one_of(keys_and_values(ProgramTable), VALUES), max_size=3), VALUES
        ),
        "sockets": st.one_of(
            st.dictionaries(WORDS, st.one_of(keys_and_values(SocketTable), VALUES), max_size=3), VALUES
        ),
        "extra": VALUES,
    },
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(table=FILES)
def test_any_file_is_a_configuration_or_its_problems(site: Site, table: dict[str, Any]) -> None:
    """Nothing else is raised; each problem is one line of text, says what is wrong, and where."""
    text = "".join(f"{key} = {toml(value)}\n" for key, value in table.items())
    tomllib.loads(text)
    lines = {key: number for number, key in enumerate(table, 1)}
    try:
        site.load(text)
    except ConfigurationError as error:
        for problem in error.problems:
            assert problem.what
            assert str(problem).isprintable()
            assert problem.line == lines.get(problem.key.partition(".")[0].partition("[")[0], 0)


@pytest.mark.parametrize("kind", [ProgramTable, DaemonTable, ControlTable, SocketTable])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_key_by_key_judges_as_msgspec_does(kind: type[Table], data: st.DataObject) -> None:
    """The fast way and the one that finds words agree, and what is kept can be converted."""
    raw = data.draw(keys_and_values(kind))
    problems = Problems()
    place = Place(Document("x", "/x", "", {}), ("t",))
    kept = without_mistakes(raw, kind, place, problems)
    assert (converted(raw, kind) is None) is bool(len(problems))
    assert converted(kept, kind) is not None


@pytest.mark.parametrize("key", [key.name for key in keys_of(ProgramTable)])
def test_a_number_without_end_is_one_problem(site: Site, key: str) -> None:
    """Python refuses to write it in decimal, so no message may try."""
    program = '[programs.web]\ncommand = ["/bin/true"]\n'
    problem = site.problem(f"[defaults]\n{key} = 0x{'f' * 5000}\n{program}")
    assert (problem.line, problem.key) == (2, f"defaults.{key}")
    assert "a huge number" in problem.what


@given(VALUES)
def test_any_value_can_be_quoted(value: object) -> None:
    """In one short line."""
    assert len(quoted(value)) <= 80


def test_every_key_has_words() -> None:
    """For the page, and for editors."""
    for kind in (ProgramTable, DaemonTable, ControlTable, SocketTable):
        assert all(key.description for key in keys_of(kind))
