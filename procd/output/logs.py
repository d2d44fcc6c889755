"""All logs of a procd: which file each stream goes to, how far it reaches, who wants to know.

Knows file descriptors, paths and offsets.  Must not know programs' states, or who reads a log.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios
from typing import TYPE_CHECKING, NamedTuple

import structlog

from procd.output.log_file import LogFile

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

log = structlog.get_logger()

#: Bytes that one stream may move before the others get their turn: one flood does not starve the rest.
TURN_BYTES = 1 << 20
#: Turns that `drain` gives a pipe that a program left behind.  The largest pipe holds 1 MiB (pipe(7)).
DRAIN_TURNS = 4
#: Seconds after which a file that could not take more is tried again.
RETRY_S = 1.0


#: The output streams that a program can have.
STREAMS = ("stdout", "stderr")


class StreamKey(NamedTuple):
    """One output stream of one instance: `("web@1", "stdout")`."""

    program: str
    stream: str


def unread_bytes(pipe: int) -> int:
    """How many bytes are in a pipe (FIONREAD, pipe(7))."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


class _Log:
    """A log and its pumps: at most one pump for each life of the program that still has the pipe open."""

    __slots__ = ("file", "key", "pumps", "watchers")

    def __init__(self, key: StreamKey, file: LogFile, watchers: list[Callable[[], None]]) -> None:
        self.key = key
        self.file = file
        self.pumps: list[_Pump] = []
        self.watchers = watchers


class _Pump:
    """Moves one pipe into one log until the pipe ends."""

    __slots__ = ("_failed", "_log", "_loop", "_retry", "fd")

    def __init__(self, loop: asyncio.AbstractEventLoop, target: _Log, fd: int) -> None:
        self._loop = loop
        self._log = target
        self._retry: asyncio.TimerHandle | None = None
        self._failed = False
        self.fd = fd
        loop.add_reader(fd, self.turn)

    def turn(self) -> bool:
        """Move what is there; return whether more may be there."""
        target = self._log
        if self._retry is not None:
            return False
        try:
            moved = target.file.take_from(self.fd, TURN_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            self._pause(error)
            return False
        if self._failed:
            self._failed = False
            log.info("log is written again", program=target.key.program, path=target.file.path)
        if moved == 0:
            self.close()
            return False
        for watcher in tuple(target.watchers):
            watcher()
        return True

    def _pause(self, error: OSError) -> None:
        """Leave the bytes in the pipe, where the program waits with them, and try again later."""
        self._loop.remove_reader(self.fd)
        self._retry = self._loop.call_later(RETRY_S, self._resume)
        if not self._failed:
            self._failed = True
            log.error(
                "log cannot be written",
                program=self._log.key.program, path=self._log.file.path, reason=error.strerror,
            )  # fmt: skip

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self.fd, self.turn)

    def close(self) -> None:
        """Let go of the pipe."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self.fd)
        lost = unread_bytes(self.fd)
        if lost:
            log.error("output lost", program=self._log.key.program, path=self._log.file.path, bytes=lost)
        os.close(self.fd)
        self._log.pumps.remove(self)


class Logs:
    """The logs of all programs, by stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._logs: dict[StreamKey, _Log] = {}
        #: Kept apart from the logs: one may wait for the first byte of a program that was never started.
        self._watchers: dict[StreamKey, list[Callable[[], None]]] = {}

    def open(self, key: StreamKey, path: str) -> None:
        """Make sure that a stream has its log open at `path`.

        Raises OSError when it cannot be opened; a log that was open elsewhere then stays as it was.
        """
        present = self._logs.get(key)
        if present is not None and present.file.path == path:
            return
        file = LogFile(path)
        if present is None:
            self._logs[key] = _Log(key, file, self._watchers.setdefault(key, []))
        else:
            present.file.close()
            present.file = file

    def attach(self, key: StreamKey, read_end: int) -> None:
        """Take a non-blocking read end of a pipe over: it is moved into the log until it ends, then closed."""
        target = self._logs[key]
        target.pumps.append(_Pump(self._loop, target, read_end))

    def drain(self, key: StreamKey) -> None:
        """Move now what a dead program left in its pipes, so that it stands before what comes next."""
        target = self._logs.get(key)
        for pump in tuple(target.pumps) if target else ():
            for _ in range(DRAIN_TURNS):
                if not pump.turn():
                    break

    def drain_program(self, program: str) -> None:
        """Drain all streams of a program."""
        for stream in STREAMS:
            self.drain(StreamKey(program, stream))

    def detach(self, key: StreamKey) -> bool:
        """Close the read ends of a stream, and return whether there were any; the program gets EPIPE now."""
        self.drain(key)
        target = self._logs.get(key)
        pumps = tuple(target.pumps) if target else ()
        for pump in pumps:
            pump.close()
        return bool(pumps)

    def reaches(self, key: StreamKey) -> int:
        """How many bytes the log of a stream holds; 0 for a stream that has none open."""
        target = self._logs.get(key)
        return target.file.size if target else 0

    def watch(self, key: StreamKey, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` whenever the log has grown, or is closed; call what is returned to end that."""
        watchers = self._watchers.setdefault(key, [])
        watchers.append(watcher)

        def unwatch() -> None:
            with contextlib.suppress(ValueError):
                watchers.remove(watcher)

        return unwatch

    def forget(self, program: str) -> None:
        """Close the logs of a program that was removed, after what is left in its pipes."""
        for stream in STREAMS:
            key = StreamKey(program, stream)
            self.detach(key)
            target = self._logs.pop(key, None)
            if target is not None:
                target.file.close()
            for watcher in self._watchers.pop(key, ()):
                watcher()

    def close(self) -> None:
        """Drain and close everything."""
        for program in {key.program for key in self._logs}:
            self.forget(program)
