"""A real keeper, with children that do what a test tells them."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import procd
from procd.keeper import launch
from procd.process import Reaper
from tests.kernel.children import BOUND_S, PROGRAMS, our_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CHILD = str(PROGRAMS / "keeper_child.py")


class Life:
    """One life of a child, which is told what to do."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(BOUND_S)
        self._connection = connection
        self._lines = connection.makefile("r")
        self.name, pid = self._lines.readline().split()
        self.pid = int(pid)

    def tell(self, code: str) -> None:
        """Have a line executed, and do not wait for the answer."""
        self._connection.sendall(code.encode() + b"\n")

    def answer(self) -> Any:  # noqa: ANN401 - whatever it was asked for
        """The answer to the oldest line that was not answered yet."""
        line = self._lines.readline()
        if not line:
            raise EOFError(f"{self.name} (PID {self.pid}) has ended")
        try:
            return ast.literal_eval(line)
        except (ValueError, SyntaxError):
            return line.strip()  # what it is worth is known to the child only

    def __call__(self, code: str) -> Any:  # noqa: ANN401 - as above
        """Have a line executed; returns its value."""
        self.tell(code)
        return self.answer()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """Let it end."""
        self._lines.close()
        self._connection.close()


class World:
    """A keeper in a process of its own; `lives` are its children as they come."""

    def __init__(self, directory: Path) -> None:
        self.mark = uuid.uuid4().hex
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / "test"))
        self._listener.listen(64)
        self._listener.settimeout(BOUND_S)
        self.environ = {
            **os.environ,
            "KEEPER_TEST_SOCKET": str(directory / "test"),
            "KEEPER_TEST_MARK": self.mark,
        }
        self._waiting: list[Life] = []
        self._lives: list[Life] = []
        self.keeper: subprocess.Popen[bytes] | None = None
        self.stderr = directory / "stderr"
        self._copiers: list[int] = []

    def start(
        self,
        children: Mapping[str, Sequence[str]] | None = None,
        before: Callable[[], None] = lambda: None,
        prefix: Sequence[str] = (),
        stderr: int | None = None,
        program: Path | None = None,
        pass_fds: Sequence[int] = (),
        **seconds: float,
    ) -> subprocess.Popen[bytes]:
        """Start the keeper of these commands, or of a supervisor that is told what to do."""
        children = {"supervisor": self.scripted("supervisor")} if children is None else children
        argv = launch.command(children, **seconds)
        if program is not None:
            argv[3] = str(program)

        def prepare() -> None:
            Reaper.become_subreaper()
            before()

        # Through a pipe: it is neither a file, nor lost when nobody reads.
        with contextlib.ExitStack() as stack:
            if stderr is None:
                read_end, stderr = os.pipe()
                stack.callback(os.close, read_end)
                stack.callback(os.close, stderr)
                file = os.open(self.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
                stack.callback(os.close, file)
                actions = [(os.POSIX_SPAWN_DUP2, read_end, 0), (os.POSIX_SPAWN_DUP2, file, 1)]
                self._copiers.append(os.posix_spawnp("cat", ["cat"], {}, file_actions=actions))
            self.keeper = subprocess.Popen(
                [*prefix, *argv],
                env=self.environ,
                stderr=stderr,
                pass_fds=pass_fds,
                preexec_fn=prepare,  # noqa: PLW1509 - there are no threads
                start_new_session=True,
            )
        return self.keeper

    @property
    def pid(self) -> int:
        """The PID of the keeper."""
        assert self.keeper is not None
        return self.keeper.pid

    @staticmethod
    def scripted(name: str) -> list[str]:
        """The command of a child that is told what to do."""
        return [sys.executable, CHILD, name]

    def life(self, name: str = "supervisor") -> Life:
        """The next life of a child."""
        while True:
            for life in self._waiting:
                if life.name == name:
                    self._waiting.remove(life)
                    return life
            connection, _ = self._listener.accept()
            life = Life(connection)
            self._lives.append(life)
            self._waiting.append(life)

    def up(self, name: str = "supervisor") -> Life:
        """The next life of a child, after it has said HELLO and UP."""
        life = self.life(name)
        life("recall()")
        life("line.up()")
        life("sync()")
        return life

    def ended(self) -> int:
        """Wait for the end of the keeper; its status."""
        assert self.keeper is not None
        return self.keeper.wait(BOUND_S)

    def said(self) -> str:
        """What the keeper has written to its standard error."""
        with contextlib.suppress(FileNotFoundError):
            return self.stderr.read_text(errors="replace")
        return ""

    def until_said(self, text: str) -> None:
        """Wait until that was written there."""
        until(lambda: text in self.said())

    def descriptors(self) -> int:
        """How many descriptors the keeper has."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - only how many

    def memory_kib(self) -> int:
        """What is its own of the keeper's memory: resident, and not of a file."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0])

    def processes(self) -> dict[int, str]:
        """Everything that descends from the keeper, by the mark in its environment: the states."""
        found = {}
        for each in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if each.name.isdecimal() and self.mark.encode() in (each / "environ").read_bytes():
                    found[int(each.name)] = (each / "stat").read_text().rpartition(")")[2].split()[0]
        return found

    def close(self) -> None:
        """End everything, and look that nothing was left; harmless if that was done."""
        for life in self._lives:
            life.close()
        if self.keeper is not None:
            if self.keeper.poll() is None:
                self.keeper.kill()
            self.keeper.wait(BOUND_S)
        deadline = time.monotonic() + BOUND_S
        while left := ({*self.processes()} | our_children()) - {*self._copiers}:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            assert time.monotonic() < deadline, left
            time.sleep(0.005)
        self._listener.close()
        for copier in self._copiers:
            os.waitpid(copier, 0)
        self._copiers.clear()


def installed(directory: Path) -> Path:
    """The keeper's files, installed where a test may replace them; its program."""
    source = Path(procd.__file__).parent
    (directory / "procd").mkdir()
    shutil.copy(source / "__init__.py", directory / "procd")
    shutil.copytree(source / "keeper", directory / "procd/keeper", ignore=shutil.ignore_patterns("__pycache__"))
    return directory / "procd/keeper/__main__.py"


def until(true: Callable[[], object]) -> None:
    """Wait for what nobody announces."""
    deadline = time.monotonic() + BOUND_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A world in which a keeper can be started; at the end nothing of it is left."""
    with tempfile.TemporaryDirectory() as directory:
        made = World(Path(directory))
        try:
            yield made
        finally:
            made.close()
