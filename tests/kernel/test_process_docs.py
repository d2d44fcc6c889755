"""What the documentation says of Process: the examples run, and the table names tests that there are."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/embed-process.md").read_text(), re.DOTALL)
EXPECTED = [
    "exited with status 0 [b'two', b'three', b'one']\n",
    "65534\n256\n5\n40 100\n",
    "3 processes ended\n",
]


@pytest.mark.parametrize("number", range(len(EXPECTED)))
def test_the_examples_print_what_is_said(number: int) -> None:
    """Each in an interpreter of its own."""
    if number == 1 and os.geteuid() != 0:
        pytest.skip("it changes the user of a child, which only root may")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    shown = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]], env=environment, capture_output=True, text=True, check=False
    )
    assert shown.stderr == ""
    assert shown.stdout.replace("\r", "") == EXPECTED[number]


def test_every_example_is_run() -> None:
    """None is added without what it prints."""
    assert len(EXAMPLES) == len(EXPECTED)


def test_every_test_in_the_table_exists() -> None:
    """A row is a promise with a proof."""
    text = (ROOT / "docs/reference/process.md").read_text()
    named = set(re.findall(r"`(test_[a-z0-9_]+)\.py::(test_\w+)`", text))
    assert len(named) > 30
    for file, test in named:
        tree = ast.parse((ROOT / "tests/kernel" / f"{file}.py").read_text())
        names = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert test in names, f"{file}.py::{test}"
