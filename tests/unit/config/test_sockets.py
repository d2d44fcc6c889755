"""The tables [sockets.NAME], and who gets them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from procd.config.spec import SocketSpec

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

WEB = '[programs.web]\ncommand = ["/bin/true"]\n'


def socket(site: Site, keys: str) -> SocketSpec:
    """The socket of a configuration that has one."""
    (spec,) = site.load(f"[sockets.web]\n{keys}\n", check_files=False).sockets.values()
    return spec


class TestAddresses:
    """listen."""

    @pytest.mark.parametrize(
        ("listen", "host", "port"),
        [
            ("127.0.0.1:80", "127.0.0.1", 80),
            (":8080", "0.0.0.0", 8080),  # noqa: S104 - nothing is bound
            ("0.0.0.0:1", "0.0.0.0", 1),  # noqa: S104
            ("[::1]:65535", "::1", 65535),
            ("[::]:80", "::", 80),
            ("localhost:80", "127.0.0.1", 80),
            ("127.0.0.1:${PORT:-81}", "127.0.0.1", 81),
        ],
    )
    def test_a_port_has_an_address(self, site: Site, listen: str, host: str, port: int) -> None:
        """Without one it is all of IPv4."""
        assert socket(site, f'listen = "{listen}"') == SocketSpec(name="web", host=host, port=port)

    @pytest.mark.parametrize(
        ("listen", "path"),
        [
            ("/x/web.sock", "/x/web.sock"),
            ("./web.sock", "HERE/web.sock"),
            ("a/../web.sock", "HERE/web.sock"),
            ("${runtime_dir}/web.sock", "HERE/procd/web.sock"),
            ("${HOME}/web.sock", "/home/ann/web.sock"),
        ],
    )
    def test_a_path_has_a_slash(self, site: Site, listen: str, path: str) -> None:
        """A relative one starts at the file; references are to procd's own environment."""
        path = path.replace("HERE", str(site.directory))
        assert socket(site, f'listen = "{listen}"') == SocketSpec(name="web", path=path)

    def test_every_key_arrives(self, site: Site) -> None:
        """Those of a port, and those of a path."""
        keys = 'listen = ":80"\nbacklog = 5\nreuse_port = true\n'
        expected = SocketSpec(name="web", host="0.0.0.0", port=80, backlog=5, reuse_port=True)  # noqa: S104
        assert socket(site, keys) == expected
        keys = f'listen = "/x"\nmode = "0660"\nuser = {site.uid}\ngroup = {os.getgid()}\n'
        expected = SocketSpec(name="web", path="/x", mode=0o660, uid=site.uid, gid=os.getgid())
        assert socket(site, keys) == expected

    @pytest.mark.parametrize(
        ("keys", "key", "what", "remedy"),
        [
            ("", ".listen", "is missing", "listen ="),
            ("listen = 80", ".listen", "80 is not a string", '"80"'),
            ('listen = "80"', ".listen", "is not HOST:PORT", '":PORT"'),
            ('listen = "web.sock"', ".listen", "is not HOST:PORT", "./NAME.sock"),
            ('listen = ""', ".listen", "is not HOST:PORT", '":PORT"'),
            ('listen = "*:80"', ".listen", '"*" is not an address', '":PORT"'),
            ('listen = "web.example:80"', ".listen", "asks no name server", ""),
            ('listen = ":0"', ".listen", "0 is not a port", ""),
            ('listen = "${NONE}:80"', ".listen", "NONE is not set", ""),
            (f'listen = "/{"x" * 107}"', ".listen", "has 108 bytes", "shorter"),
            ('listen = ":80"\nbacklog = 0', ".backlog", "0 is not a whole number from 1 to 1000000", ""),
            ('listen = ":80"\nmode = "0600"', ".mode", "is for a path", "remove"),
            ('listen = ":80"\nuser = "root"', ".user", "is for a path", "remove"),
            ('listen = "/x"\nreuse_port = true', ".reuse_port", "is for a port", "remove"),
            ('listen = "/x"\nmode = 600', ".mode", "600 is not an octal mode in quotes", ""),
            ('listen = "/x"\nuser = "zzzz"', ".user", 'there is no user "zzzz"', ""),
            ('listen = "/x"\nuser = 0', ".user", "procd does not run as root", ""),
            ('listen = "/x"\ngroup = 4294967295', ".group", "is not a group id", ""),
            ('listen = "/x"\nlisen = 3', ".lisen", "there is no such key", "'listen'"),
        ],
    )
    def test_what_cannot_be_opened_is_one_problem(
        self, site: Site, keys: str, key: str, what: str, remedy: str
    ) -> None:
        """With its key."""
        problem = site.problem(f"[sockets.web]\n{keys}\n")
        assert problem.key == f"sockets.web{key}"
        assert what in problem.what
        assert remedy in problem.remedy

    @pytest.mark.parametrize("text", ["sockets = 3", "[sockets]\nweb = 3", "[[sockets]]"])
    def test_a_socket_is_a_table(self, site: Site, text: str) -> None:
        """As a program is."""
        assert "is not a table" in site.problem(text).what

    def test_its_name_is_as_a_programs(self, site: Site) -> None:
        """LISTEN_FDNAMES has colons between them."""
        problem = site.problem('[sockets."a:b"]\nlisten = ":80"\n')
        assert '"a:b" is not the name of a socket' in problem.what

    def test_its_directory_must_exist_but_for_procds_own(self, site: Site) -> None:
        """That one is made when procd starts."""
        assert site.load('[sockets.web]\nlisten = "${runtime_dir}/web.sock"\n')
        problem = site.problem('[sockets.web]\nlisten = "/nowhere/web.sock"\n', check_files=True)
        assert problem.what == "directory /nowhere does not exist"

    def test_an_included_file_may_have_sockets(self, site: Site) -> None:
        """A program and its socket belong together; a name is given once."""
        site.write("conf.d/a.toml", '[sockets.a]\nlisten = "./a.sock"\n' + WEB + 'sockets = ["a", "b"]\n')
        text = '[daemon]\ninclude = ["conf.d/*.toml"]\n[sockets.b]\nlisten = ":80"\n'
        configuration = site.load(text)
        assert configuration.sockets["a"].path == f"{site.directory}/conf.d/a.sock"
        assert configuration.programs["web"].sockets == ("a", "b")
        problem = site.problem(text + '[sockets.a]\nlisten = ":81"\n')
        assert problem.what.startswith("there is a socket a already")


