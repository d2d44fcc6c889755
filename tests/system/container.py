"""A container with procd as its PID 1, made as container runtimes make them, and commands inside it.

Owns the namespaces and what is private in them: the root is read-only, /run and /tmp are empty file systems in
memory, and a directory of the test is its volume, /mnt.  Root has the capabilities that Docker leaves it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.daemon import BOUND_S, PROCCTL, PROCD, Done, run, until
from tests.system.machine import emptied

if TYPE_CHECKING:
    from collections.abc import Iterator

VOLUME = "/mnt"
#: Who it is that is not root.
ORDINARY = 65534

_NAMESPACES = ("unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--uts", "--ipc")
#: moby/profiles, seccomp/default_linux.go and oci/caps/defaults.go.
_DOCKERS_CAPABILITIES = (
    "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service",
    "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap",
)  # fmt: skip

# $1 is the directory of the test, $2 whose container it is.
_ENTER = """
mount --bind "$1" /mnt; shift
mkdir /run/procd; mount -t tmpfs -o "mode=700,uid=$1,gid=$1" tmpfs /run/procd; shift
mount -o remount,bind,ro /
exec env -i PATH="$PATH" HOME=/ PROCD_CONFIG=/mnt/procd.toml "$@"
"""


@functools.cache
def missing() -> str:
    """Why no container can be made here; empty when one can."""
    if os.geteuid() != 0:
        return "making a container takes root"
    for tool in ("unshare", "nsenter", "mount", "setpriv"):
        if not shutil.which(tool):
            return f"{tool} is not installed (apt-get install util-linux mount)"
    tried = run([*_NAMESPACES, "mount", "-t", "tmpfs", "none", VOLUME])
    return f"namespaces cannot be had here: {tried.err.strip()}" if tried.code else ""


class Container:
    """One container.  `pid` is what its PID 1 is outside; `root` is its root directory, seen from outside."""

    def __init__(self, directory: Path, configuration: str, *, socket: str, ordinary: bool = False) -> None:
        self.directory = directory
        self._socket = socket
        self._ordinary = ordinary
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""
        self.pid = 0
        self.root = Path()
        directory.joinpath("procd.toml").write_text(configuration)
        if ordinary:
            os.chown(directory, ORDINARY, ORDINARY)
            os.chown(directory / "procd.toml", ORDINARY, ORDINARY)

    # Life

    def start(self) -> Container:
        """Run procd in it, until it answers."""
        # The interpreter may be in the home of root, which nobody else may enter.
        private = ["/run", "/tmp"]
        if sys.base_prefix.startswith("/root/"):
            private.append("/root")
        script = emptied(*private, kept=str(self.directory)) + _ENTER
        owner = str(ORDINARY if self._ordinary else 0)
        words = ["sh", "-c", script, "sh", str(self.directory), owner, *self._privileges(), *PROCD, "run"]
        self._process = subprocess.Popen(
            [*_NAMESPACES, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        until(self._find_init, "PID 1")
        until(self._answers, "procd to answer")
        return self

    def _privileges(self) -> list[str]:
        bounding = ",".join(["-all", *(f"+{name}" for name in _DOCKERS_CAPABILITIES)])
        words = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all"]
        if self._ordinary:
            words += [f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups", "--no-new-privs"]
        return words

    def _find_init(self) -> bool:
        assert self._process is not None
        outside = self._process.pid
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for word in Path(f"/proc/{outside}/task/{outside}/children").read_text().split():
                self.pid = int(word)
                self.root = Path(f"/proc/{word}/root")
        return self.pid != 0

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended at once:\n{self.said().decode()}"
        return self.procctl("version").code == 0

    def signal(self, number: int) -> None:
        """Signal PID 1, as `docker stop` and `docker kill` do."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        assert self._process is not None
        return self._process.wait(BOUND_S)

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()

    # Looking at it

    def said(self) -> bytes:
        """What has come out of its standard output and error."""
        assert self._process is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._process.stdout.fileno(), 65536):
                self._said += more
        return self._said

    def run(self, *words: str) -> Done:
        """Run a command inside, as the user of the container: `docker exec`."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--pid", "--wd=/", "--"]
        return run([*inside, "env", "-i", f"PATH={os.environ['PATH']}", *self._privileges(), *words])

    def procctl(self, *words: str) -> Done:
        """Run procctl inside."""
        return self.run(*PROCCTL, "-s", self._socket, *words)

    def does(self, *words: str) -> str:
        """Run procctl inside, which must succeed; what it printed."""
        done = self.procctl(*words)
        assert done.code == 0, done
        return done.out

    def program(self, name: str) -> int:
        """The PID of a program that runs, as the container counts."""
        self.does("wait", name, "--for", "running", "--timeout", "60s")
        number = json.loads(self.does("--json", "status", name))["programs"][0]["pid"]
        assert isinstance(number, int)
        return number

    def processes(self) -> Iterator[tuple[int, str, str]]:
        """PID inside, state and command line of every process in it."""
        for place in (self.root / "proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                state = (place / "stat").read_text().rpartition(") ")[2][0]
                yield int(place.name), state, (place / "cmdline").read_text().replace("\0", " ")

    def part(self, verb: str) -> int:
        """The PID inside of the supervisor (`supervise`) or the logger (`log`); 0 while there is none."""
        lines = {pid: line for pid, state, line in self.processes() if state != "Z" and pid != 1}
        return next((pid for pid, line in lines.items() if f"procd/__main__.py {verb} " in line), 0)

    def zombies(self) -> list[int]:
        """Who has ended, and was not reaped."""
        return [pid for pid, state, _ in self.processes() if state == "Z"]
