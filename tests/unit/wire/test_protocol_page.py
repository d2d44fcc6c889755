"""docs/reference/protocol.md says what the code does: bounds, error codes, methods, rights, parameters."""

from __future__ import annotations

import re
from pathlib import Path

from procd.config.access import Right
from procd.control.methods import METHODS
from procd.errors import REFUSALS
from procd.wire import MAX_CHUNK_BYTES, REPLY_LIMITS, REQUEST_LIMITS, Limits

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/protocol.md").read_text(encoding="utf-8")
UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2}


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its first two lines."""
    section = PAGE.split(f"\n{heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def number(cell: str) -> int:
    """`256 KiB` or `16,384`."""
    match = re.fullmatch(r"([0-9,]+) ?([KM]iB)?", cell)
    assert match, cell
    return int(match[1].replace(",", "")) * UNITS[match[2] or ""]


def test_the_bounds_are_those_of_the_wire() -> None:
    """In both directions, in the order in which they are defined."""
    table = rows("### Bounds")
    for column, limits in ((1, REQUEST_LIMITS), (2, REPLY_LIMITS)):
        assert Limits(*(number(row[column]) for row in table)) == limits
    assert f"1 to {MAX_CHUNK_BYTES:,} bytes" in PAGE


def test_every_error_code_is_described() -> None:
    """And no other."""
    assert [row[0].strip("`") for row in rows("## Errors")] == list(REFUSALS)


def test_every_method_is_described_with_its_right_and_parameters() -> None:
    """A parameter with ? may be left out."""
    documented = {}
    previous: list[str] = []
    for name, right, parameters, _ in rows("## Methods"):
        words = re.findall(r"`([a-z]+\??)`", parameters)
        previous = previous if parameters == "the same" else words
        documented[name.strip("`")] = (right or "none", set(previous))
    assert documented == {
        name: (
            method.right.value,
            {parameter.name + ("" if parameter.required else "?") for parameter in method.parameters},
        )
        for name, method in METHODS.items()
    }


def test_every_right_is_needed_for_something() -> None:
    """A right that no method needs would promise a protection that is not there."""
    needed = {method.right for method in METHODS.values()} | {Right.RUN_AS}  # `run` asks for that one by itself
    assert set(Right) == needed


def test_every_notification_is_described() -> None:
    """And no other: `closing`, and those of streams."""
    sources = (ROOT / "procd/control").rglob("*.py")
    sent = set()
    for source in sources:
        text = source.read_text(encoding="utf-8")
        sent |= set(re.findall(r"(?:notify|Notification)\(\s*\"([a-z.]+)\"", text))
    described = {row[0].strip("`") for row in rows("## Streams")}
    described |= set(re.findall(r'\[2, "([a-z.]+)", ', PAGE))
    assert sent == described