class TestPlaces:
    """Two sockets at one place: the second could not be opened."""

    @pytest.mark.parametrize(
        ("first", "second", "what"),
        [
            (":80", "0.0.0.0:80", "0.0.0.0:80 belongs to the socket a"),
            ("localhost:80", "127.0.0.1:80", "127.0.0.1:80 belongs to the socket a"),
            ("./x", "./y/../x", "/x belongs to the socket a"),
            (":80", "127.0.0.1:80", "127.0.0.1:80 and 0.0.0.0:80 of the socket a overlap"),
            ("[::1]:80", "[::]:80", "[::]:80 and [::1]:80 of the socket a overlap"),
        ],
    )
    def test_they_are_refused(self, site: Site, first: str, second: str, what: str) -> None:
        """However they are written."""
        problem = site.problem(f'[sockets.a]\nlisten = "{first}"\n[sockets.b]\nlisten = "{second}"\n')
        assert (problem.line, problem.key) == (4, "sockets.b.listen")
        assert what in problem.what

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ('":80"', '":81"'),
            ('"127.0.0.1:80"', '"127.0.0.2:80"'),
            ('"127.0.0.1:80"', '"[::1]:80"'),
            ('":80"\nreuse_port = true', '"127.0.0.1:80"\nreuse_port = true'),
        ],
    )
    def test_neighbours_are_not(self, site: Site, first: str, second: str) -> None:
        """Another port, another address, or a port that both share on purpose."""
        assert site.load(f"[sockets.a]\nlisten = {first}\n[sockets.b]\nlisten = {second}\n")

    @pytest.mark.parametrize(
        ("name", "what"), [("procd.sock", "control.socket"), ("notify.sock", "procd itself")]
    )
    def test_those_of_procd_are_taken(self, site: Site, name: str, what: str) -> None:
        """They would be removed in favour of the program's."""
        problem = site.problem(f'[sockets.a]\nlisten = "${{runtime_dir}}/{name}"\n')
        assert f"belongs to {what}" in problem.what

    def test_a_log_is_no_socket(self, site: Site) -> None:
        """Nor the reverse."""
        text = '[sockets.a]\nlisten = "./x"\n' + WEB + 'log.path = "x"\n'
        assert site.problem(text).what == f"{site.directory}/x is the socket a"


class TestPrograms:
    """The key `sockets`."""

    def test_they_come_in_the_order_of_the_program(self, site: Site) -> None:
        """They are descriptors 3, 4 and so on."""
        text = '[sockets.a]\nlisten = ":80"\n[sockets.b]\nlisten = ":81"\n' + WEB + 'sockets = ["b", "a"]\n'
        (spec,) = site.load(text).programs.values()
        assert spec.sockets == ("b", "a")

    @pytest.mark.parametrize(
        ("value", "index", "what", "remedy"),
        [
            ('["htpp"]', 0, 'there is no socket "htpp"', "did you mean 'http'?"),
            ('["http", "zzz"]', 1, 'there is no socket "zzz"', "[sockets.zzz]"),
            ('["http", "http"]', 1, "http is named twice", "remove one"),
        ],
    )
    def test_a_name_that_is_not_there_is_one_problem(
        self, site: Site, value: str, index: int, what: str, remedy: str
    ) -> None:
        """At the entry."""
        problem = site.problem(f'[sockets.http]\nlisten = ":80"\n{WEB}sockets = {value}\n')
        assert (problem.line, problem.key) == (5, f"programs.web.sockets[{index}]")
        assert what in problem.what
        assert remedy in problem.remedy

    def test_a_socket_with_a_mistake_is_still_there(self, site: Site) -> None:
        """One problem, not one for each program that has it."""
        problem = site.problem('[sockets.http]\nlisten = "x"\n' + WEB + 'sockets = ["http"]\n')
        assert problem.key == "sockets.http.listen"
