"""Which file takes which output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procd.config.spec import LogSpec, Output

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

WEB = '[programs.web]\ncommand = ["/bin/true"]\n'


class TestLogs:
    """stdout, stderr and log.path: one file for each stream."""

    @pytest.mark.parametrize(
        ("keys", "stdout", "stderr"),
        [
            ("", "LOGS/web.log", None),
            ('stderr = "log"', "LOGS/web.log", "LOGS/web.err.log"),
            ('stderr = "null"', "LOGS/web.log", None),
            ('stdout = "null"', None, None),
            ('stdout = "null"\nstderr = "log"', None, "LOGS/web.err.log"),
            ('stdout = "journal"', None, None),
            ('stderr = "journal"', "LOGS/web.log", None),
            ('stdout = "journal"\nstderr = "log"', None, "LOGS/web.err.log"),
            ('stderr = "log"\nlog.path = "/x/a.log"', "/x/a.log", "/x/a.err.log"),
            ('stderr = "log"\nlog.path = "/x/a"', "/x/a", "/x/a.err"),
            ('stderr = "log"\nlog.path = "/dev/stdout"', "/dev/stdout", "/dev/stdout"),
        ],
    )
    def test_each_stream_has_its_file(
        self, site: Site, keys: str, stdout: str | None, stderr: str | None
    ) -> None:
        """As far as it is logged at all."""
        spec = site.program(keys)
        logs = "/home/ann/.local/state/procd/log"
        assert spec.stdout_log == (stdout and LogSpec(stdout.replace("LOGS", logs)))
        assert spec.stderr_log == (stderr and LogSpec(stderr.replace("LOGS", logs)))

    def test_the_journal_is_no_log_that_can_be_looked_at(self, site: Site) -> None:
        """Each stream goes where it is told to; `ready.log` needs a file."""
        spec = site.program('stdout = "journal"\nstderr = "journal"')
        assert (spec.stdout, spec.stderr) == (Output.JOURNAL, Output.JOURNAL)
        problem = site.problem(WEB + 'stdout = "journal"\nready.log = "up"\n')
        assert problem.what == "the program has no log to look at"
        assert "terminal" in site.problem(WEB + 'stdout = "journal"\nterminal = true\n').what

    def test_two_programs_on_one_file_are_refused_naming_both(self, site: Site) -> None:
        """However the two paths are written."""
        (site.directory / "logs").mkdir()
        (site.directory / "link").symlink_to("logs")
        for other in ("logs/a.log", "./logs/../logs//a.log", "link/a.log"):
            text = (
                WEB + f'log.path = "logs/a.log"\n[programs.b]\ncommand = ["/bin/true"]\nlog.path = "{other}"\n'
            )
            problem = site.problem(text)
            assert (problem.line, problem.key) == (6, "programs.b.log.path")
            assert f"is already the log of stdout of web ({site.directory}/procd.toml:3)" in problem.what

    def test_a_default_name_can_be_taken(self, site: Site) -> None:
        """`web.err` logs to where `web` sends its stderr."""
        text = WEB + 'stderr = "log"\n[programs."web.err"]\ncommand = ["/bin/true"]\n'
        assert "is already the log of stderr of web" in site.problem(text).what

    def test_instances_on_one_file_are_one_problem(self, site: Site) -> None:
        """With the remedy, and not once for each."""
        problem = site.problem(WEB + 'instances = 100\nlog.path = "/x/a.log"\n')
        assert "several instances" in problem.what
        assert "${PROCD_INSTANCE}" in problem.remedy
        assert (
            len(
                site.load(
                    WEB + 'instances = 9\nlog.path = "/x/${PROCD_INSTANCE}"\n', check_files=False
                ).programs
            )
            == 9
        )

    def test_defaults_may_hold_a_pattern_but_not_a_file(self, site: Site) -> None:
        """The place is where the path is written."""
        programs = '[programs.a]\ncommand = ["/bin/true"]\n[programs.b]\ncommand = ["/bin/true"]\n'
        problem = site.problem('[defaults]\nlog.path = "/x/a.log"\n' + programs)
        assert (problem.line, problem.key) == (2, "defaults.log.path")
        assert "${PROCD_PROGRAM}" in problem.remedy
        text = '[defaults]\nlog.path = "/x/${PROCD_PROGRAM}.log"\n' + programs
        assert len(site.load(text, check_files=False).programs) == 2

    def test_many_may_write_to_a_device(self, site: Site) -> None:
        """In a container all of them log to /dev/stdout."""
        text = '[defaults]\nlog.path = "/dev/stdout"\nstderr = "log"\n' + WEB + "instances = 3\n"
        assert len(site.load(text).programs) == 3

    def test_a_log_is_not_a_file_of_procd(self, site: Site) -> None:
        """Neither socket, nor configuration, nor environment file."""
        site.write("a.env", "")
        cases = {
            "procd/procd.sock": "the control socket",
            "procd.toml": "a configuration file",
            "a.env": "an environment file",
        }
        for path, what in cases.items():
            problem = site.problem(WEB + f'log.path = "{path}"\nenvironment_files = ["a.env"]\n')
            assert (problem.line, problem.key) == (3, "programs.web.log.path")
            assert problem.what == f"{site.directory}/{path} is {what}"
