"""What each key of a program means, and what is refused."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from procd.config.spec import (
    Backoff,
    Credentials,
    Input,
    LogSpec,
    Output,
    ProgramSpec,
    Restart,
    StopScope,
    Success,
)

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

WEB = '[programs.web]\ncommand = ["/bin/true"]\n'


def test_a_program_needs_a_command_and_nothing_else(site: Site) -> None:
    """The rest are the defaults of the spec, which so stand in one place with those of the schema."""
    expected = ProgramSpec(
        name="web",
        program="web",
        command=("/bin/true",),
        stdout_log=LogSpec("/home/ann/.local/state/procd/log/web.log"),
    )
    assert site.program("") == expected


def test_every_key_arrives(site: Site) -> None:
    """Resolved: seconds, numbers, absolute paths, expanded words."""
    spec = site.program(
        """
        command = ["/bin/sh", "-c", "exec ${WORKER:-none} $$1"]
        description = "the shop"
        groups = ["app", "front"]
        autostart = false
        directory = "srv/../www"
        umask = "077"
        environment = { WORKER = "w-${HOME}", OTHER = "${WORKER}!" }
        inherit_environment = ["LANG", "TZ"]
        stdin = "pipe"
        stdout = "null"
        stderr = "log"
        log.path = "/logs/${PROCD_PROGRAM}-${PROCD_INSTANCE}.log"
        restart = "on-failure"
        success_exit_status = [0, 3, "TERM", "sigint"]
        min_uptime = "250ms"
        backoff = { initial = "1s", factor = 1, max = "1m", jitter = 0 }
        stop_signal = "INT"
        stop_timeout = 2
        stop_scope = "process"
        """.replace("${HOME}", "${PROCD_PROGRAM}")
    )
    assert spec == ProgramSpec(
        name="web",
        program="web",
        command=("/bin/sh", "-c", "exec w-web $1"),
        description="the shop",
        groups=("app", "front"),
        autostart=False,
        directory=f"{site.directory}/www",
        umask=0o077,
        environment=(("WORKER", "w-web"), ("OTHER", "w-web!")),
        inherit=frozenset({"LANG", "TZ"}),
        stdin=Input.PIPE,
        stdout=Output.NULL,
        stderr=Output.LOG,
        stderr_log=LogSpec("/logs/web-0.err.log"),
        restart=Restart.ON_FAILURE,
        success=Success(frozenset({0, 3}), frozenset({15, 2})),
        min_uptime_s=0.25,
        backoff=Backoff(1.0, 1.0, 60.0, 0.0),
        stop_signal=2,
        stop_timeout_s=2.0,
        stop_scope=StopScope.PROCESS,
    )
    assert type(spec.min_uptime_s) is float
    assert type(spec.umask) is type(spec.stop_signal) is int


class TestNames:
    """[programs.NAME]."""

    @pytest.mark.parametrize("name", ["a", "A-z_0.9", "...", "x" * 64, "-"])
    def test_names_have_few_characters(self, site: Site, name: str) -> None:
        """They become names of files, and arguments."""
        assert list(site.load(f'[programs."{name}"]\ncommand = "/bin/true"\n').programs) == [name]

    @pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "web@1", "x" * 65, "é", "a\\n", "*"])
    def test_other_names_are_refused(self, site: Site, name: str) -> None:
        """`@` is for instances, and `..` is a directory."""
        problem = site.problem(f'\n[programs."{name}"]\ncommand = "/bin/true"\n')
        assert problem.line == 2
        assert "is not the name of a program" in problem.what

    @pytest.mark.parametrize(
        "text", ["programs = 1", "[[programs]]", "[programs]\nweb = 1", "[[programs.web]]"]
    )
    def test_a_program_is_a_table(self, site: Site, text: str) -> None:
        """One problem and no other comes of it."""
        assert "is not a table" in site.problem(text).what

    def test_the_tables_of_the_file_are_tables(self, site: Site) -> None:
        """As well."""
        problems = site.problems("daemon = 1\ncontrol = []\ndefaults = 'x'\n")
        assert [problem.what for problem in problems] == [
            "1 is not a table", "[] is not a table", '"x" is not a table'
        ]  # fmt: skip


class TestInstances:
    """instances."""

    def test_several_have_numbers(self, site: Site) -> None:
        """In name, environment and log; what can be shared is."""
        text = WEB + 'instances = 3\nenvironment = { PORT = "80${PROCD_INSTANCE}" }\n'
        specs = list(site.load(text).programs.values())
        assert [spec.name for spec in specs] == ["web@0", "web@1", "web@2"]
        assert [spec.instance for spec in specs] == [0, 1, 2]
        assert {spec.program for spec in specs} == {"web"}
        assert [spec.environment for spec in specs] == [(("PORT", f"80{number}"),) for number in range(3)]
        logs = [spec.stdout_log.path.rpartition("/")[2] for spec in specs if spec.stdout_log]
        assert logs == ["web@0.log", "web@1.log", "web@2.log"]

    def test_a_single_one_is_called_as_the_program(self, site: Site) -> None:
        """`instances = 1` is the default."""
        spec = site.program("instances = 1")
        assert (spec.name, spec.instance) == ("web", None)

    @pytest.mark.parametrize("value", ["0", "10001", "-1", "1.0", "true", '"2"', "9" * 30])
    def test_the_number_is_bounded(self, site: Site, value: str) -> None:
        """A slip of a digit must not fork a machine to death."""
        problem = site.problem(WEB + f"instances = {value}\n")
        assert (problem.line, problem.key) == (3, "programs.web.instances")
        assert "is not a whole number from 1 to 10000" in problem.what


class TestUsers:
    """user, group, supplementary_groups."""

    def test_each_key_has_its_own_problem(self, site: Site) -> None:
        """With its place in the file."""
        problems = site.problems(WEB + 'user = "0day"\ngroup = -1\nsupplementary_groups = ["root",\n "zzz"]\n')
        assert [(problem.line, problem.key.removeprefix("programs.web.")) for problem in problems] == [
            (3, "user"),
            (4, "group"),
            (6, "supplementary_groups[1]"),
        ]

    def test_an_ordinary_user_cannot_run_programs_as_others(self, site: Site) -> None:
        """Said at check, not at every start."""
        problem = site.problem(WEB + 'user = "root"\n')
        assert "procd does not run as root" in problem.what

    def test_an_ordinary_user_who_is_named_gets_login_variables(self, site: Site) -> None:
        """Nothing is to be changed, so there are no credentials."""
        spec = site.program(f"user = {site.uid}")
        assert spec.credentials is None
        assert dict(spec.environment)["USER"] == str(site.uid)
        assert dict(spec.environment)["HOME"] == "/"

    @pytest.mark.skipif(os.getuid() != 0, reason="root believes only files of root")
    def test_a_user_is_resolved(self, site: Site) -> None:
        """Before the fork, and with its HOME for references."""
        site.uid = 0
        spec = site.program('user = "nobody"\nenvironment = { A = "${HOME} ${USER}" }')
        entry = pwd.getpwnam("nobody")
        assert isinstance(spec.credentials, Credentials)
        assert spec.credentials.uid == entry.pw_uid
        assert spec.environment == (("A", f"{entry.pw_dir} nobody"),)


@pytest.mark.parametrize(
    ("keys", "key", "what", "remedy"),
    [
        ('restart = "on-falure"', "restart", 'is not "always" or "never" or "on-failure"', "'on-failure'"),
        ('stdout = "stdout"', "stdout", 'is not "journal" or "log" or "null"', ""),
        ("autostart = 1", "autostart", "1 is not true or false", ""),
        ('autostart = "true"', "autostart", '"true" is not true or false', "write true without quotes"),
        ("description = 5", "description", "5 is not a string", 'put it in quotes: "5"'),
        ('groups = "app"', "groups", "is not an array whose elements are each a string", '["app"]'),
        ('groups = ["a b"]', "groups[0]", "is not a label", "use up to 64"),
        ("umask = 22", "umask", "22 is not an octal mode in quotes", ""),
        ('umask = "8"', "umask", "is not an octal mode", ""),
        ('umask = "1022"', "umask", "is not an octal mode", ""),
        ('min_uptime = "1x"', "min_uptime", "is not a duration", ""),
        ("min_uptime = -1", "min_uptime", "-1 is not a duration", ""),
        ("min_uptime = true", "min_uptime", "true is not a duration", ""),
        ("min_uptime = nan", "min_uptime", "nan is not a duration", ""),
        ("min_uptime = 0x" + "f" * 5000, "min_uptime", "a huge number is not a duration", ""),
        ('stop_signal = "FOO"', "stop_signal", '"FOO" is not a signal', ""),
        ("stop_signal = 0", "stop_signal", "0 is not a signal", ""),
        ("stop_signal = 65", "stop_signal", "65 is not a signal", ""),
        ('stop_scope = "tree"', "stop_scope", 'is not "group" or "process"', ""),
        ("success_exit_status = 0", "success_exit_status", "0 is not an array", ""),
        ("success_exit_status = [256]", "success_exit_status[0]", "256 is not an exit code", "0 to 255"),
        ("success_exit_status = [0, -1]", "success_exit_status[1]", "-1 is not an exit code", "0 to 255"),
        ('success_exit_status = ["3"]', "success_exit_status[0]", "is not the name of a signal", "3, without"),
        ('success_exit_status = ["FOO"]', "success_exit_status[0]", "is not a signal", '"TERM"'),
        ("success_exit_status = [1.5]", "success_exit_status[0]", "1.5 is not a whole number or a string", ""),
        ("backoff.factor = 0.5", "backoff.factor", "0.5 is not a number from 1 to 100", ""),
        ("backoff.factor = nan", "backoff.factor", "nan is not a number", ""),
        ("backoff.jitter = 1.1", "backoff.jitter", "1.1 is not a number from 0 to 1", ""),
        ("backoff.jitter = nan", "backoff.jitter", "nan is not a number", ""),
        ('backoff.initial = "1m"', "backoff.max", "30s is shorter than backoff.initial, 1m", "at least"),
        ("backoff.inital = 1", "backoff.inital", "there is no such key", "'initial'"),
        ("backoff = 5", "backoff", "5 is not a table", ""),
        ("log.max_size = -1", "log.max_size", "-1 is not a size", ""),
        ("log.keep = -1", "log.keep", "-1 is not a whole number", ""),
        ('log.max_age = "0s"', "log.max_age", '"0s" is not a duration', ""),
        ('log.format = "xml"', "log.format", '"xml" is not', ""),
        ('log.on_error = "wait"', "log.on_error", '"wait" is not', ""),
        ('stdin = "null"\nterminal = true', "stdin", "a terminal is its own input", "remove one"),
        ('stdout = "null"\nterminal = true', "stdout", "the output of a terminal is logged", "remove one"),
        ('stderr = "log"\nterminal = true', "stderr", "a terminal has one output", "remove one"),
        ('log.format = "json"\nterminal = true', "log.format", "is no sequence of lines", 'write "raw"'),
        ("instanecs = 3", "instanecs", "there is no such key", "did you mean 'instances'?"),
        ("zzzzzz = 3", "zzzzzz", "there is no such key", "the keys here are command, shell"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_problem_with_its_place(
    site: Site, keys: str, key: str, what: str, remedy: str
) -> None:
    """The value at fault, what is expected, and what to do where there is more to say."""
    problem = site.problem(f"{WEB}{keys}\n")
    assert (problem.line, problem.key) == (3, f"programs.web.{key}")
    assert what in problem.what
    assert remedy in problem.remedy


def test_a_terminal_is_input_and_output(site: Site) -> None:
    """`stdin = "pipe"` is implied, and may be said; `${TERM}` is known."""
    for stdin in ("", 'stdin = "pipe"\n'):
        spec = site.program(f'{stdin}command = ["/bin/echo", "${{TERM}}"]\nterminal = true')
        assert (spec.terminal, spec.stdin, spec.stderr) == (True, Input.PIPE, Output.STDOUT)
        assert spec.command[1] == "xterm-256color"


def test_equal_values_are_shared(site: Site) -> None:
    """Ten thousand programs must not hold ten thousand copies."""
    text = '[defaults]\nbackoff.max = 5\nsuccess_exit_status = [0, 1]\ninherit_environment = ["A"]\n'
    text += "".join(f'[programs.p{number}]\ncommand = ["/bin/true"]\n' for number in range(2))
    first, second = site.load(text).programs.values()
    assert first.backoff is second.backoff
    assert first.success is second.success
    assert first.inherit is second.inherit
    assert first.directory is second.directory
