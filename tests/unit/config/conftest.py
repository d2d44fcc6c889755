"""A directory to write configurations into, and to load them from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procd.config import load
from procd.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from procd.config.spec import Configuration, ProgramSpec
    from procd.errors import Problem

ORDINARY_UID = 54321
"""A uid without an account and without rights: nothing below depends on who runs the tests."""


class Site:
    """A directory with a configuration in it, loaded as an ordinary user would."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ: dict[str, str] = {"HOME": "/home/ann", "PATH": "/usr/bin:/bin"}
        self.uid = ORDINARY_UID

    def write(self, name: str, text: str) -> Path:
        """Write a file; its directories are made."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def load(self, text: str, *, check_files: bool = True) -> Configuration:
        """Load `text` as procd.toml, below a [daemon] table that needs nothing of the machine."""
        path = self.write("procd.toml", text)
        environ: Mapping[str, str] = {"XDG_RUNTIME_DIR": str(self.directory), **self.environ}
        return load(str(path), environ, uid=self.uid, check_files=check_files)

    def program(self, keys: str, *, check_files: bool = False) -> ProgramSpec:
        """The only spec of a configuration with the program `web`, which has these keys."""
        text = "[programs.web]\n" + ("" if "command" in keys else 'command = ["/bin/true"]\n') + keys
        (spec,) = self.load(text, check_files=check_files).programs.values()
        return spec

    def problems(self, text: str, *, check_files: bool = False) -> tuple[Problem, ...]:
        """What is wrong with `text`."""
        with pytest.raises(ConfigurationError) as caught:
            self.load(text, check_files=check_files)
        return caught.value.problems

    def problem(self, text: str, *, check_files: bool = False) -> Problem:
        """The only thing that is wrong with `text`."""
        (problem,) = self.problems(text, check_files=check_files)
        return problem


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty directory for a configuration."""
    return Site(tmp_path)
