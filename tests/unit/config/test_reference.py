"""The schema for editors and the page for people say what the loader does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from procd.config import json_schema
from procd.config.program_schema import BackoffTable, LogTable, ProgramTable
from procd.config.reference import Key, keys_of
from procd.config.schema import ControlTable, DaemonTable, SocketTable

if TYPE_CHECKING:
    from procd.config.table import Table
    from tests.unit.config.conftest import Site

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
TABLES = (DaemonTable, ControlTable, ProgramTable, SocketTable)


def row(key: Key) -> str:
    """How the page shows a key."""
    default = f"`{key.default}`" if key.default else ""
    in_place = "yes" if key.in_place else ""
    return f"| `{key.name}` | {default} | {key.description} | {in_place} |"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.__name__))
def test_the_page_has_a_row_for_every_key(table: type[Table]) -> None:
    """In the order and with the words of the schema; a failure shows the row that belongs there."""
    rows = PAGE.splitlines()
    found = [line for line in rows if line in {row(key) for key in keys_of(table)}]
    assert found == [row(key) for key in keys_of(table)]


def test_the_page_has_no_row_for_a_key_that_is_not_there() -> None:
    """What the page promises, the loader accepts."""
    known = {row(key) for table in TABLES for key in keys_of(table)}
    rows = [line for line in PAGE.splitlines() if re.match(r"\| `[a-z_.]+` \|", line)]
    assert set(rows) == known


def test_the_schema_is_json() -> None:
    """`procd schema` prints it."""
    assert json.loads(json.dumps(json_schema())) == json_schema()


def test_each_call_gives_a_schema_of_its_own() -> None:
    """Whoever changes one changes only that."""
    json_schema()["$defs"].clear()
    assert json_schema()["$defs"]


def test_every_key_is_described_to_editors() -> None:
    """With its default where it has one, and without `null`, which TOML has not."""
    tables = json_schema()["$defs"]
    for table in (*TABLES, LogTable, BackoffTable):
        properties = tables[table.__name__]["properties"]
        assert list(properties) == list(table.__struct_fields__)
        for key in keys_of(table):
            if "." not in key.name:
                assert properties[key.name]["description"] == key.description
                assert bool(key.default) is ("default" in properties[key.name])
    assert '{"type": "null"}' not in json.dumps(tables)


def test_a_program_must_have_a_command_but_defaults_need_not() -> None:
    """The only key that is required."""
    tables = json_schema()["$defs"]
    assert tables["Program"]["required"] == ["command"]
    assert tables["ProgramTable"]["required"] == []
    programs = tables["ConfigurationFile"]["properties"]["programs"]
    assert programs["additionalProperties"] == {"$ref": "#/$defs/Program"}
    assert re.fullmatch(programs["propertyNames"]["pattern"], "web-1.a")


def test_editors_know_what_toml_has_not() -> None:
    """Steps, limits, and the names of limits and sockets."""
    tables = json_schema()["$defs"]
    for table in ("Program", "ProgramTable"):
        properties = tables[table]["properties"]
        assert "nofile" in properties["limits"]["propertyNames"]["enum"]
        assert properties["stop"]["items"]["minItems"] == 2
        assert properties["ready"] == {"$ref": "#/$defs/ReadyTable"}
    assert tables["ConfigurationFile"]["properties"]["sockets"]["propertyNames"]
    assert tables["ReadyTable"]["properties"]["interval"]["default"] == "1s"


def test_the_defaults_of_the_page_are_the_defaults_of_the_loader(site: Site) -> None:
    """Writing every default into the file changes nothing."""
    written = "".join(f"{key.name} = {_toml(key.default)}\n" for key in keys_of(ProgramTable) if key.default)
    assert site.program(written) == site.program("")


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_can_be_loaded(site: Site, block: str) -> None:
    """Copied from the page, they work."""
    assert site.load(block.replace('user = "www-data"', ""), check_files=False)


def _toml(default: str) -> Any:  # noqa: ANN401 - TOML as text
    return default
