"""What is made ready before a fork: candidates on PATH, arguments, environment."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from procd.errors import SpawnError
from procd.process.launch import encode_arguments, encode_environment, find_candidates
from procd.process.settings import Settings
from procd.process.wiring import Wiring

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def places(tmp_path: Path) -> tuple[bytes, bytes]:
    """Two directories with a file "tool" in each."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").touch()
    return os.fsencode(tmp_path / "first"), os.fsencode(tmp_path / "second")


def test_candidates_are_those_of_the_childs_path_in_order(places: tuple[bytes, bytes]) -> None:
    """Missing ones are left out."""
    path = b":".join((places[1], b"/nowhere", places[0]))
    found = find_candidates("tool", {b"PATH": path}, directory_changes=False)
    assert found == (places[1] + b"/tool", places[0] + b"/tool")


def test_a_command_with_a_slash_is_not_searched() -> None:
    """Not even for being there: exec says what is wrong with it."""
    assert find_candidates("./tool", {b"PATH": b"/bin"}, directory_changes=False) == (b"./tool",)


def test_a_relative_place_cannot_be_judged_before_the_directory_changes(
    places: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays a candidate then; an empty entry of PATH is the current directory."""
    path = {b"PATH": b":sub"}
    assert find_candidates("tool", path, directory_changes=True) == (b"./tool", b"sub/tool")
    monkeypatch.chdir(os.fsdecode(places[0]))
    assert find_candidates("tool", path, directory_changes=False) == (b"./tool",)


def test_without_a_path_the_usual_places_are_searched() -> None:
    """And the current directory is not among them."""
    assert find_candidates("sh", {}, directory_changes=False)[0] in (b"/bin/sh", b"/usr/bin/sh")


@pytest.mark.parametrize("command", ["", "no-such-tool-anywhere"])
def test_a_command_that_is_nowhere_is_refused_at_once(command: str) -> None:
    """Without a fork."""
    with pytest.raises(SpawnError) as caught:
        find_candidates(command, {b"PATH": b"/bin"}, directory_changes=False)
    assert (caught.value.stage, caught.value.errno) == ("exec", errno.ENOENT)


def test_text_goes_out_as_the_bytes_that_it_came_from() -> None:
    """Surrogates stand for bytes that are no UTF-8."""
    assert encode_arguments(["a", b"\xff", "\udcff"]) == (b"a", b"\xff", b"\xff")
    assert encode_environment({"A": "\udce9", "B": ""}) == {b"A": b"\xe9", b"B": b""}
    assert encode_environment({}) == {}


def test_no_environment_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is at that moment."""
    monkeypatch.setenv("PROCD_TEST", "now")
    assert encode_environment(None)[b"PROCD_TEST"] == b"now"


def test_settings_leave_everything_as_it_is() -> None:
    """Unless something is asked for; and they cannot be changed."""
    settings = Settings()
    assert settings.new_session
    assert not settings.sole_thread
    with pytest.raises(AttributeError):
        settings.nice = 5  # type: ignore[misc]


def test_no_move_destroys_the_source_of_another() -> None:
    """Sources that are targets are copied above all targets."""
    wiring = Wiring({0: 1, 1: 2, 2: 0})
    sources = [source for source, _ in wiring.moves]
    assert [target for _, target in wiring.moves] == [0, 1, 2]
    assert min(sources) > 2
    assert len(set(sources)) == 3
    wiring.abandon()
