"""A daemon for the logger: it holds what the real one holds, and starts the logger again when it was killed."""

# ruff: noqa: ANN401 - messages and settings are anything

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from procd.output import messages
from procd.output.board import Board
from tests.kernel import children

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Seconds for whatever is waited for.
BOUND_S = children.BOUND_S


def spec(path: Path | str, **changes: Any) -> dict[str, Any]:
    """A log as OPEN has it: raw, never rotated."""
    return {
        "program": "web",
        "instance": "0",
        "stream": "stdout",
        "path": str(path),
        "max_size": None,
        "keep": 10,
        "max_age_s": None,
        "compress": False,
        "format": "raw",
        "on_error": "drop",
    } | changes


class FakeDaemon:
    """The daemon's side of the channel, blocking, with all that it heard."""

    def __init__(self, *program: str) -> None:
        self._program = program or ("-m", "procd.output.logger")
        self.board = Board.make()
        self.stash = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        #: What every new logger is told: slot → spec, and pipe → (slot, read end, pid); and of which pipes we
        #: want to be told where they begin.
        self.specs: dict[int, dict[str, Any]] = {}
        self.pipes: dict[int, tuple[int, int, int]] = {}
        self.telling: set[int] = set()
        self.watched: set[int] = set()
        self.heard: list[list[Any]] = []
        #: All reasons of trouble.
        self.troubles: list[str] = []
        self._free = False
        self._next_pipe = 1
        self._token = 0
        self.start()

    def start(self) -> None:
        """Start a logger and tell it everything."""
        self.channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, *self._program]
        actions = [(os.POSIX_SPAWN_DUP2, other.fileno(), 3)]
        self.pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
        self._status: int | None = None
        other.close()
        messages.send(
            self.channel, [messages.BEGIN, os.getpid()], (self.board.fd, self.stash[0], self.stash[1])
        )
        for slot, log in self.specs.items():
            self.say([messages.OPEN, slot, log])
            if slot in self.watched:
                self.say([messages.WATCH, slot, True])
        for pipe, (slot, read_end, pid) in self.pipes.items():
            self.say([messages.ATTACH, slot, pipe, pid, pipe in self.telling], read_end)

    def say(self, message: list[Any], *fds: int) -> None:
        """Tell the logger."""
        try:
            messages.send(self.channel, message, fds)
        except ConnectionError:
            self.wait()

    def open(self, slot: int, log: dict[str, Any]) -> None:
        """Keep a log so."""
        self.specs[slot] = log
        self.say([messages.OPEN, slot, log])

    def attach(self, slot: int, *, pid: int = 4711, tell: bool = False) -> int:
        """Attach a new pipe; returns its write end."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_end, False)
        number, self._next_pipe = self._next_pipe, self._next_pipe + 1
        self.pipes[number] = (slot, read_end, pid)
        if tell:
            self.telling.add(number)
        self.say([messages.ATTACH, slot, number, pid, tell], read_end)
        return write_end

    def hear(self, timeout_s: float = 0.0) -> bool:
        """Hear what the logger says; returns whether there was something."""
        ready, _, _ = select.select([self.channel], [], [], timeout_s)
        if not ready:
            return False
        received = messages.receive(self.channel)
        if received is None:
            return False
        message, _ = received
        self.heard.append(message)
        if message[0] == messages.TROUBLE:
            self.troubles.append(message[2])
        if message[0] == messages.ENDED:
            os.close(self.pipes.pop(message[2])[1])
        return True

    def until(self, fact: Callable[[], object], bound_s: float = BOUND_S) -> None:
        """Listen until something is so."""
        deadline = time.monotonic() + bound_s
        while not fact():
            assert time.monotonic() < deadline, f"not in time; heard {self.heard[-10:]}"
            # What it said before it ended is still to be heard.
            ended = self.ended() is not None
            assert self.hear(0.0 if ended else 0.02) or not ended, (
                f"the logger ended with status {self._status}"
            )
        while self.hear():
            pass

    def until_or(self, fact: Callable[[], object], seconds: float) -> None:
        """Listen until something is so, or for so long."""
        deadline = time.monotonic() + seconds
        while not fact() and (left := deadline - time.monotonic()) > 0:
            self.hear(left)

    def hears(self, *start: Any) -> list[Any]:
        """Listen until a message that begins so came; returns the last one, and forgets those before."""
        found: list[list[Any]] = []

        def came() -> bool:
            found[:] = [message for message in self.heard if message[: len(start)] == list(start)]
            return bool(found)

        self.until(came)
        self.heard.clear()
        return found[-1]

    def sync(self, *slots: int) -> None:
        """Wait until what is in the pipes now is in the files."""
        self._token += 1
        self.say([messages.SYNC, self._token, list(slots)])
        self.hears(messages.SYNCED, self._token)

    def rotate(self, *slots: int) -> list[Any]:
        """Rotate logs; returns [slot, reason] of each."""
        self._token += 1
        self.say([messages.ROTATE, self._token, list(slots)])
        answer: list[Any] = self.hears(messages.ROTATED, self._token)[2]
        return answer

    def ended(self) -> int | None:
        """The exit status of the logger, negative for a signal; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self) -> int:
        """Wait for the logger to end; returns its exit status."""
        deadline = time.monotonic() + BOUND_S
        while (status := self.ended()) is None:
            assert time.monotonic() < deadline, "the logger did not end"
            time.sleep(0.001)
        return status

    def kill(self) -> None:
        """Kill the logger in the middle of whatever it does, and start another."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        while self.hear():
            pass
        self.channel.close()
        self.start()

    @staticmethod
    def reap_orphans() -> None:
        """Reap what killed loggers have left to us."""
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def close(self) -> None:
        """End the logger, and let go of everything."""
        self.say([messages.CLOSE])
        self.hears(messages.CLOSED)
        assert self.wait() == 0
        self.free()

    def free(self) -> None:
        """Let go of everything, the logger having ended or not; a second time there is nothing to do."""
        if self._free:
            return
        self._free = True
        self.channel.close()
        if self.ended() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        for _, read_end, _ in self.pipes.values():
            os.close(read_end)
        self.pipes.clear()
        for end in self.stash:
            os.close(end)
        self.board.close()


def whole_log(path: Path) -> bytes:
    """All files of a log, the oldest first, as they were before they were compressed."""
    old = [file for file in path.parent.glob(f"{path.name}.*") if file.suffix != ".tmp"]
    numbers = {int(file.name[len(path.name) + 1 :].removesuffix(".gz")): file for file in old}
    assert sorted(numbers) == list(range(1, len(old) + 1)), "a gap between the old files"
    pieces = [
        gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for _, file in sorted(numbers.items(), reverse=True)
    ]
    return b"".join([*pieces, path.read_bytes()])


STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ")


def written(log: bytes, form: str) -> bytes:
    """What a program wrote, from how it stands in its log."""
    if form == "raw":
        return log
    assert log.endswith(b"\n")
    lines = log[:-1].split(b"\n")
    if form == "timestamp":
        assert all(STAMP.match(line) for line in lines)
        return b"".join(line[28:] + b"\n" for line in lines)
    return b"".join(json.loads(line)["message"].encode("utf-8", "surrogateescape") + b"\n" for line in lines)
