"""A supervisor of the keeper that has nothing but logs, and does what a test tells it, as keeper_child.py does.

It is heard when it has adopted what the one before has left.
"""

import asyncio
import inspect
import os
import socket
import sys
from pathlib import Path

from procd.config.spec import LogFormat, LogSpec
from procd.keeper.client import Memory
from procd.keeper.line import Record
from procd.output import channel
from procd.output.logs import Logs
from procd.output.remembered import PREFIX
from procd.output.streams import StreamKey
from procd.process import Reaper
from procd.runtime.logger import LOGGER_KEY, KeptLogger, starter
from procd.runtime.present_memory import PresentMemory
from procd.runtime.recalled import Recalled

# Nobody can wait for what is killed that often.
channel.FIRST_DELAY_S = 0.001
channel.LONGEST_DELAY_S = 0.01

WRITER = str(Path(__file__).with_name("output_random.py"))


class Supervisor:
    """The logs, and what a test may ask of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, memory: Memory) -> None:
        self.memory = memory
        self.reaper = Reaper(loop)
        present = PresentMemory(memory)
        self.logger = KeptLogger(loop, present, starter(loop, self.reaper, os.environ))
        self.logs = Logs(loop, self.logger.start, present)
        #: How many descriptors were left of each log, and of the board.
        self.recalled: dict[str, int] = {}

    async def begin(self) -> None:
        """Go on where another was killed."""
        recalled = Recalled(await self.memory.recall())
        self.memory.on_record = self._on_record
        self.memory.on_lost = self.logger.keeper_lost
        self.logger.adopt(recalled)
        records = recalled.of(PREFIX)
        self.recalled = {name: len(record.fds) for name, record in records.items()}
        self.logs.adopt(records)
        recalled.close()
        self.logs.begin()
        self.memory.up()

    def _on_record(self, record: Record) -> None:
        if record.key == LOGGER_KEY:
            self.logger.told(record)
        record.close()

    def open(self, name: str, path: str, form: str = "raw", max_size: int | None = None) -> None:
        """Keep a log."""
        spec = LogSpec(path, max_size, 1000, format=LogFormat(form))
        self.logs.open(StreamKey(name, "stdout"), spec)

    def write(self, name: str, seed: int, size: int, *awaited: str) -> int:
        """Start a program that writes random bytes into a log, the last when there is an awaited file."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_end, False)
        argv = [sys.executable, WRITER, str(seed), str(size), *awaited]
        actions = [(os.POSIX_SPAWN_DUP2, write_end, 1)]
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
        os.close(write_end)
        self.logs.attach(StreamKey(name, "stdout"), read_end, pid)
        return pid

    def left(self) -> int:
        """How many pipes have not ended."""
        return sum(1 for _ in self.logs._slots.pipes())

    async def synced(self, name: str) -> bool:
        """Whether what was written is in the log."""
        return await self.logs.sync([StreamKey(name, "stdout")], 20.0)

    async def answers(self) -> bool:
        """Whether the logger serves us."""
        reasons = await self.logs.rotate([slot.key for slot in self.logs._slots], 10.0)
        return "the logger does not answer" not in reasons.values()

    def extent(self, name: str) -> tuple[int, int, int]:
        """Where the file begins, how far the log reaches, and how much is in no log."""
        key = StreamKey(name, "stdout")
        return self.logs.starts(key), self.logs.reaches(key), self.logs.dropped(key)

    async def close(self) -> None:
        """End the logger, as at a shutdown."""
        await self.logs.close(20.0)


async def main() -> None:
    """Do as the test says, until it is over."""
    loop = asyncio.get_running_loop()
    memory = Memory.of(loop, os.environ)
    assert memory is not None
    here = Supervisor(loop, memory)
    test = socket.socket(socket.AF_UNIX)
    test.connect(os.environ["KEEPER_TEST_SOCKET"])
    test.sendall(f"{sys.argv[1]} {os.getpid()}\n".encode())
    await here.begin()
    lines, _ = await asyncio.open_connection(sock=test.dup())
    while code := await lines.readline():
        answer = eval(code, {"here": here, "os": os})  # noqa: S307 - it comes from the test
        if inspect.isawaitable(answer):
            answer = await answer
        await loop.sock_sendall(test, f"{answer!r}\n".encode())
    # The test is over.
    os._exit(0)


asyncio.run(main())
