"""All logs of a procd: which file each stream goes to, how far it reaches, who wants to know.

Knows file descriptors, paths and offsets.  Must not know programs' states, or who reads a log.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios
from collections.abc import Callable  # noqa: TC003 - the fields of a NamedTuple are looked up
from typing import TYPE_CHECKING, NamedTuple

import structlog

from procd.output.log_file import LogFile

if TYPE_CHECKING:
    import asyncio

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


class Watcher(NamedTuple):
    """Who wants to know of a log: that it has `grown`, and, once and last, why it is `over`."""

    grown: Callable[[], None]
    over: Callable[[str], None]


class _Log:
    """A log and its pumps: one for each life of the program that still has the pipe open, the oldest first.

    A file that cannot take more holds all of them: were each to try again by itself, what a new life wrote
    could come before what an old one left behind.
    """

    __slots__ = ("_failed", "_loop", "_retry", "file", "key", "pumps", "watchers")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, key: StreamKey, file: LogFile, watchers: list[Watcher]
    ) -> None:
        self._loop = loop
        self._retry: asyncio.TimerHandle | None = None
        self._failed = False
        self.key = key
        self.file = file
        self.pumps: list[_Pump] = []
        self.watchers = watchers

    @property
    def waits(self) -> bool:
        """Whether the file could not take more a moment ago."""
        return self._retry is not None

    def drain(self) -> None:
        """Move what is in the pipes now, the oldest first."""
        for pump in tuple(self.pumps):
            for _ in range(DRAIN_TURNS):
                if not pump.turn():
                    break

    def moved(self) -> None:
        """Say that the file took something."""
        if self._failed:
            self._failed = False
            log.info("log is written again", program=self.key.program, path=self.file.path)
        for watcher in tuple(self.watchers):
            watcher.grown()

    def pause(self, error: OSError) -> None:
        """Leave the bytes in the pipes, where the program waits with them, and try again later."""
        for pump in self.pumps:
            self._loop.remove_reader(pump.fd)
        self._retry = self._loop.call_later(RETRY_S, self._resume)
        if not self._failed:
            self._failed = True
            log.error(
                "log cannot be written",
                program=self.key.program, path=self.file.path, reason=error.strerror,
            )  # fmt: skip

    def _resume(self) -> None:
        self._retry = None
        for pump in self.pumps:
            self._loop.add_reader(pump.fd, pump.turn)
        self.drain()

    def end(self, reason: str) -> None:
        """Tell everybody that this log is over."""
        watchers = tuple(self.watchers)
        self.watchers.clear()
        for watcher in watchers:
            watcher.over(reason)

    def close(self) -> None:
        """Move what can be moved, and let go of the pipes and the file."""
        self.drain()
        for pump in tuple(self.pumps):
            pump.close()
        if self._retry is not None:
            self._retry.cancel()
        self.replace_file(None)

    def replace_file(self, file: LogFile | None) -> None:
        """Go on in another file, or in none."""
        self.lost(self.file.close())
        if file is not None:
            self.file = file

    def lost(self, count: int) -> None:
        """Take note of output that is in no log."""
        if count:
            log.error("output lost", program=self.key.program, path=self.file.path, bytes=count)


class _Pump:
    """Moves one pipe into one log until the pipe ends."""

    __slots__ = ("_log", "_loop", "fd")

    def __init__(self, loop: asyncio.AbstractEventLoop, target: _Log, fd: int) -> None:
        self._loop = loop
        self._log = target
        self.fd = fd
        if not target.waits:
            loop.add_reader(fd, self.turn)

    def turn(self) -> bool:
        """Move what is there; return whether more may be there."""
        target = self._log
        if target.waits:
            return False
        try:
            moved = target.file.take_from(self.fd, TURN_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            target.pause(error)
            return False
        if moved == 0:
            self.close()
            return False
        target.moved()
        return True

    def close(self) -> None:
        """Let go of the pipe."""
        self._loop.remove_reader(self.fd)
        self._log.lost(unread_bytes(self.fd))
        os.close(self.fd)
        self._log.pumps.remove(self)


class Logs:
    """The logs of all programs, by stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._logs: dict[StreamKey, _Log] = {}
        #: Kept apart from the logs: one may wait for the first byte of a program that was never started.
        self._watchers: dict[StreamKey, list[Watcher]] = {}

    def open(self, key: StreamKey, path: str) -> None:
        """Make sure that a stream has its log open at `path`.

        Raises OSError when it cannot be opened; a log that was open elsewhere then stays as it was.
        """
        present = self._logs.get(key)
        if present is not None and present.file.path == path:
            return
        file = LogFile(path)
        if present is None:
            self._logs[key] = _Log(self._loop, key, file, self._watchers.setdefault(key, []))
        else:
            present.drain()
            present.replace_file(file)
            present.end(f"the log goes on in {path}")

    def attach(self, key: StreamKey, read_end: int) -> None:
        """Take a non-blocking read end of a pipe over: it is moved into the log until it ends, then closed."""
        target = self._logs[key]
        target.pumps.append(_Pump(self._loop, target, read_end))

    def drain(self, key: StreamKey) -> None:
        """Move now what a dead program left in its pipes, so that it stands before what comes next."""
        target = self._logs.get(key)
        if target is not None:
            target.drain()

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

    def watch(self, key: StreamKey, watcher: Watcher) -> Callable[[], None]:
        """Tell `watcher` of a log, also of one that does not exist yet; call what is returned to end that."""
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
            target = self._logs.pop(key, None)
            if target is not None:
                target.close()
            for watcher in self._watchers.pop(key, ()):
                watcher.over("the program was removed")

    def close(self) -> None:
        """Drain and close everything."""
        for program in {key.program for key in self._logs}:
            self.forget(program)
