"""procd's own log: one line for each event, and a reader that is gone stops nothing."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING

import pytest
import structlog

from procd import logging

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def usual_configuration() -> Iterator[None]:
    """Other tests log as structlog does by default."""
    yield
    structlog.reset_defaults()


def test_json_lines_have_the_facts_as_keys(capfd: pytest.CaptureFixture[str]) -> None:
    """Level, time, event and facts; a program that reads them needs no pattern."""
    logging.configure("info", "json")
    log = structlog.get_logger()
    log.info("program runs", program="web", pid=7)
    log.debug("not shown")
    (line,) = capfd.readouterr().err.splitlines()
    facts = json.loads(line)
    assert facts.pop("timestamp").endswith("Z")
    assert facts == {"event": "program runs", "level": "info", "program": "web", "pid": 7}


def test_text_lines_are_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    """No colours where there is no terminal, and the level that was asked for."""
    logging.configure("warning", "text")
    log = structlog.get_logger()
    log.info("not shown")
    log.warning("program failed", program="web")
    (line,) = capfd.readouterr().err.splitlines()
    assert "warning" in line
    assert "program failed" in line
    assert line.endswith("program=web")
    assert "\x1b" not in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_told_without_the_values_of_variables(
    form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A traceback that shows variables would show a program's environment."""
    logging.configure("info", form)
    secret = secrets.token_hex()
    try:
        int("wrong")
    except ValueError:
        structlog.get_logger().exception("it failed")
    written = capfd.readouterr().err
    assert "ValueError: invalid literal" in written
    assert "Traceback" in written
    assert secret not in written


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_not_utf8_is_shown_escaped(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A name from the kernel may be any bytes."""
    logging.configure("info", form)
    structlog.get_logger().info("seen", name=os.fsdecode(b"a\xff"))
    assert "\\udcff" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_reader_that_is_gone_is_no_error() -> None:
    """A line that nobody can read is lost, and whoever wrote it goes on."""
    logging.configure("info", "text")
    kept = os.dup(2)
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.dup2(write_end, 2)
    try:
        structlog.get_logger().info("to nobody")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(write_end)
