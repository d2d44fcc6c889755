"""A whole stack of real programs: postgresql, a migration, three gunicorns on one socket, nginx in front."""

from __future__ import annotations

import contextlib
import grp
import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.daemon import Daemon, alive, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run each program as its own user"),
    pytest.mark.skipif(POSTGRES is None, reason="needs postgresql (apt-get install postgresql)"),
    pytest.mark.skipif(not Path(NGINX).exists(), reason="needs nginx (apt-get install nginx-light)"),
    pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="needs gunicorn (PyPI)"),
]

APPLICATION = """
import os, time

def application(environ, start_response):
    time.sleep(0.005)
    body = f"instance {os.environ['PROCD_INSTANCE']} pid {os.getppid()}\\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

NGINX_CONFIGURATION = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
user www-data;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    upstream web {{ server 127.0.0.1:{web} max_fails=0; }}
    server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass http://web; proxy_next_upstream off; }} }}
}}
"""

CONFIGURATION = """
[sockets.http]
listen = "127.0.0.1:{web}"

[programs.front]
command = [{nginx}, "-c", "{directory}/nginx.conf"]
depends_on = {{ web = "ready" }}
ready = {{ tcp = "127.0.0.1:{front}", interval = "50ms" }}
stop_signal = "QUIT"

# As root: the interpreter of the tests may be where nobody else can go.  The others run as their own users.
[programs.web]
command = [{python}, "-m", "gunicorn", "--workers", "1", "--graceful-timeout", "5",
           "--chdir", "{directory}/app", "application:application"]
instances = 3
sockets = ["http"]
depends_on = {{ migration = "completed", db = "ready" }}
ready = {{ log = "Booting worker" }}

[programs.migration]
type = "oneshot"
restart = "on-failure"
user = "postgres"
command = ["{postgres}/psql", "-h", "127.0.0.1", "-p", "{db}", "-c", "create table if not exists t (n int)"]
depends_on = ["db"]

[programs.db]
command = ["{postgres}/postgres", "-D", "{directory}/db", "-p", "{db}", "-k", "{directory}/db",
           "-c", "listen_addresses=127.0.0.1"]
user = "postgres"
stop_signal = "INT"
ready = {{ command = ["{postgres}/pg_isready", "-h", "127.0.0.1", "-p", "{db}"], interval = "100ms" }}
health = {{ command = ["{postgres}/pg_isready", "-h", "127.0.0.1", "-p", "{db}"], interval = "200ms" }}
"""


class Stack:
    """The daemon and the ports of its programs."""

    def __init__(self, directory: Path) -> None:
        self.ports = {name: free_port() for name in ("web", "front", "db")}
        self.directory = directory
        self._prepare()
        text = CONFIGURATION.format(
            directory=directory, postgres=POSTGRES, nginx=json.dumps(NGINX), python=json.dumps(sys.executable),
            **self.ports,
        )  # fmt: skip
        self.daemon = Daemon(directory, text)

    def _prepare(self) -> None:
        self.directory.chmod(0o755)
        (self.directory / "nginx.conf").write_text(
            NGINX_CONFIGURATION.format(directory=self.directory, **self.ports)
        )
        application = self.directory / "app"
        application.mkdir()
        (application / "application.py").write_text(APPLICATION)
        database = self.directory / "db"
        database.mkdir()
        postgres = pwd.getpwnam("postgres")
        os.chown(database, postgres.pw_uid, postgres.pw_gid)
        groups = os.getgrouplist("postgres", postgres.pw_gid)
        assert grp.getgrgid(groups[0])
        subprocess.run(
            [f"{POSTGRES}/initdb", "-D", database, "-A", "trust", "--no-sync", "--no-locale"],
            check=True, capture_output=True, user=postgres.pw_uid, group=postgres.pw_gid, extra_groups=groups,
            cwd="/",
        )  # fmt: skip

    def get(self) -> str:
        """One request from nginx through to an instance."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['front']}/", timeout=10) as response:
            text: str = response.read().decode()
            return text

    def started_s(self) -> dict[str, float]:
        """When each instance was started."""
        return {name: record["started_at"] for name, record in self.daemon.records().items()}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The stack, started with one command and ready; in a directory that every user can get to."""
    with tempfile.TemporaryDirectory(prefix="procd-stack-") as directory:
        made = Stack(Path(directory))
        try:
            made.daemon.start()
            made.daemon.until_state("front", "RUNNING")
            yield made
        finally:
            made.daemon.end()


