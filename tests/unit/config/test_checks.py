"""The tables `ready`, `health` and `hooks`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.checks.endpoints import parse_host_port
from procd.checks.http import HttpProbe
from procd.config.addresses import require_address, require_url
from procd.config.problems import Mistake
from procd.config.spec import Check, CheckKind, Health, Hooks

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

WEB = '[programs.web]\ncommand = ["/bin/true"]\n'


class TestReady:
    """Exactly one way of knowing."""

    @pytest.mark.parametrize(
        ("table", "check"),
        [
            ("{ notify = true }", Check(kind=CheckKind.NOTIFY)),
            ("{ fd = 7 }", Check(kind=CheckKind.FD, fd=7)),
            ('{ tcp = "127.0.0.1:80" }', Check(kind=CheckKind.TCP, address="127.0.0.1:80")),
            ('{ tcp = "localhost:80" }', Check(kind=CheckKind.TCP, address="localhost:80")),
            ('{ tcp = "[::1]:80" }', Check(kind=CheckKind.TCP, address="[::1]:80")),
            ('{ tcp = "[fe80::1%eth0]:80" }', Check(kind=CheckKind.TCP, address="[fe80::1%eth0]:80")),
            ('{ log = "up \\\\w+$" }', Check(kind=CheckKind.LOG, pattern="up \\w+$")),
            ("{ command = \"/bin/x 'a b'\" }", Check(kind=CheckKind.COMMAND, command=("/bin/x", "a b"))),
            (
                '{ command = ["x"], interval = "10ms", timeout = 2 }',
                Check(kind=CheckKind.COMMAND, command=("x",), interval_s=0.01, timeout_s=2.0),
            ),
            (
                '{ http = "http://localhost/a?b", status = 204 }',
                Check(kind=CheckKind.HTTP, url="http://localhost/a?b", statuses=frozenset({204})),
            ),
            (
                '{ http = "HTTP://[::1]:8000", status = [200, 404, 200], notify = false }',
                Check(kind=CheckKind.HTTP, url="HTTP://[::1]:8000", statuses=frozenset({200, 404})),
            ),
        ],
    )
    def test_a_way_becomes_a_check(self, site: Site, table: str, check: Check) -> None:
        """With the defaults of the spec, which stand in the schema too."""
        assert site.program(f'command = ["/bin/true"]\nready = {table}').ready == check

    @pytest.mark.parametrize(
        "keys", ["", "ready = {}", "ready = { notify = false }", 'ready = { interval = "1s" }']
    )
    def test_no_way_is_no_check(self, site: Site, keys: str) -> None:
        """Then running for `min_uptime` is ready."""
        assert site.program(keys).ready is None

    @pytest.mark.parametrize(
        ("keys", "key", "what", "remedy"),
        [
            ('{ interval = "2s" }', "", "does not say how to ask", "notify, fd, tcp, http, command, log"),
            ('{ tcp = "[::1]:1", fd = 3 }', "", "asks in 2 ways: fd, tcp", "keep one"),
            ("{ fd = 2 }", ".fd", "2 is not a whole number from 3 to 1023", ""),
            ('{ tcp = "db:5432" }', ".tcp", '"db" is not an address, and procd asks no', "localhost"),
            ('{ tcp = "127.1:80" }', ".tcp", '"127.1" is not an address', ""),
            ('{ tcp = "010.0.0.1:80" }', ".tcp", "is not an address", ""),
            ('{ tcp = ":80" }', ".tcp", "names no host", "127.0.0.1:PORT"),
            ('{ tcp = "::1:80" }', ".tcp", "is not HOST:PORT", "[::1]:80"),
            ('{ tcp = "[127.0.0.1]:80" }', ".tcp", "is not an IPv6 address", "[::1]:80"),
            ('{ tcp = "127.0.0.1" }', ".tcp", "is not HOST:PORT", "127.0.0.1:80"),
            ('{ tcp = "127.0.0.1:0" }', ".tcp", "0 is not a port", "1 to 65535"),
            ('{ tcp = "127.0.0.1:65536" }', ".tcp", "65536 is not a port", ""),
            ('{ tcp = "127.0.0.1:+1" }', ".tcp", "is not HOST:PORT", ""),
            ('{ tcp = "${NONE}:80" }', ".tcp", "NONE is not set", ""),
            ('{ http = "https://127.0.0.1" }', ".http", "https is not spoken", "curl"),
            ('{ http = "127.0.0.1/x" }', ".http", "is not a URL", "http://127.0.0.1:8000/health"),
            ('{ http = "http://a@127.0.0.1/" }', ".http", "is not a URL", ""),
            ('{ http = "http:///x" }', ".http", "is not a URL", ""),
            ('{ http = "http://web/" }', ".http", "procd asks no name server", "localhost"),
            ('{ http = "http://127.0.0.1/a b" }', ".http", "is not a URL", ""),
            ('{ http = "http://127.0.0.1/é" }', ".http", "is not a URL", ""),
            ('{ http = "http://127.0.0.1/#x" }', ".http", "is not a URL", ""),
            (f'{{ http = "http://127.0.0.1/{"x" * 2048}" }}', ".http", "2048 characters", "shorter"),
            ('{ http = "http://[::1]", status = 99 }', ".status", "99 is not a whole number from 100", ""),
            ('{ http = "http://[::1]", status = [200, 600] }', ".status[1]", "600 is not", ""),
            ('{ tcp = "[::1]:1", status = 200 }', ".status", "is the answer to http", "remove"),
            ('{ notify = true, interval = "1s" }', ".interval", "does nothing with notify", "start_timeout"),
            ('{ fd = 3, timeout = "1s" }', ".timeout", "does nothing with fd", "start_timeout"),
            ('{ tcp = "[::1]:1", interval = "9ms" }', ".interval", "is not a duration", ""),
            ("{ command = [] }", ".command", "is empty", "command = "),
            ('{ command = "a | b" }', ".command", "| means something to a shell", '["/bin/sh", "-c"'),
            ('{ log = "(" }', ".log", "is not a regular expression: missing )", ""),
            ('{ log = "[[a]" }', ".log", "is not a regular expression: Possible nested set", ""),
            ("{ tpc = 1 }", ".tpc", "there is no such key", "'tcp'"),
            ("{ tcp = 1, interval = 3 }", ".tcp", "1 is not a string", ""),
        ],
    )  # fmt: skip
    def test_what_cannot_be_asked_is_one_problem(
        self, site: Site, keys: str, key: str, what: str, remedy: str
    ) -> None:
        """With its key and its line."""
        problem = site.problem(f"{WEB}ready = {keys}\n")
        assert (problem.line, problem.key) == (3, f"programs.web.ready{key}")
        assert what in problem.what
        assert remedy in problem.remedy

    def test_each_instance_is_asked_at_its_own_address(self, site: Site) -> None:
        """References are to its own variables; in a regular expression a dollar is a dollar."""
        text = (
            WEB + 'instances = 2\nenvironment = { PORT = "80${PROCD_INSTANCE}" }\nready.tcp = "[::1]:${PORT}"\n'
        )
        checks = [spec.ready for spec in site.load(text).programs.values()]
        assert [check.address for check in checks if check] == ["[::1]:800", "[::1]:801"]
        check = site.program('ready.log = "^${x}$$"').ready
        assert check is not None
        assert check.pattern == "^${x}$$"

    def test_it_takes_the_place_of_the_default_as_a_whole(self, site: Site) -> None:
        """Joined, two ways would stand in one table."""
        text = '[defaults]\nready = { tcp = "[::1]:1", interval = 3 }\n' + WEB + "ready = %s\n"
        (spec,) = site.load(text % "{ fd = 4 }").programs.values()
        assert spec.ready == Check(kind=CheckKind.FD, fd=4)
        (spec,) = site.load(text % "{}").programs.values()
        assert spec.ready is None
        problem = site.problem(text % '{ tcp = "x:1" }')
        assert (problem.line, problem.key) == (5, "programs.web.ready.tcp")

    def test_its_descriptor_is_none_of_its_sockets(self, site: Site) -> None:
        """They begin at 3."""
        text = '[sockets.a]\nlisten = ":80"\n[sockets.b]\nlisten = ":81"\n' + WEB + 'sockets = ["a", "b"]\n'
        problem = site.problem(text + "ready.fd = 4\n")
        assert (problem.line, problem.key) == (8, "programs.web.ready.fd")
        assert problem.what == "4 is taken: descriptors 3 to 4 are its sockets"
        assert problem.remedy == "write 5 or more"
        (spec,) = site.load(text + "ready.fd = 5\n").programs.values()
        assert spec.ready == Check(kind=CheckKind.FD, fd=5)

    @pytest.mark.parametrize(
        ("keys", "what"),
        [
            ('stdout = "null"', "has no log"),
            ('stdout = "null"\nstderr = "null"', "has no log"),
            ('log.path = "/dev/stdout"', "nothing can be read from /dev/stdout"),
        ],
    )
    def test_a_line_of_the_log_needs_a_log(self, site: Site, keys: str, what: str) -> None:
        """Or nobody would ever see it."""
        assert what in site.problem(f'{WEB}{keys}\nready.log = "x"\n').what

    def test_the_log_of_stderr_is_one(self, site: Site) -> None:
        """Many say there that they are ready."""
        assert site.program('stdout = "null"\nstderr = "log"\nready.log = "x"').ready

    def test_the_program_of_a_command_must_exist(self, site: Site) -> None:
        """As that of `command`; a relative one stands beside the file."""
        problem = site.problem(WEB + 'ready.command = ["./check", "x"]\n', check_files=True)
        assert problem.key == "programs.web.ready.command[0]"
        assert problem.what == f"{site.directory}/check does not exist"


class TestHealth:
    """As `ready`, and what follows."""

    def test_every_key_arrives(self, site: Site) -> None:
        """With defaults of its own: a program is asked less often when it is up."""
        check = Check(kind=CheckKind.TCP, address="[::1]:1", interval_s=10.0, timeout_s=5.0)
        assert site.program('health.tcp = "[::1]:1"').health == Health(check=check)
        check = Check(
            kind=CheckKind.HTTP, url="http://[::1]/", statuses=frozenset({204}), interval_s=3.0, timeout_s=1.0
        )
        keys = 'http = "http://[::1]/"\nstatus = 204\ninterval = 3\ntimeout = 1\nfailures = 1\naction = "none"'
        keys = f"[programs.web.health]\n{keys}"
        assert site.program(keys).health == Health(check=check, failures=1, restart=False)

    def test_a_watchdog_is_a_check(self, site: Site) -> None:
        """With `notify`."""
        check = Check(kind=CheckKind.NOTIFY, interval_s=10.0)
        health = Health(check=check, watchdog_s=30.0)
        assert site.program('health = { notify = true, watchdog = "30s" }').health == health
        assert site.program("health = {}").health is None

    @pytest.mark.parametrize(
        ("keys", "key", "what", "remedy"),
        [
            ("{ failures = 2 }", "", "does not say how to ask", "notify, tcp, http, command"),
            ("{ notify = true }", ".watchdog", "is missing", 'watchdog = "30s"'),
            ('{ tcp = "[::1]:1", watchdog = 3 }', ".watchdog", "goes with notify", "or tcp"),
            ("{ notify = true, watchdog = 3, failures = 2 }", ".failures", "one silence", "remove"),
            ("{ notify = true, watchdog = 3, interval = 2 }", ".interval", "does nothing", "watchdog"),
            ('{ tcp = "[::1]:1", failures = 0 }', ".failures", "0 is not a whole number from 1 to 1000000", ""),
            ('{ tcp = "[::1]:1", action = "stop" }', ".action", 'is not "none" or "restart"', ""),
            ("{ fd = 3 }", ".fd", "there is no such key", ""),
        ],
    )
    def test_what_cannot_be_asked_is_one_problem(
        self, site: Site, keys: str, key: str, what: str, remedy: str
    ) -> None:
        """With its key and its line."""
        problem = site.problem(f"{WEB}health = {keys}\n")
        assert (problem.line, problem.key) == (3, f"programs.web.health{key}")
        assert what in problem.what
        assert remedy in problem.remedy

    def test_a_default_that_is_replaced_is_not_blamed(self, site: Site) -> None:
        """The place of a missing key is in the table that lacks it."""
        text = (
            '[defaults]\nhealth = { notify = true, watchdog = "3s" }\n' + WEB + "health = { notify = true }\n"
        )
        problem = site.problem(text)
        assert (problem.line, problem.key) == (5, "programs.web.health.watchdog")


class TestHooks:
    """Commands around a life."""

    def test_every_key_arrives(self, site: Site) -> None:
        """Arrays, or strings that are split; expanded for each instance."""
        keys = """
        hooks.before_start = "/bin/a '${PROCD_PROGRAM} x' $$"
        hooks.after_ready = ["/bin/b", "${PROCD_INSTANCE}"]
        hooks.before_stop = "c"
        hooks.after_stop = "./d"
        hooks.timeout = "1m"
        """
        assert site.program(keys).hooks == Hooks(
            before_start=("/bin/a", "web x", "$"),
            after_ready=("/bin/b", "0"),
            before_stop=("c",),
            after_stop=(f"{site.directory}/d",),
            timeout_s=60.0,
        )

    @pytest.mark.parametrize("keys", ["", "hooks = {}", "hooks.timeout = 5", "hooks.before_start = []"])
    def test_no_command_is_no_hook(self, site: Site, keys: str) -> None:
        """An empty array takes back what [defaults] say."""
        text = '[defaults]\nhooks.before_start = "x"\n' if "[]" in keys else ""
        (spec,) = site.load(f"{text}{WEB}{keys}\n").programs.values()
        assert spec.hooks is None

    def test_they_are_joined_with_the_defaults(self, site: Site) -> None:
        """One for all, and one of its own."""
        text = (
            '[defaults]\nhooks = { before_start = "/bin/sh", timeout = 5 }\n'
            + WEB
            + 'hooks.after_stop = "/bin/true"\n'
        )
        (spec,) = site.load(text).programs.values()
        assert spec.hooks == Hooks(before_start=("/bin/sh",), after_stop=("/bin/true",), timeout_s=5.0)

    @pytest.mark.parametrize(
        ("value", "what", "remedy"),
        [
            ('"a && b"', "&& means something to a shell", '"/bin/sh", "-c"'),
            ('" "', "is empty", 'before_start = ["PROGRAM"'),
            ('"\'"', "no closing quotation", "close the quote"),
            ("3", "3 is not a string or an array", '"3"'),
            ('"${NONE}"', "NONE is not set", ""),
        ],
    )
    def test_what_cannot_be_run_is_one_problem(self, site: Site, value: str, what: str, remedy: str) -> None:
        """As for `command`."""
        problem = site.problem(f"{WEB}hooks.before_start = {value}\n")
        assert (problem.line, problem.key) == (3, "programs.web.hooks.before_start")
        assert what in problem.what
        assert remedy in problem.remedy

    def test_the_program_of_a_hook_must_exist(self, site: Site) -> None:
        """Said now, not when the program is stopped."""
        problem = site.problem(WEB + 'hooks.after_stop = "/nowhere/x"\n', check_files=True)
        assert problem.key == "programs.web.hooks.after_stop"
        assert problem.what == "/nowhere/x does not exist"


ADDRESSES = st.one_of(
    st.text(st.sampled_from("[]:.%/@?#0123456789 localhost"), max_size=24),
    st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(-1, 70000)),
    st.builds("[{}]:{}".format, st.ip_addresses(v=6), st.integers(-1, 70000)),
)


def accepts(require: object, text: str) -> bool:
    """Whether the configuration takes it."""
    assert callable(require)
    try:
        require(text)
    except Mistake:
        return False
    return True


@given(ADDRESSES)
def test_whoever_asks_understands_every_address_that_is_accepted(text: str) -> None:
    """The configuration is stricter: the C library takes 127.1 for an address too."""
    if accepts(require_address, text) and "%" not in text:
        assert parse_host_port(text)


@given(st.builds("http://{}{}{}".format, ADDRESSES, st.sampled_from(["", "/", "?"]), st.text(max_size=5)))
def test_whoever_asks_understands_every_url_that_is_accepted(text: str) -> None:
    """A check that never passes, because nobody can ask, would be found out much later."""
    if accepts(require_url, text) and "%" not in text:
        loop = asyncio.new_event_loop()
        try:
            assert HttpProbe(loop, text).subject == f"GET {text}"
        finally:
            loop.close()
