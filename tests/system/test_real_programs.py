"""Programs of Debian under procd, as their own users; and a large input through `procctl send`."""

from __future__ import annotations

import hashlib
import os
import pwd
import random
import shutil
import signal
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.children import needs_root
from tests.system.daemon import alive, free_port, python, rss_bytes, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.daemon import Daemon

NGINX, REDIS = shutil.which("nginx", path="/usr/sbin:/usr/bin"), shutil.which("redis-server")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
needs_redis = pytest.mark.skipif(
    REDIS is None, reason="redis-server is not installed (apt-get install redis-server)"
)


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _owner(pid: int) -> str:
    return pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Make a directory that every user can get to, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="procd-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# nginx


class Nginx:
    """An nginx below a procd: its port, its page, its configuration."""

    def __init__(self, make_daemon: Callable[..., Daemon]) -> None:
        self.port = free_port()
        self.daemon = make_daemon("")
        self.file = self.daemon.directory / "nginx.conf"
        self.say("first")
        self.daemon.write(f"""
            [programs.nginx]
            command = ["{NGINX}", "-e", "stderr", "-c", "{self.file}"]
            min_uptime = "100ms"

            [programs.nginx_test]
            command = ["{NGINX}", "-t", "-e", "stderr", "-c", "{self.file}"]
            restart = "never"
            autostart = false
            """)

    def say(self, word: str, extra: str = "") -> None:
        """Write a configuration whose pages say a word."""
        self.file.write_text(f"""
            daemon off;
            user www-data;
            worker_processes 2;
            pid {self.daemon.directory}/nginx.pid;
            error_log stderr notice;
            {extra}
            events {{ worker_connections 64; }}
            http {{
                access_log off;
                server {{
                    listen 127.0.0.1:{self.port};
                    location / {{ return 200 "{word}"; }}
                }}
            }}
            """)

    def answers(self) -> str:
        """What it answers; nothing while it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as response:
                return str(response.read().decode())
        except OSError:
            return ""


@pytest.fixture
def nginx(make_daemon: Callable[..., Daemon]) -> Nginx:
    """An nginx that answers."""
    made = Nginx(make_daemon)
    made.daemon.start()
    until(lambda: made.answers() == "first", "nginx to answer")
    return made


@needs_root
@needs_nginx
def test_nginx_runs_as_its_own_user_and_restarts(nginx: Nginx) -> None:
    """The master as root, as it wants it, its workers as www-data; a stop leaves none of them."""
    daemon = nginx.daemon
    master = daemon.process("nginx")
    # A worker changes its user after it was forked.
    until(lambda: [_owner(pid) for pid in _children(master)] == ["www-data", "www-data"], "two workers")
    workers = _children(master)
    daemon.does("restart", "nginx")
    assert not any(alive(pid) for pid in (master, *workers))
    until(lambda: nginx.answers() == "first", "nginx to answer again")
    workers = _children(daemon.process("nginx"))
    daemon.does("stop", "nginx")
    assert not any(map(alive, workers))
    assert nginx.answers() == ""


@needs_root
@needs_nginx
def test_signal_hup_reloads_nginx(nginx: Nginx) -> None:
    """Other workers, the same master, the new answer."""
    master = nginx.daemon.process("nginx")
    workers = _children(master)
    nginx.say("second")
    assert nginx.daemon.does("signal", "HUP", "nginx") == "SIGHUP sent to nginx\n"
    until(lambda: nginx.answers() == "second", "the new configuration")
    until(lambda: not any(map(alive, workers)), "the old workers to go")
    assert nginx.daemon.process("nginx") == master


@needs_root
@needs_nginx
def test_nginx_comes_back_when_its_master_is_killed(nginx: Nginx) -> None:
    """Its workers live on and hold the port; they are gone before the next master needs it."""
    daemon = nginx.daemon
    daemon.until_state("nginx", "RUNNING")
    master = daemon.process("nginx")
    workers = _children(master)
    os.kill(master, signal.SIGKILL)
    until(lambda: daemon.record("nginx")["pid"] not in {None, master}, "another master")
    until(lambda: nginx.answers() == "first", "nginx to answer again")
    assert not any(map(alive, workers))
    assert daemon.until_state("nginx", "RUNNING")["restarts"] == 1
    assert b"Address already in use" not in daemon.output("nginx")


@needs_root
@needs_nginx
def test_a_configuration_test_shows_in_its_log(nginx: Nginx) -> None:
    """`nginx -t` as a program that is done when it exits: its words in `logs`, its verdict in `status`."""
    daemon = nginx.daemon
    daemon.procctl("start", "nginx_test")
    assert daemon.until_state("nginx_test", "EXITED")["exit"] == {"code": 0}
    assert "test is successful" in daemon.does("logs", "nginx_test")
    nginx.say("third", "no_such_directive on;")
    daemon.procctl("start", "nginx_test")
    until(lambda: daemon.record("nginx_test")["exit"] == {"code": 1}, "the test to fail")
    assert 'unknown directive "no_such_directive"' in daemon.does("logs", "nginx_test")
    assert nginx.answers() == "first"


# redis


@needs_root
@needs_redis
@pytest.mark.skipif(not _has_user("redis"), reason="there is no user redis (apt-get install redis-server)")
def test_redis_runs_as_its_own_user(open_place: Path, start_daemon: Callable[..., Daemon]) -> None:
    """What it was told survives a restart by procctl, and a death."""
    shutil.chown(open_place, "redis", "redis")
    daemon = start_daemon(f"""
        [programs.redis]
        command = "{REDIS} --port 0 --unixsocket redis.sock --appendonly yes"
        directory = "{open_place}"
        user = "redis"
        """)
    cli = ["redis-cli", "-s", f"{open_place}/redis.sock"]
    until(lambda: run([*cli, "ping"]).out == "PONG\n", "redis to answer")
    before = daemon.process("redis")
    assert _owner(before) == "redis"
    run([*cli, "set", "key", "value"])
    daemon.does("restart", "redis")
    until(lambda: run([*cli, "get", "key"]).out == "value\n", "redis to remember")
    assert daemon.process("redis") != before
    os.kill(daemon.process("redis"), signal.SIGKILL)
    until(lambda: run([*cli, "get", "key"]).out == "value\n", "redis to come back by itself")
    assert b"bye bye" in daemon.output("redis")


# A large input


def test_200_megabytes_arrive_as_they_were_sent(
    start_daemon: Callable[..., Daemon], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """`cat big | procctl send` gives the right hash, and costs the daemon no memory."""
    big = tmp_path / "big"
    block = random.Random(1).randbytes(1_000_000)  # noqa: S311 - the same each time
    with big.open("wb") as file:
        for number in range(200):
            file.write(block[number:] + block[:number])
    daemon = start_daemon(f"""
        [programs.hash]
        command = {python("sys_hash.py")}
        stdin = "pipe"
        restart = "never"
        """)
    daemon.until_state("hash", "RUNNING")
    Path(f"/proc/{daemon.supervisor}/clear_refs").write_text("5")
    before = rss_bytes(daemon.supervisor, "VmHWM")
    with big.open("rb") as file:
        assert daemon.does("send", "hash", "--eof", stdin=file.fileno()) == "200000000 bytes accepted\n"
    daemon.until_state("hash", "EXITED")
    with big.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    assert daemon.output("hash") == f"200000000 {expected}\n".encode()
    grown = rss_bytes(daemon.supervisor, "VmHWM") - before
    record_property("daemon_grew_bytes", grown)
    assert grown < 8 << 20
