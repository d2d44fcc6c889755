"""What is run and where: command, shell, directory, and paths in general."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

WEB = '[programs.web]\ncommand = ["/bin/true"]\n'


class TestCommand:
    """command and shell."""

    @pytest.mark.parametrize(
        ("keys", "command"),
        [
            ('command = "/bin/echo a \'b c\' \\"d\\""', ("/bin/echo", "a", "b c", "d")),
            ('command = "echo ${PROCD_PROGRAM}"', ("echo", "web")),
            ("command = \"echo '${SPACED}' ${SPACED}\"", ("echo", "a b", "a b")),
            ('command = ["./run", "./x"]', ("HERE/run", "./x")),
            ('command = "bin/run"', ("HERE/bin/run",)),
            ('command = ["${HERE}/run"]', ("HERE/run",)),
            ('command = ["/a//b/../c"]', ("/a//b/../c",)),
            ('command = ["echo", "", "$HOME", "|"]', ("echo", "", "$HOME", "|")),
            ('command = "a ${X} | b"\nshell = true', ("/bin/sh", "-c", "a ${X} | b")),
        ],
    )
    def test_a_command_becomes_words(self, site: Site, keys: str, command: tuple[str, ...]) -> None:
        """Split first, then expanded: a value with spaces stays one word."""
        site.environ |= {"HERE": str(site.directory), "SPACED": "a b"}
        assert site.program(keys).command == tuple(
            word.replace("HERE", str(site.directory)) for word in command
        )

    @pytest.mark.parametrize(
        ("keys", "what", "remedy"),
        [
            ("", "is missing", 'command = ["PROGRAM"'),
            ("shell = true", "is missing", 'command = "WORDS'),
            ("command = []", "is empty", 'command = ["PROGRAM"'),
            ('command = " "', "is empty", 'command = ["PROGRAM"'),
            ('command = ""\nshell = true', "is empty", "name a program"),
            ('command = ["", "x"]', "the name of the program is empty", "name a program"),
            ('command = "${EMPTY}"', "the name of the program is empty", "name a program"),
            ('command = "nginx -g \'daemon off"', "no closing quotation", "close the quote"),
            ('command = "a \\\\"', "no escaped character", "write an array"),
            ('command = "ls | wc"', "| means something to a shell", "shell = true"),
            ('command = "sleep 1 &"', "& means something to a shell", "shell = true"),
            ('command = ["a"]\nshell = true', "is an array", "one string"),
            ('command = ["a\\u0000"]', "NUL", "remove"),
            ('command = "a\\u0000"\nshell = true', "NUL", "remove"),
            ("command = 3", "3 is not a string or an array", '"3"'),
            ('command = ["a", 3]', "3 is not a string", 'put it in quotes: "3"'),
            ('command = ["${NONE}"]', "NONE is not set", "write ${NONE:-DEFAULT}"),
        ],
    )
    def test_a_wrong_command_is_one_problem(self, site: Site, keys: str, what: str, remedy: str) -> None:
        """What is wrong with it, and what to write."""
        site.environ["EMPTY"] = ""
        problem = site.problem(f"[programs.web]\n{keys}\n")
        assert problem.key.startswith("programs.web.command")
        assert what in problem.what
        assert remedy in problem.remedy

    def test_a_program_that_is_not_there_is_said_so(self, site: Site) -> None:
        """Before it is started in vain."""
        site.write("text", "")
        (site.directory / "sub").mkdir()
        cases = {
            "/nonexistent/x": "/nonexistent/x does not exist",
            "./text": f"{site.directory}/text is not executable",
            "./sub": f"{site.directory}/sub is a directory",
            "./text/x": f"{site.directory}/text/x cannot be executed: Not a directory",
            "no-such-program": "no-such-program is not found on the program's PATH (/usr/bin:/bin)",
        }
        for word, what in cases.items():
            problem = site.problem(f'[programs.web]\ncommand = ["{word}"]\n', check_files=True)
            assert (problem.line, problem.key, problem.what) == (2, "programs.web.command[0]", what)
            assert problem.remedy

    def test_the_programs_own_path_is_searched(self, site: Site) -> None:
        """Not procd's; and no relative entry of it."""
        path = site.write("bin/here", "#!/bin/sh\n")
        path.chmod(0o755)
        keys = 'command = ["here"]\nenvironment = { PATH = "bin::.:%s" }\n'
        assert site.program(keys % f"{site.directory}/bin", check_files=True).command == ("here",)
        assert "PATH (bin::.:/bin)" in site.problem("[programs.web]\n" + keys % "/bin", check_files=True).what

    def test_who_expects_the_working_directory_is_told(self, site: Site) -> None:
        """A relative path starts at the configuration file."""
        path = site.write("app/run", "#!/bin/sh\n")
        path.chmod(0o755)
        problem = site.problem('[programs.web]\ncommand = "./run"\ndirectory = "app"\n', check_files=True)
        assert problem.remedy == f"did you mean '{path}'?"

    def test_existence_is_not_asked_for_without_check_files(self, site: Site) -> None:
        """The rest is checked all the same."""
        assert (
            site.program('command = "/nonexistent/x"\ndirectory = "/nonexistent"').directory == "/nonexistent"
        )


class TestPaths:
    """directory and log.path."""

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("/", "/"),
            ("/srv/", "/srv"),
            ("/srv//x/./y/..", "/srv/x"),
            ("x", "HERE/x"),
            (".", "HERE"),
            ("../x", "ABOVE/x"),
            ("${HOME}/x", "/home/ann/x"),
            ("${log_dir}", "/home/ann/.local/state/procd/log"),
            ("${state_dir}/x", "/home/ann/.local/state/procd/x"),
            ("${runtime_dir}", "HERE/procd"),
        ],
    )
    def test_a_path_is_made_absolute(self, site: Site, text: str, path: str) -> None:
        """Relative to the file, normalised, expanded."""
        expected = path.replace("HERE", str(site.directory)).replace("ABOVE", str(site.directory.parent))
        assert site.program(f'directory = "{text}"').directory == expected

    @pytest.mark.parametrize(
        ("text", "what"),
        [("", "is empty"), ("~/x", "~ is not expanded"), ("${NO}", "NO is not set"), ("\\u0000", "NUL")],
    )
    def test_what_is_no_path_is_refused(self, site: Site, text: str, what: str) -> None:
        """For each key that is one."""
        for key in ("directory", "log.path"):
            problem = site.problem(WEB + f'{key} = "{text}"\n')
            assert (problem.line, problem.key) == (3, f"programs.web.{key}")
            assert what in problem.what

    def test_a_directory_must_be_one(self, site: Site) -> None:
        """Neither missing nor a file."""
        site.write("file", "")
        problem = site.problem(WEB + 'directory = "none"\n', check_files=True)
        assert problem.what == f"directory {site.directory}/none does not exist"
        assert problem.remedy == f"create it: mkdir -p {site.directory}/none"
        assert "is not a directory" in site.problem(WEB + 'directory = "file"\n', check_files=True).what
        assert "Not a directory" in site.problem(WEB + 'directory = "file/x"\n', check_files=True).what

    def test_the_directory_of_a_log_must_exist_unless_it_is_procds(self, site: Site) -> None:
        """Below log_dir procd makes what it needs."""
        site.load(WEB + 'log.path = "${log_dir}/sub/web.log"\n')
        problem = site.problem(WEB + 'log.path = "sub/web.log"\n', check_files=True)
        assert problem.what == f"directory {site.directory}/sub does not exist"
        (site.directory / "sub").mkdir()
        assert "is a directory" in site.problem(WEB + 'log.path = "sub"\n', check_files=True).what
