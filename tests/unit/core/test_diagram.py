"""The documentation shows the table that is in force."""

from __future__ import annotations

from procd.core import State, Trigger
from tests.unit.core.diagram import DOCUMENT, diagram, rendered, table


def test_the_document_is_what_the_table_says() -> None:
    """If not: `python -m tests.unit.core.diagram docs/explanation/states.md`."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == rendered(text)


def test_the_diagram_and_the_table_name_every_state_and_every_trigger() -> None:
    """Nothing is left out for beauty, but ways that lead nowhere from the diagram."""
    for state in State:
        assert f"--> {state.value}" in diagram()
        assert f" {state.value} |" in table()
    for trigger in Trigger:
        assert f"| {trigger.value} |" in table()


def test_every_state_is_explained_in_words() -> None:
    """In the part that people write."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for state in State:
        assert f"* **{state.value}**" in text
