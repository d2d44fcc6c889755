"""From files to a configuration: where they are found, what belongs together, what procd itself needs."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from procd.config import load
from procd.config.spec import DaemonSpec
from procd.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.config.conftest import Site

MINIMAL = '[programs.web]\ncommand = ["/bin/true"]\n'


def refusal(path: str | None, environ: dict[str, str], uid: int) -> tuple[Problem, ...]:
    """Why the configuration cannot be loaded."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ, uid=uid)
    return caught.value.problems


class TestWhereTheFileIs:
    """`-c`, then $PROCD_CONFIG, then the default; never the current directory."""

    def test_the_named_file_wins(self, site: Site) -> None:
        """Over the environment and the default."""
        path = site.write("a.toml", MINIMAL)
        configuration = load(
            str(path), {"PROCD_CONFIG": "/none", "XDG_RUNTIME_DIR": "/r", "HOME": "/h"}, uid=site.uid
        )
        assert configuration.files == (str(path),)

    def test_the_environment_names_one_too(self, site: Site) -> None:
        """For a shell that works on one procd."""
        path = site.write("a.toml", MINIMAL)
        environ = {"PROCD_CONFIG": str(path), "XDG_RUNTIME_DIR": "/r", "HOME": "/h"}
        assert load(None, environ, uid=site.uid).files == (str(path),)

    def test_an_ordinary_user_has_one_in_the_configuration_home(self, site: Site) -> None:
        """XDG_CONFIG_HOME, or ~/.config."""
        path = site.write(".config/procd/procd.toml", MINIMAL)
        home = str(site.directory)
        expected = (str(path),)
        assert load(None, {"HOME": home, "XDG_RUNTIME_DIR": "/r"}, uid=site.uid).files == expected
        environ = {"XDG_CONFIG_HOME": f"{home}/.config", "HOME": "/h", "XDG_RUNTIME_DIR": "/r"}
        assert load(None, environ, uid=site.uid).files == expected

    def test_the_current_directory_is_never_searched(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever wrote it would decide what runs."""
        site.write("procd.toml", MINIMAL)
        monkeypatch.chdir(site.directory)
        (problem,) = refusal(None, {"HOME": "/nowhere"}, site.uid)
        assert problem.file == "/nowhere/.config/procd/procd.toml"
        assert problem.what == "there is no such file"
        assert "-c FILE" in problem.remedy

    def test_a_relative_path_of_the_environment_is_ignored(self, site: Site) -> None:
        """The XDG specification says so; it would be the current directory by another name."""
        (problem,) = refusal(None, {"XDG_CONFIG_HOME": "conf", "HOME": "/nowhere"}, site.uid)
        assert problem.file == "/nowhere/.config/procd/procd.toml"

    def test_without_a_home_there_is_no_default(self, site: Site) -> None:
        """It is said, and what to do."""
        (problem,) = refusal(None, {}, site.uid)
        assert "$HOME" in problem.what
        assert "-c FILE" in problem.remedy


class TestUnreadableFiles:
    """What cannot be read is one clear problem."""

    @pytest.mark.parametrize(
        ("content", "line", "what", "remedy"),
        [
            (b"a = \n", 1, "invalid value", "quotes"),
            (b"[a]\nb = 1\n[c\n", 3, "expected ']'", "[NAME]"),
            (b"[a]\n\n[a]\n", 3, "[a] is here for the second time (first in line 1)", "join"),
            (b"[a]\nb = 1\nc = 1\nb = 2\n", 4, "b is here for the second time (first in line 2)", "remove one"),
            (b"umask = 022\n", 1, "expected newline", '"022"'),
            (b'a = "x\n', 1, "illegal character", "same line"),
            (b"a = {b = 1,\n}\n", 1, "is not TOML", "one line"),
            (b"a = 'x", 1, 'expected "\'"', "close it"),
            (b"# fine\na = \xff\n", 0, "line 2 is not UTF-8", "UTF-8"),
            (b"a = " + b"[" * 5000, 0, "nested too deep", "nest less"),
            (b"a = " + b"1" * 5000, 0, "thousands of digits", "smaller"),
        ],
    )
    def test_text_that_is_not_toml(self, site: Site, content: bytes, line: int, what: str, remedy: str) -> None:
        """The line, and what to do about it in words."""
        path = site.directory / "procd.toml"
        path.write_bytes(content)
        (problem,) = refusal(str(path), {}, site.uid)
        assert (problem.file, problem.line) == (str(path), line)
        assert what in problem.what
        assert remedy in problem.remedy

    def test_a_byte_order_mark_is_no_mistake(self, site: Site) -> None:
        """Some editors write one."""
        assert list(site.load("\ufeff" + MINIMAL).programs) == ["web"]

    def test_a_directory_is_no_file(self, site: Site) -> None:
        """Nor is anything else that could be opened and waited for."""
        (problem,) = refusal(str(site.directory), {}, site.uid)
        assert problem.what == "is not a regular file"
        os.mkfifo(site.directory / "fifo")
        (problem,) = refusal(str(site.directory / "fifo"), {}, site.uid)
        assert problem.what == "is not a regular file"

    def test_a_file_below_a_file_is_said_so(self, site: Site) -> None:
        """The kernel's reason is passed on."""
        path = site.write("file", "")
        (problem,) = refusal(f"{path}/procd.toml", {}, site.uid)
        assert "Not a directory" in problem.what

    def test_root_refuses_what_others_may_write(self, site: Site) -> None:
        """Before it is read: what is in it does not matter."""
        path = site.write("procd.toml", "no toml at all")
        path.chmod(0o666)
        (problem,) = refusal(str(path), {}, 0)
        assert "could change what root runs" in problem.what
        assert problem.remedy

    def test_no_problem_steers_a_terminal(self, site: Site) -> None:
        """Control characters of a file are shown escaped, and a problem is one line."""
        problem = site.problem(MINIMAL + '"\\u001b[2J\\nx" = 1\n')
        assert str(problem).isprintable()
        assert "\\u001b[2J\\nx" in problem.key


class TestInclude:
    """More files with programs."""

    def test_patterns_are_read_in_order_after_the_file(self, site: Site) -> None:
        """In the order of the patterns, and of names within one; each file once."""
        for name in ("c", "a", "b", ".hidden"):
            site.write(f"conf.d/{name}.toml", f'[programs.{name.strip(".")}]\ncommand = ["/bin/true"]\n')
        text = '[daemon]\ninclude = ["conf.d/b.toml", "conf.d/*.toml", "none.d/*", "*.toml"]\n' + MINIMAL
        configuration = site.load(text)
        assert list(configuration.programs) == ["web", "b", "a", "c"]
        names = ["procd.toml", "conf.d/b.toml", "conf.d/a.toml", "conf.d/c.toml"]
        assert configuration.files == tuple(str(site.directory / name) for name in names)

    def test_relative_paths_start_at_the_file_that_says_them(self, site: Site) -> None:
        """Those of an included file at it, those of [defaults] at the main file."""
        site.write("conf.d/a.toml", '[programs.a]\ncommand = ["./run"]\nlog.path = "a.log"\n')
        text = '[daemon]\ninclude = ["conf.d/a.toml"]\n[defaults]\ndirectory = "data"\n'
        spec = site.load(text, check_files=False).programs["a"]
        assert spec.command == (f"{site.directory}/conf.d/run",)
        assert spec.directory == f"{site.directory}/data"
        assert spec.stdout_log is not None
        assert spec.stdout_log.path == f"{site.directory}/conf.d/a.log"

    def test_defaults_hold_for_included_programs(self, site: Site) -> None:
        """They are part of the same configuration."""
        site.write("a.toml", '[programs.a]\ncommand = "true"\n')
        text = '[daemon]\ninclude = ["a.toml"]\n[defaults]\nstop_timeout = 3\n'
        assert site.load(text).programs["a"].stop_timeout_s == 3.0

    def test_a_program_in_two_files_names_both_places(self, site: Site) -> None:
        """Neither silently wins."""
        path = site.write("a.toml", "\n" + MINIMAL)
        problem = site.problem('[daemon]\ninclude = ["a.toml"]\n' + MINIMAL)
        assert (problem.file, problem.line, problem.key) == (str(path), 2, "programs.web")
        assert f"{site.directory}/procd.toml:3" in problem.what

    def test_included_files_hold_programs_only(self, site: Site) -> None:
        """Settings of procd are in one place."""
        path = site.write("a.toml", MINIMAL + "[daemon]\n[defaults]\numask = '077'\n")
        problems = site.problems('[daemon]\ninclude = ["a.toml"]\n')
        assert [(problem.file, problem.line, problem.key) for problem in problems] == [
            (str(path), 3, "daemon"),
            (str(path), 4, "defaults"),
        ]

    @pytest.mark.skipif(os.getuid() != 0, reason="root believes only files of root")
    def test_root_searches_no_directory_that_others_may_add_to(self, site: Site) -> None:
        """Not even a sticky one; a file in it that is named is safe there."""
        site.uid = 0
        path = site.write("conf.d/a.toml", MINIMAL)
        path.parent.chmod(0o1777)
        problem = site.problem('[daemon]\ninclude = [\n "conf.d/*.toml"]\n')
        assert (problem.line, problem.key) == (3, "daemon.include[0]")
        assert problem.remedy == f"chmod go-w {path.parent}"
        assert list(site.load('[daemon]\ninclude = ["conf.d/a.toml"]\n').programs) == ["web"]

    @pytest.mark.skipif(os.getuid() != 0, reason="root believes only files of root")
    def test_root_refuses_an_included_file_that_others_may_write(self, site: Site) -> None:
        """An included file is as powerful as the main one."""
        site.uid = 0
        path = site.write("a.toml", MINIMAL)
        path.chmod(0o664)
        problem = site.problem('[daemon]\ninclude = ["a.toml"]\n')
        assert (problem.file, problem.remedy) == (str(path), f"chmod go-w {path}")

    def test_a_plain_path_must_be_there(self, site: Site) -> None:
        """Only a pattern may match nothing."""
        problem = site.problem('[daemon]\ninclude = ["none.toml"]\n')
        assert problem.file == f"{site.directory}/none.toml"
        assert "daemon.include" in problem.remedy

    def test_a_pattern_may_use_procds_own_variables(self, site: Site) -> None:
        """As every path may."""
        site.write("x/a.toml", MINIMAL)
        site.environ["WHERE"] = "x"
        assert list(site.load('[daemon]\ninclude = ["${WHERE}/*.toml"]\n').programs) == ["web"]
        assert "NOWHERE is not set" in site.problem('[daemon]\ninclude = ["${NOWHERE}/x"]\n').what

    def test_problems_come_by_file_and_line(self, site: Site) -> None:
        """In the order in which they would be mended."""
        site.write("a.toml", "x = 1\n")
        problems = site.problems('y = 1\n[daemon]\ninclude = ["a.toml"]\nz = 1\n[programs]\nw = 1\n')
        assert [problem.key for problem in problems] == ["y", "daemon.z", "programs.w", "x"]


class TestDaemon:
    """The tables [daemon] and [control]."""

    def test_an_ordinary_user_has_defaults_below_the_xdg_directories(self, site: Site) -> None:
        """As the table "Where things are" says."""
        site.environ = {"HOME": "/home/ann", "XDG_RUNTIME_DIR": "/run/user/7"}
        state = "/home/ann/.local/state/procd"
        assert site.load("").daemon == DaemonSpec(
            runtime_dir="/run/user/7/procd",
            state_dir=state,
            log_dir=f"{state}/log",
            socket="/run/user/7/procd/procd.sock",
        )

    def test_the_state_home_can_be_elsewhere(self, site: Site) -> None:
        """XDG_STATE_HOME goes before HOME."""
        site.environ["XDG_STATE_HOME"] = "/srv/state"
        assert site.load("").daemon.log_dir == "/srv/state/procd/log"

    @pytest.mark.skipif(os.getuid() != 0, reason="root believes only files of root")
    def test_root_has_the_directories_of_the_system(self, site: Site) -> None:
        """Whatever its environment says."""
        site.uid = 0
        daemon = site.load("").daemon
        assert (daemon.runtime_dir, daemon.state_dir, daemon.log_dir, daemon.socket) == (
            "/run/procd",
            "/var/lib/procd",
            "/var/log/procd",
            "/run/procd/procd.sock",
        )

    def test_without_a_default_the_key_is_asked_for(self, site: Site) -> None:
        """Each directory that has no default is a problem of its own."""
        site.environ = {"XDG_RUNTIME_DIR": "", "PATH": "/bin"}
        problems = site.problems("")
        assert {problem.key for problem in problems} == {
            "daemon.runtime_dir",
            "daemon.state_dir",
            "daemon.log_dir",
        }
        assert all("[daemon]" in problem.remedy for problem in problems)

    def test_every_key_arrives(self, site: Site) -> None:
        """Durations in seconds, modes as numbers, paths absolute."""
        site.environ["BASE"] = "/base"
        daemon = site.load(
            '[daemon]\nruntime_dir = "run"\nstate_dir = "../state"\nlog_dir = "${BASE}/log"\n'
            'log_level = "debug"\nlog_format = "json"\nshutdown_timeout = "1m"\nmax_concurrent_starts = 4\n'
            '[control]\nsocket = "${runtime_dir}/s"\nmode = "0660"\n'
        ).daemon
        here = site.directory
        assert daemon == DaemonSpec(
            runtime_dir=f"{here}/run",
            state_dir=f"{here.parent}/state",
            log_dir="/base/log",
            log_level="debug",
            log_format="json",
            shutdown_timeout_s=60.0,
            max_concurrent_starts=4,
            socket=f"{here}/run/s",
            socket_mode=0o660,
        )

    def test_a_socket_path_fits_into_what_the_kernel_takes(self, site: Site) -> None:
        """107 bytes; said here, where it can be mended, and not at bind(2)."""
        longest = "/" + "s" * 106
        assert site.load(f'[control]\nsocket = "{longest}"\n').daemon.socket == longest
        problem = site.problem(f'[control]\nsocket = "{longest}s"\n')
        assert (problem.line, problem.key) == (2, "control.socket")
        assert "108 bytes" in problem.what
        problem = site.problem(f'[daemon]\nruntime_dir = "/{"é" * 50}"\n')
        assert "112 bytes" in problem.what
        assert "runtime_dir" in problem.remedy

    def test_the_directory_of_the_socket_must_exist(self, site: Site) -> None:
        """Only the runtime directory is made by procd."""
        problem = site.problem('[control]\nsocket = "none/s"\n', check_files=True)
        assert problem.what == f"directory {site.directory}/none does not exist"
        assert problem.remedy == f"create it: mkdir -p {site.directory}/none"
        assert site.load('[control]\nsocket = "none/s"\n', check_files=False)

    def test_nothing_is_made_by_loading(self, site: Site) -> None:
        """Neither `check` nor `reload` leaves anything behind."""
        site.load('[daemon]\nruntime_dir = "run"\nstate_dir = "state"\nlog_dir = "log"\n' + MINIMAL)
        assert [path.name for path in site.directory.iterdir()] == ["procd.toml"]


def test_an_empty_file_is_a_configuration_without_programs(site: Site) -> None:
    """Programs may come later, by `reload` or `run`."""
    assert site.load("").programs == {}


def test_every_problem_is_reported_at_once(site: Site) -> None:
    """With its line and key, in order of lines; the same cause for many programs once."""
    text = """\
tpyo = 1
[daemon]
log_level = "loud"
[control]
mode = 600
[defaults]
directory = "/nonexistent"
stop_timeout = "3x"
[programs.one]
command = ["/bin/true", "${NONE}"]
instancs = 3
[programs.two]
restart = "on-falure"
success_exit_status = [0, 300]
"""
    problems = site.problems(text, check_files=True)
    assert [(problem.line, problem.key) for problem in problems] == [
        (1, "tpyo"),
        (3, "daemon.log_level"),
        (5, "control.mode"),
        (7, "defaults.directory"),
        (8, "defaults.stop_timeout"),
        (10, "programs.one.command[1]"),
        (11, "programs.one.instancs"),
        (12, "programs.two.command"),
        (13, "programs.two.restart"),
        (14, "programs.two.success_exit_status[1]"),
    ]
    assert str(problems[6]) == (
        f"{site.directory}/procd.toml:11: programs.one.instancs: "
        "there is no such key; did you mean 'instances'?"
    )


def test_a_load_does_not_depend_on_the_mode_of_an_ordinary_users_file(site: Site, tmp_path: Path) -> None:
    """Only root has to fear that somebody else decides what it runs."""
    path = site.write("procd.toml", MINIMAL)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IWOTH)
    assert load(str(path), {"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path)}, uid=site.uid).programs