def test_everything_starts_in_the_order_of_its_dependencies(stack: Stack) -> None:
    """The database, then the migration, then the web instances, then nginx; and requests go all the way."""
    records = stack.daemon.records()
    started = stack.started_s()
    assert records["migration"]["state"] == "EXITED"
    assert records["migration"]["exit"] == {"code": 0}
    assert started["db"] < started["migration"] < min(started[f"web@{n}"] for n in range(3))
    assert max(started[f"web@{n}"] for n in range(3)) < started["front"]
    assert stack.get().startswith("instance ")
    stack.daemon.does("wait", "db", "--for", "healthy")


def test_a_rolling_restart_refuses_no_request(stack: Stack) -> None:
    """While two clients ask without a pause, every instance gets a new life and every request its answer."""
    before = stack.daemon.pids()
    failures: list[str] = []
    answers: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                answers.append(stack.get())
            except OSError as error:
                failures.append(str(error))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        until(lambda: len(answers) > 20, "some answers before")
        stack.daemon.does("restart", "--rolling", "web")
        count = len(answers)
        until(lambda: len(answers) > count + 20, "some answers after")
    finally:
        done.set()
        for client in clients:
            client.join()
    after = stack.daemon.pids()
    assert failures == []
    assert all(before[f"web@{n}"] != after[f"web@{n}"] for n in range(3))
    assert before["front"] == after["front"]


def test_a_killed_database_comes_back_and_its_dependents_run_on(stack: Stack) -> None:
    """`ready` is asked for at the start; what was started runs on while the database is restarted."""
    before = stack.daemon.pids()
    pid = before["db"]
    assert pid is not None
    os.kill(pid, 9)
    until(lambda: stack.daemon.record("db")["pid"] not in {None, pid}, "another database")
    stack.daemon.until_state("db", "RUNNING")
    after = stack.daemon.pids()
    assert {name: after[name] for name in after if name != "db"} == {
        name: before[name] for name in before if name != "db"
    }
    assert stack.get().startswith("instance ")


def test_stopping_the_database_takes_down_what_needs_it_and_a_start_brings_it_back(stack: Stack) -> None:
    """The dependents go first, wait with the reason in their status, and come back with the database."""
    stack.daemon.does("stop", "db")
    records = stack.daemon.records()
    assert records["db"]["state"] == "STOPPED"
    assert {records[name]["state"] for name in ("front", "web@0", "web@1", "web@2")} == {"WAITING"}
    assert "db" in records["web@0"]["reason"]
    stack.daemon.does("start", "db")
    stack.daemon.until_state("front", "RUNNING")
    assert stack.get().startswith("instance ")


def test_the_end_is_the_beginning_backwards_and_leaves_nothing(stack: Stack) -> None:
    """The proxy stops before the web instances, these before the database; no process and no port is left."""
    pids = [pid for pid in stack.daemon.pids().values() if pid is not None]
    with stack.daemon.client() as client:
        events = client.stream("events", follow=True)
        stack.daemon.signal(15)  # type: ignore[arg-type]  # a number is a signal, too
        stopped: list[str] = []
        with contextlib.suppress(Exception):
            for _, body in events:
                stopped += [e["program"] for e in body["events"] if e.get("new") == "STOPPED"]
    assert stack.daemon.wait() == 0
    last = stopped[-5:]
    assert last[0] == "front"
    assert last[-1] == "db"
    assert not [pid for pid in pids if alive(pid)]
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", stack.ports["web"]))
