"""A supervisor without its process: a runtime, its control socket and clients, on the loop of a test.

What is real: the machine, the runtime, children, pipes, log files, the socket.  What is not: signals to procd,
the configuration file, the service manager.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import TYPE_CHECKING, Any, Self

from procd.config import transient
from procd.config.spec import DaemonSpec, LogSpec, Output, ProgramSpec
from procd.control import Access, ControlServer
from procd.core import Add, Cause, Machine, Remove, Shutdown, State
from procd.errors import Refusal
from procd.output.logs import Logs
from procd.output.streams import STREAMS, StreamKey
from procd.process import Reaper
from procd.process.syscalls import PR_SET_CHILD_SUBREAPER, prctl
from procd.runtime import Runtime
from procd.runtime.life import Surroundings
from procd.runtime.logger import starter
from procd.wire import Connection, Notification, Request, Response
from tests.kernel.children import BOUND_S, program, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from procd.config.plan import Change
    from procd.core import Actor, Program
    from procd.errors import ConfigurationError
    from procd.wire import Message

TEST = Cause("test")

#: A main process that ends at SIGTERM, and one that does not, once it has said so.
WAITS = "exec sleep 1000"
DEAF = "trap '' TERM; echo deaf; exec sleep 1000"


class World:
    """Everything that a supervisor has, as a context; it is also the `Daemon` of the control room."""

    def __init__(self, place: Path, memory: Any = None) -> None:  # noqa: ANN401 - whatever is like one
        self.place = place
        self.memory = memory
        self.socket = str(place / "s")
        self.changes: tuple[Change, ...] = ()
        self.mistakes: ConfigurationError | None = None
        self.asked: list[str] = []
        self.access = Access(())
        self.runtime: Runtime
        self.logs: Logs
        self._server: ControlServer
        self._clients: list[Client] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        reaper = Reaper.of(loop)
        self.logs = Logs(loop, starter(loop, reaper, os.environ))
        self.logs.begin()
        around = Surroundings(loop, reaper, self.logs, {"PATH": "/usr/bin:/bin"}, (), self.memory)
        self.runtime = Runtime(around, Machine(lambda: 0.5))
        reaper.on_orphan = self.runtime.orphan_reaped
        self._server = ControlServer(self)
        self._server.listen(loop, self.socket, 0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self.runtime.submit(Shutdown(TEST))
        await until(self._at_rest)
        await self.logs.close(BOUND_S)
        self._server.close()
        await until(lambda: not self._server._connections)
        self.runtime.close()
        self.logs.release()
        prctl(PR_SET_CHILD_SUBREAPER, 0)

    def _at_rest(self) -> bool:
        for each in tuple(self.runtime.machine.programs.values()):
            if each.state is State.STOPPING:
                self.runtime.hurry(each.name)
        return self.runtime.machine.at_rest()

    # What a test asks for

    def spec(self, name: str = "web", command: str | list[str] = WAITS, **keys: Any) -> ProgramSpec:  # noqa: ANN401
        """Specify a program, a shell script or an argv: with a log, and ready when it is spawned."""
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
        keys.setdefault("program", name.partition("@")[0])
        keys.setdefault("min_uptime_s", 0.0)
        keys.setdefault("stop_timeout_s", BOUND_S)
        if keys.get("stdout", Output.LOG) is Output.LOG:
            keys.setdefault("stdout_log", LogSpec(str(self.log_of(name))))
        if keys.get("stderr") is Output.LOG:
            keys.setdefault("stderr_log", LogSpec(str(self.place / f"{name}.err.log")))
        return ProgramSpec(name=name, command=argv, **keys)

    def log_of(self, name: str) -> Path:
        """Where the output of a program goes."""
        return self.place / f"{name}.log"

    def add(self, *specs: ProgramSpec, start: bool = True) -> None:
        """Add programs, and start them unless told otherwise."""
        self.runtime.submit(*(Add(spec, TEST, start) for spec in specs))

    def remove(self, name: str) -> None:
        """Remove a program."""
        self.runtime.submit(Remove(name, TEST))

    def program(self, name: str = "web") -> Program:
        """Look a program up."""
        return self.runtime.machine.programs[name]

    async def until_state(self, state: State, name: str = "web") -> None:
        """Wait until a program is somewhere."""
        await until(lambda: self.program(name).state is state)

    async def until_logged(self, content: bytes, name: str = "web") -> None:
        """Wait until something stands in the log of a program."""
        path = self.log_of(name)
        await until(lambda: path.exists() and content in path.read_bytes())

    async def until_moved(self, name: str = "web") -> None:
        """Wait until what a program has written is in its logs."""
        assert await self.logs.sync([StreamKey(name, stream) for stream in STREAMS], BOUND_S)

    async def client(self) -> Client:
        """Connect to the control socket."""
        client = await Client.connect(self.socket)
        self._clients.append(client)
        return client

    # What the control room asks for

    @property
    def closing(self) -> bool:
        """Whether it is going down."""
        return self.runtime.machine.closing

    def resolve(self, name: str, written: Mapping[str, Any], *, check_files: bool) -> ProgramSpec:
        """Make the spec of a program that is in no file."""
        place = str(self.place)
        daemon = DaemonSpec(runtime_dir=place, state_dir=place, log_dir=place, socket=self.socket)
        return transient.resolve(name, written, daemon, (), uid=os.geteuid(), check_files=check_files)

    def plan(self) -> tuple[Change, ...]:
        """Give the changes that the test wants, or its mistakes."""
        if self.mistakes is not None:
            raise self.mistakes
        return self.changes

    def reload(self, actor: Actor) -> tuple[Change, ...]:
        """The same, and remember that it was asked for."""
        self.asked.append(f"reload by {actor}")
        return self.plan()

    def shutdown(self, actor: Actor) -> None:
        """Stop everything."""
        self.asked.append(f"shutdown by {actor}")
        self.runtime.submit(Shutdown(Cause("asked", actor)))


class Client:
    """A client on a raw socket, which says what it is told to and hears one message after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.wire = Connection.of_client()
        self.heard: list[Notification] = []
        self._messages: list[Message] = []
        self._last_id = 0

    @classmethod
    async def connect(cls, path: str) -> Client:
        """Connect to a socket."""
        return cls(*await asyncio.open_unix_connection(path, limit=1 << 20))

    def ask(self, method: str, /, **params: Any) -> int:  # noqa: ANN401 - what travels on the wire
        """Send a request without waiting for its answer; returns its number."""
        self._last_id += 1
        self.writer.write(self.wire.send(Request(self._last_id, method, params)))
        return self._last_id

    async def call(self, method: str, /, **params: Any) -> Any:  # noqa: ANN401 - what travels on the wire
        """Ask and wait for the answer; raises the Refusal that it may be, keeps notifications in `heard`."""
        return await self.answer(self.ask(method, **params))

    async def answer(self, number: int) -> Any:  # noqa: ANN401 - what travels on the wire
        """Wait for the answer to a request."""
        while True:
            message = await self.next()
            if isinstance(message, Notification):
                self.heard.append(message)
                continue
            assert isinstance(message, Response)
            assert message.id == number
            if message.error is not None:
                raise Refusal.from_wire(message.error)
            return message.result

    async def next(self) -> Message:
        """Wait for the next message; raises EOFError when the daemon has closed the connection."""
        async with asyncio.timeout(BOUND_S):
            while not self._messages:
                chunk = await self.reader.read(1 << 18)
                if not chunk:
                    raise EOFError
                self._messages += self.wire.receive(chunk)
        return self._messages.pop(0)

    async def notification(self) -> tuple[str, Any]:
        """Wait for the next notification: its method and what it says."""
        if self.heard:
            message: Message = self.heard.pop(0)
        else:
            message = await self.next()
        assert isinstance(message, Notification), message
        return message.method, message.params[-1]

    async def refusal(self, method: str, /, **params: Any) -> dict[str, Any]:  # noqa: ANN401 - the wire
        """Ask for what is refused, and return the refusal as it came."""
        try:
            answer = await self.call(method, **params)
        except Refusal as refusal:
            return refusal.to_wire()
        raise AssertionError(f"{method} was not refused: {answer}")

    async def until_closed(self) -> list[Message]:
        """Wait until the daemon has closed the connection; what it said before."""
        said = []
        try:
            while True:
                said.append(await self.next())
        except (EOFError, ConnectionResetError):
            return said

    def close(self) -> None:
        """Go away, with whatever is not sent yet."""
        self.writer.transport.abort()


def script(name: str, *arguments: str) -> str:
    """Give a line of shell that becomes one of tests/programs."""
    return f"exec {shlex.join(program(name, *arguments))}"
