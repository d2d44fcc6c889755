"""One life of a program: from the spawn to the last byte of its output.

Owns how a spec becomes a process.  Must not decide anything: what a life's end means is the core's business.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from procd.config import environment
from procd.config.spec import Input as InputKind
from procd.config.spec import Output
from procd.errors import SpawnError
from procd.output import StreamKey
from procd.process import NULL, Process, ProcessProtocol, Settings
from procd.process.tree import COOKIE_VARIABLE
from procd.runtime.input import Input

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from procd.config.spec import ProgramSpec
    from procd.core import Exit
    from procd.output import Logs
    from procd.process import ChildFd, Limit, Reaper


class Surroundings:
    """What all lives have in common: where they are born and what they are given."""

    __slots__ = ("environ", "limits", "logs", "loop", "reaper")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reaper: Reaper,
        logs: Logs,
        environ: Mapping[str, str],
        limits: tuple[Limit, ...],
    ) -> None:
        self.loop = loop
        self.reaper = reaper
        self.logs = logs
        self.environ = environ
        self.limits = limits


class Life(ProcessProtocol):
    """A process, its stdin, and who is told of its end."""

    __slots__ = ("_on_exited", "_on_exiting", "cookie", "input", "name", "pid")

    def __init__(
        self,
        name: str,
        cookie: str,
        on_exiting: Callable[[Life], None],
        on_exited: Callable[[Life, Exit], None],
    ) -> None:
        self.name = name
        self.cookie = cookie
        self.input: Input | None = None
        self.pid = 0
        self._on_exiting = on_exiting
        self._on_exited = on_exited

    def begin(self, spec: ProgramSpec, around: Surroundings) -> None:
        """Execute the program.

        Raises SpawnError; then nothing of this life exists: no process, no descriptor.
        """
        variables = environment.build(spec, around.environ)
        variables[COOKIE_VARIABLE] = self.cookie
        settings = Settings(
            credentials=spec.credentials,
            directory=spec.directory,
            umask=spec.umask,
            limits=around.limits,
            sole_thread=True,
        )
        with _Outputs(spec, around.logs) as outputs:
            process = Process(
                around.loop, spec.command[0], spec.command, variables, None, self,
                child_fds={0: "w" if spec.stdin is InputKind.PIPE else NULL, **outputs.child_fds},
                settings=settings, reaper=around.reaper,
            )  # fmt: skip
            outputs.hand_over()
        self.pid = process.pid
        if spec.stdin is InputKind.PIPE:
            self.input = Input(self.name, process.descriptor(0))

    # What the process tells

    def process_exiting(self) -> None:
        """It is dead and not yet reaped: its group cannot be anybody else's."""
        self._on_exiting(self)

    def in_connection_lost(self) -> None:
        """Nobody reads the stdin any more."""
        if self.input is not None:
            self.input.stop_producing()

    def process_exited(self, exit: Exit) -> None:  # noqa: A002 - the field's word
        """It was reaped."""
        self._on_exited(self, exit)


class _Outputs:
    """The output pipes of a life about to begin: made, given to the child, and their read ends to the logs."""

    __slots__ = ("_logs", "_owner", "_read_ends", "_write_ends", "child_fds")

    def __init__(self, spec: ProgramSpec, logs: Logs) -> None:
        self._logs = logs
        self._owner = spec.credentials.uid if spec.credentials else None
        self._read_ends: dict[StreamKey, int] = {}
        self._write_ends: list[int] = []
        self.child_fds: dict[int, ChildFd] = {1: NULL, 2: NULL}
        try:
            if spec.stdout_log is not None:
                self.child_fds[1] = self._pipe(StreamKey(spec.name, "stdout"), spec.stdout_log.path)
            if spec.stderr is Output.STDOUT:
                self.child_fds[2] = self.child_fds[1]
            elif spec.stderr_log is not None:
                self.child_fds[2] = self._pipe(StreamKey(spec.name, "stderr"), spec.stderr_log.path)
        except BaseException:
            self.close()
            raise

    def _pipe(self, key: StreamKey, path: str) -> int:
        try:
            self._logs.open(key, path)
        except OSError as error:
            raise SpawnError("log", error.errno or 0, path) from error
        try:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise SpawnError("pipe", error.errno or 0) from error
        self._read_ends[key] = read_end
        self._write_ends.append(write_end)
        os.set_blocking(read_end, False)
        if self._owner is not None:
            # So that a program that is not root can open /dev/stdout again, as nginx does in every container.
            os.fchown(write_end, self._owner, -1)
        return write_end

    def hand_over(self) -> None:
        """The child has the write ends: the read ends go to the logs."""
        for key in tuple(self._read_ends):
            self._logs.attach(key, self._read_ends.pop(key))

    def close(self) -> None:
        """Close what is still ours."""
        for fd in (*self._read_ends.values(), *self._write_ends):
            os.close(fd)
        self._read_ends.clear()
        self._write_ends.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
