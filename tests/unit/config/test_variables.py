"""The variables of a program: environment, environment_files, inherit_environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from procd.config.spec import Backoff

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

WEB = '[programs.web]\ncommand = ["/bin/true"]\n'


class TestEnvironment:
    """environment, environment_files and inherit_environment."""

    def test_entries_see_what_stands_before_them(self, site: Site) -> None:
        """Inherited, from files, and the earlier ones; a name may extend its own older value."""
        site.write("a.env", "FILE=f\nPATH=/file\n")
        spec = site.program(
            'environment_files = ["a.env"]\n'
            'environment = { PATH = "/x:${PATH}", A = "${FILE}${HOME}", B = "${A}$$" }\n'
        )
        assert dict(spec.environment) == {
            "PATH": "/x:/file",
            "FILE": "f",
            "A": "f/home/ann",
            "B": "f/home/ann$",
        }

    def test_an_entry_does_not_see_what_stands_after_it(self, site: Site) -> None:
        """There is one order, so there is no circle."""
        problem = site.problem(WEB + 'environment = { A = "${B}", B = "1" }\n')
        assert (problem.line, problem.key) == (3, "programs.web.environment.A")

    def test_only_what_is_inherited_can_be_referred_to(self, site: Site) -> None:
        """The reference is to the program's own environment."""
        site.environ |= {"SECRET": "s", "NOTIFY_SOCKET": "/n", "LANG": "C"}
        assert site.program('environment = { A = "${SECRET}" }').environment == (("A", "s"),)
        for keys in (
            'inherit_environment = false\nenvironment = { A = "${SECRET}" }',
            'inherit_environment = ["LANG"]\nenvironment = { A = "${SECRET}" }',
            'environment = { A = "${NOTIFY_SOCKET}" }',
        ):
            assert "is not set" in site.problem(f"{WEB}{keys}\n").what

    def test_defaults_are_extended_entry_by_entry(self, site: Site) -> None:
        """What a program says is added, or takes the place of one entry."""
        text = (
            '[defaults]\nenvironment = { A = "1", B = "2" }\nbackoff = { initial = 1, max = 5 }\n'
            + WEB
            + 'environment = { B = "3", C = "${A}" }\nbackoff.max = 7\n'
        )
        spec = site.load(text).programs["web"]
        assert dict(spec.environment) == {"A": "1", "B": "3", "C": "1"}
        assert spec.backoff == Backoff(initial_s=1.0, max_s=7.0)

    @pytest.mark.parametrize(
        ("keys", "key", "what"),
        [
            ('environment = { "" = "x" }', 'environment.""', "is not the name of a variable"),
            ('environment = { "A=B" = "x" }', 'environment."A=B"', "is not the name of a variable"),
            ('environment = { PROCD_PROGRAM = "x" }', "environment.PROCD_PROGRAM", "always set by procd"),
            ('environment = { A = "\\u0000" }', "environment.A", "NUL"),
            ("environment = { A = 8080 }", "environment.A", "8080 is not a string"),
            ('environment = "A=1"', "environment", "is not a table whose values are each a string"),
            ('inherit_environment = ["NOTIFY_SOCKET"]', "inherit_environment[0]", "never inherited"),
            ('inherit_environment = ["A", "LISTEN_FDS"]', "inherit_environment[1]", "never inherited"),
            ('inherit_environment = ["A=B"]', "inherit_environment[0]", "is not the name of a variable"),
            ('inherit_environment = "A"', "inherit_environment", "is not true or false or an array"),
        ],
    )
    def test_what_is_no_variable_is_refused(self, site: Site, keys: str, key: str, what: str) -> None:
        """Each with its place."""
        problem = site.problem(f"{WEB}{keys}\n")
        assert (problem.line, problem.key) == (3, f"programs.web.{key}")
        assert what in problem.what

    def test_a_mistake_in_an_environment_file_has_its_own_place(self, site: Site) -> None:
        """The line of that file; once, however many programs read it."""
        path = site.write("a.env", "A=1\nexport B=2\n")
        problem = site.problem(WEB + 'instances = 3\nenvironment_files = ["a.env"]\n')
        assert (problem.file, problem.line) == (str(path), 2)
        assert problem.remedy == "remove export"

    def test_an_environment_file_may_be_missing_if_the_file_says_so(self, site: Site) -> None:
        """A `-` before the path, as in systemd."""
        assert site.program('environment_files = ["-none.env"]').environment == ()
        problem = site.problem(WEB + 'environment_files = ["none.env"]\n')
        assert problem.what == f"{site.directory}/none.env: there is no such file"
        assert '"-none.env"' in problem.remedy

    def test_an_environment_file_that_cannot_be_reached_is_said_so(self, site: Site) -> None:
        """With the kernel's reason, also when it may be missing."""
        site.write("file", "")
        problem = site.problem(WEB + 'environment_files = ["-file/a.env"]\n')
        assert problem.what == f"{site.directory}/file/a.env: cannot be read: Not a directory"

    def test_the_path_of_an_environment_file_is_expanded(self, site: Site) -> None:
        """From what stands before it."""
        site.write("web.env", "NAME=other")
        site.write("other.env", "A=1")
        spec = site.program('environment_files = ["${PROCD_PROGRAM}.env", "${NAME}.env"]')
        assert dict(spec.environment) == {"NAME": "other", "A": "1"}
        assert "NONE is not set" in site.problem(WEB + 'environment_files = ["${NONE}.env"]\n').what

    def test_an_environment_file_must_be_a_file(self, site: Site) -> None:
        """A directory is none, with `-` or without."""
        for dash in ("", "-"):
            problem = site.problem(WEB + f'environment_files = ["{dash}."]\n')
            assert problem.key == "programs.web.environment_files[0]"
            assert "is not a regular file" in problem.what

    def test_bytes_that_are_no_text_go_through(self, site: Site) -> None:
        """An environment is bytes."""
        (site.directory / "a.env").write_bytes(b"A=\xff\n")
        (entry,) = site.program('environment_files = ["a.env"]').environment
        assert os.fsencode(entry[1]) == b"\xff"
