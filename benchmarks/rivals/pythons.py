"""Supervisors written in Python, each with one configuration file; and a loop of Popen, which is the limit."""

from __future__ import annotations

import json
import shlex
import sys
from typing import ClassVar

from rivals.rival import LOG_BYTES, LOG_FILES, Rival


class Procd(Rival):
    """procd: `min_uptime = "0s"` where restarts are to be fast, else its defaults."""

    name = "procd"
    needs = ("procd", "procctl")

    def configure(self) -> None:
        """One file."""
        lines = ["[daemon]", 'log_level = "warning"']
        lines += [f'{each}_dir = "{self.task.directory}/{each}"' for each in ("runtime", "state", "log")]
        lines += ["[defaults]", 'restart = "always"']
        if self.task.fast:
            lines.append('min_uptime = "0s"')
        if self.task.capture:
            lines.append(f"log = {{ max_size = {LOG_BYTES}, keep = {LOG_FILES} }}")
        else:
            lines.append('stdout = "null"')
        for program, command in self.task.commands.items():
            lines += [f"[programs.{program}]", f"command = {json.dumps(command)}"]
        self.write("procd.toml", *lines)

    def start(self) -> list[str]:
        """In the foreground."""
        return [self.binaries["procd"], "run", "-c", f"{self.task.directory}/procd.toml"]

    def status(self, program: str | None) -> list[str]:
        """All, if none is named."""
        socket = f"{self.task.directory}/runtime/procd.sock"
        return [self.binaries["procctl"], "-s", socket, "status", *([program] if program else [])]


class Supervisord(Rival):
    """supervisord: its defaults (startsecs=1), except that it always restarts and logs little."""

    name = "supervisord"
    needs = ("supervisord", "supervisorctl")
    from_pypi = True

    def configure(self) -> None:
        """One file; the programs' logs in a directory."""
        place = self.task.directory
        (place / "log").mkdir()
        lines = [
            *("[supervisord]", "nodaemon=true", "loglevel=warn", f"logfile={place}/supervisord.log"),
            *(f"pidfile={place}/pid", f"childlogdir={place}/log", "[unix_http_server]", f"file={place}/socket"),
            *("[supervisorctl]", f"serverurl=unix://{place}/socket", "[rpcinterface:supervisor]"),
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for program, command in self.task.commands.items():
            lines += [f"[program:{program}]", f"command={shlex.join(command)}", "autorestart=true"]
            lines += ["redirect_stderr=true"]
            if self.task.capture:
                lines += [f"stdout_logfile={place}/log/{program}", f"stdout_logfile_maxbytes={LOG_BYTES}"]
                lines += [f"stdout_logfile_backups={LOG_FILES}"]
            else:
                lines += ["stdout_logfile=NONE"]
        self.write("supervisord.conf", *lines)

    def start(self) -> list[str]:
        """In the foreground, by nodaemon."""
        return [self.binaries["supervisord"], "-c", f"{self.task.directory}/supervisord.conf"]

    def status(self, program: str | None) -> list[str]:
        """By the socket that the same file names."""
        configuration = ["-c", f"{self.task.directory}/supervisord.conf"]
        return [self.binaries["supervisorctl"], *configuration, "status", program or "all"]


class Circus(Rival):
    """circus: looks every 5 s, its default, who is dead; every 0.1 s where restarts are to be fast."""

    name = "circus"
    needs = ("circusd", "circusctl")
    from_pypi = True

    def configure(self) -> None:
        """One file, with a watcher for each program."""
        place = self.task.directory
        (place / "log").mkdir()
        lines = [
            *("[circus]", f"endpoint = ipc://{place}/control", f"pubsub_endpoint = ipc://{place}/events"),
            *("loglevel = warning", "warmup_delay = 0", f"check_delay = {0.1 if self.task.fast else 5}"),
        ]
        for program, command in self.task.commands.items():
            lines += [f"[watcher:{program}]", f"cmd = {shlex.join(command)}", "numprocesses = 1"]
            lines += ["copy_env = True", "max_retry = -1", "warmup_delay = 0"]
            if self.task.capture:
                for stream in ("stdout", "stderr"):
                    lines += [f"{stream}_stream.class = FileStream"]
                    lines += [f"{stream}_stream.filename = {place}/log/{program}.{stream}"]
                    lines += [f"{stream}_stream.max_bytes = {LOG_BYTES}"]
                    lines += [f"{stream}_stream.backup_count = {LOG_FILES}"]
        self.write("circus.ini", *lines)

    def start(self) -> list[str]:
        """In the foreground, its default."""
        return [self.binaries["circusd"], f"{self.task.directory}/circus.ini"]

    def status(self, program: str | None) -> list[str]:
        """By the endpoint."""
        endpoint = f"ipc://{self.task.directory}/control"
        return [self.binaries["circusctl"], "--endpoint", endpoint, "status", *([program] if program else [])]


MONITOR = """
import json, sys
from twisted.internet import epollreactor
epollreactor.install()
from twisted.internet import reactor
from twisted.runner.procmon import ProcessMonitor
monitor = ProcessMonitor()
with open(sys.argv[1]) as file:
    for name, command in json.load(file).items():
        monitor.addProcess(name, command, env=None)
reactor.callWhenRunning(monitor.startService)
reactor.addSystemEventTrigger("before", "shutdown", monitor.stopService)
reactor.run()
"""


class Script(Rival):
    """A script of ours, which reads the commands from a file."""

    captures = False
    source: ClassVar[str]

    def configure(self) -> None:
        """The commands."""
        self.write("commands.json", json.dumps(dict(self.task.commands)))

    def start(self) -> list[str]:
        """With the Python of the peer, or with ours."""
        python = self.binaries.get("python", sys.executable)
        return [python, "-c", self.source, f"{self.task.directory}/commands.json"]


class Procmon(Script):
    """Twisted's ProcessMonitor with its defaults; `twistd procmon` itself takes one program only."""

    name = "procmon"
    needs = ("twistd", "python")
    from_pypi = True
    source = MONITOR


LOOP = """
import json, signal, subprocess, sys
def stop(*_):
    for child in children:
        child.terminate()
    for child in children:
        child.wait()
    sys.exit()
signal.signal(signal.SIGTERM, stop)
null = subprocess.DEVNULL
with open(sys.argv[1]) as file:
    commands = json.load(file).values()
children = [subprocess.Popen(command, stdin=null, stdout=null, stderr=null) for command in commands]
while True:
    signal.pause()
"""


class PopenLoop(Script):
    """A loop of subprocess.Popen, of the Python that runs this; it neither restarts nor captures."""

    name = "(Popen loop)"
    needs = ()
    restarts = False
    captures = True  # it is the limit there, too
    is_limit = True
    source = LOOP
