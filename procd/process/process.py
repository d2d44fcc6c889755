"""A process of the operating system on an asyncio loop: the ancestor's Process.

Owns one child from spawn to end: its PID, its pipes, its outcome, and the order in which its protocol is told.
Must not know what the child is for.

Two facts at the end stay two: it *exited* when it was reaped, it *ended* when it was reaped and every pipe of
ours to it is lost.  In between, descendants that hold its pipes may still write.
"""

from __future__ import annotations

import errno
import os
import signal as signals
import termios
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from procd.errors import DescriptorClosed, ProcessExitedAlready, SpawnError
from procd.process.credentials import settle
from procd.process.descriptor import Descriptor
from procd.process.launch import Launch, encode_arguments, encode_environment, find_candidates
from procd.process.reaper import Reaper
from procd.process.settings import DEFAULT_SETTINGS
from procd.process.spawn import spawn
from procd.process.terminal import set_cooked, set_raw
from procd.process.wiring import Wiring
from procd.quantities import parse_signal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from procd.core.outcome import Exit
    from procd.process.descriptor import Producer, PullProducer
    from procd.process.protocol import ProcessProtocol
    from procd.process.settings import Settings
    from procd.process.terminal import Terminal
    from procd.process.wiring import ChildFd

_log = structlog.get_logger(__name__)


#: Of a process without pipes to us: a thousand empty dictionaries are memory, too.
_NO_DESCRIPTORS: Mapping[int, Descriptor] = MappingProxyType({})


class Process:
    """A child process with pipes; it is started by the constructor.

    `reactor`      an asyncio loop
    `command`      the file to execute, searched on the child's PATH when it has no slash
    `args`         the whole argv, its name first
    `environment`  of the child; None: ours, {}: none
    `path`         the directory to start in; goes before that of `settings`
    `protocol`     whom to tell
    `uid`, `gid`   who the child shall be; the supplementary groups are looked up.  Callers who know all of it
                   give `settings.credentials`
    `child_fds`    the child's descriptors, see `wiring`; by default three pipes, or those of the terminal
    `settings`     everything else, see Settings
    `reaper`       who reaps it; by default the one of the loop
    `terminal`     a terminal instead of the three pipes: `write` goes to it, and its output comes as that of
                   descriptor 1.  Its halves cannot be closed alone; `lose_connection` hangs up
    `before_spawn` is called with our ends, by the child's descriptor, when there is no child yet: whoever is to
                   outlive us learns of them in time.  What it raises is raised, and there is no process

    Raises SpawnError(stage, errno, subject); then no process, no zombie and no descriptor is left.
    """

    __slots__ = ("_descriptors", "_ended", "_loop", "_open", "_reaper", "command", "exit", "pid", "protocol")

    exit: Exit | None
    pid: int

    def __init__(  # noqa: PLR0913, PLR0917 - the ancestor's signature, and what came since by name
        self,
        reactor: asyncio.AbstractEventLoop,
        command: str | bytes,
        args: Sequence[str | bytes],
        environment: Mapping[str, str] | Mapping[bytes, bytes] | None,
        path: str | bytes | None,
        protocol: ProcessProtocol,
        uid: int | None = None,
        gid: int | None = None,
        *,
        child_fds: Mapping[int, ChildFd] | None = None,
        settings: Settings = DEFAULT_SETTINGS,
        reaper: Reaper | None = None,
        terminal: Terminal | None = None,
        before_spawn: Callable[[Mapping[int, int]], None] | None = None,
    ) -> None:
        self._begin(reactor, command, protocol)
        self._reaper = Reaper.of(reactor) if reaper is None else reaper
        settings = settle(settings, path, uid, gid)
        credentials = settings.credentials
        variables = encode_environment(environment)
        arguments = encode_arguments(args)
        candidates = find_candidates(command, variables, directory_changes=settings.directory is not None)
        wiring = Wiring(child_fds, terminal, None if credentials is None else credentials.uid)
        try:
            if before_spawn is not None:
                before_spawn(wiring.ours)
            self.pid = spawn(
                Launch(candidates, arguments, variables, tuple(wiring.moves), settings, wiring.terminal)
            )
        except BaseException:
            wiring.abandon()
            raise
        wiring.close_passed()
        self._connect(wiring)
        self._reaper.watch(self.pid, self)
        self._tell(protocol.connection_made, self)

    def _begin(self, loop: asyncio.AbstractEventLoop, command: str | bytes, protocol: ProcessProtocol) -> None:
        self._loop = loop
        self._descriptors = _NO_DESCRIPTORS
        self._open = 0
        self._ended = False
        self.command = command
        self.protocol = protocol
        self.exit = None

    def _connect(self, wiring: Wiring) -> None:
        """Watch our ends of the pipes; if the loop cannot, there shall be no process either."""
        descriptors: dict[int, Descriptor] = {}
        if wiring.modes:
            self._descriptors = descriptors
        try:
            for child_fd, mode in wiring.modes.items():
                descriptors[child_fd] = Descriptor(self._loop, self, wiring.ours[child_fd], mode, child_fd)
        except BaseException as error:
            for descriptor in self._descriptors.values():
                descriptor.detach()
            wiring.abandon()
            os.kill(self.pid, signals.SIGKILL)
            os.waitpid(self.pid, 0)
            if isinstance(error, OSError):
                raise SpawnError("watch", error.errno or errno.EIO) from error
            raise
        self._open = len(self._descriptors)

    def __repr__(self) -> str:
        return f"<Process {os.fsdecode(self.command)!r}, pid {self.pid}, {self.exit or 'running'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a live process cannot be pickled or copied; keep its PID and start time instead")

    # What can be asked

    @property
    def log_context(self) -> dict[str, object]:
        """Who this is, to be bound to a logger; the ancestor's logPrefix."""
        return {"command": os.fsdecode(self.command), "pid": self.pid}

    @property
    def exited(self) -> bool:
        """It was reaped; the ancestor's lostProcess."""
        return self.exit is not None

    @property
    def ended(self) -> bool:
        """It was reaped, and every pipe is lost."""
        return self._ended

    @property
    def lost_in_connection(self) -> bool:
        """There is no pipe to its standard input, or no more."""
        return self._input is None or self._input.disconnected

    @property
    def lost_out_connection(self) -> bool:
        """There is no pipe from its standard output, or no more."""
        return self._lost(1)

    @property
    def lost_err_connection(self) -> bool:
        """There is no pipe from its standard error, or no more."""
        return self._lost(2)

    def _lost(self, child_fd: int) -> bool:
        descriptor = self._descriptors.get(child_fd)
        return descriptor is None or descriptor.disconnected

    def descriptor(self, child_fd: int) -> Descriptor:
        """Our end of the pipe at the child's descriptor `child_fd`; also when it is closed, for its figures.

        Raises KeyError when there never was one.
        """
        return self._descriptors[child_fd]

    def fileno(self, child_fd: int = 1) -> int:
        """The descriptor that is polled for the child's `child_fd`; -1 when there is none."""
        descriptor = self._descriptors.get(child_fd)
        return -1 if descriptor is None else descriptor.fileno()

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write to its standard input; see Descriptor.write."""
        self.write_to_child(0, data)

    def write_sequence(self, chunks: Iterable[bytes]) -> None:
        """Write chunks to its standard input, in order."""
        self.write(b"".join(chunks))

    def write_to_child(self, child_fd: int, data: bytes | bytearray | memoryview) -> None:
        """Write to any descriptor of the child that is a pipe to it.

        Raises DescriptorClosed when there is no such pipe (the ancestor loses the data silently).
        """
        descriptor = self._input if child_fd == 0 else self._descriptors.get(child_fd)
        if descriptor is None:
            raise DescriptorClosed(f"descriptor {child_fd} of the child is no pipe of ours")
        descriptor.write(data)

    def register_producer(
        self,
        producer: Producer | PullProducer,
        streaming: bool,  # noqa: FBT001 - the ancestor's signature
    ) -> None:
        """Let `producer` feed its standard input; if there is none the producer is stopped at once."""
        descriptor = self._input
        if descriptor is None:
            producer.stop_producing()
        else:
            descriptor.register_producer(producer, streaming)

    def unregister_producer(self) -> None:
        """The producer of its standard input has written its last."""
        if self._input is not None:
            self._input.unregister_producer()

    @property
    def _input(self) -> Descriptor | None:
        return self._terminal or self._descriptors.get(0)

    # A terminal

    @property
    def _terminal(self) -> Descriptor | None:
        descriptor = self._descriptors.get(1)
        return descriptor if descriptor is not None and descriptor.mode == "rw" else None

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal; its foreground gets SIGWINCH.  Raises DescriptorClosed without one."""
        termios.tcsetwinsize(self._live_terminal(), (rows, columns))

    def set_raw(self) -> None:
        """Let every byte pass its terminal unchanged."""
        set_raw(self._live_terminal())

    def set_cooked(self) -> None:
        """Let its terminal echo, edit lines and make signals of control characters."""
        set_cooked(self._live_terminal())

    def _live_terminal(self) -> int:
        terminal = self._terminal
        if terminal is None or not terminal.connected:
            raise DescriptorClosed("the process has no terminal, or no more")
        return terminal.fileno()

    # Reading

    def pause_producing(self) -> None:
        """Read none of its output; it will wait when its pipes are full."""
        for descriptor in self._descriptors.values():
            descriptor.pause_producing()

    def resume_producing(self) -> None:
        """Read all of its output again."""
        for descriptor in self._descriptors.values():
            descriptor.resume_producing()

    def stop_producing(self) -> None:
        """Want nothing more from it."""
        self.lose_connection()

    def detach_child_fd(self, child_fd: int) -> int:
        """Give our end of a pipe away: it is not watched or closed here, and `ended` does not wait for it."""
        fd = self._descriptors[child_fd].detach()
        self._open -= 1
        self._loop.call_soon(self.maybe_call_process_ended)
        return fd

    # Closing

    def close_stdin(self) -> None:
        """Close the pipe to its standard input, when everything accepted is written."""
        self.close_child_fd(0)

    def close_stdout(self) -> None:
        """Close the pipe from its standard output: writing there, it gets SIGPIPE."""
        self.close_child_fd(1)

    def close_stderr(self) -> None:
        """Close the pipe from its standard error."""
        self.close_child_fd(2)

    def close_child_fd(self, child_fd: int) -> None:
        """Close our end of a pipe, one to the child when it is flushed; harmless if there is none.

        A terminal has no halves and is not closed by this.
        """
        descriptor = self._descriptors.get(child_fd)
        if descriptor is not None and descriptor is not self._terminal:
            descriptor.lose_connection()

    def lose_connection(self) -> None:
        """Close all pipes; those to the child are flushed first."""
        for descriptor in self._descriptors.values():
            descriptor.lose_connection()

    # Signals

    def signal_process(self, signal: str | int, *, group: bool = False) -> None:
        """Send a signal, by name or number, to the process or to all of its process group.

        Raises ProcessExitedAlready once it was reaped; until then its PID is nobody else's.  ValueError for a
        signal that there is not, or the group of a process that has none of its own; PermissionError.
        """
        number = parse_signal(signal)
        if self.exit is not None:
            raise ProcessExitedAlready(f"process {self.pid} was reaped: {self.exit}")
        try:
            if not group:
                self._send(number)
            elif os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                raise ValueError(f"process {self.pid} is in a process group that is not its own")
        except ProcessLookupError as error:
            raise ProcessExitedAlready(f"process {self.pid} was reaped by somebody else") from error

    def _send(self, number: int) -> None:
        os.kill(self.pid, number)

    # What is told to us: by the reaper, and by the descriptors

    def reap_process(self) -> None:
        """Reap it now if it is dead.  Never blocks; called again it does nothing."""
        self._reaper.reap(self.pid)

    def exiting(self) -> None:
        """It is dead and not reaped yet."""
        self._tell(self.protocol.process_exiting)

    def reaped(self, outcome: Exit) -> None:
        """It was reaped."""
        self.exit = outcome
        self._tell(self.protocol.process_exited, outcome)
        self.maybe_call_process_ended()

    def descriptor_received(self, child_fd: int, data: bytes) -> None:
        """It wrote something."""
        self._tell(self.protocol.child_data_received, child_fd, data)

    def descriptor_lost(self, child_fd: int, reason: Exception | None) -> None:
        """A pipe is lost."""
        del reason  # the descriptor's own log has it, where it is not in order
        self._open -= 1
        self._tell(self.protocol.child_connection_lost, child_fd)
        self.maybe_call_process_ended()

    def maybe_call_process_ended(self) -> None:
        """Tell the end, once, when both halves of it have come."""
        if self.exit is not None and not self._open and not self._ended:
            self._ended = True
            self._tell(self.protocol.process_ended, self.exit)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401 - whatever it takes
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001 - a callback that raises does not stop the others
            name = getattr(callback, "__name__", repr(callback))
            _log.exception("callback of a process failed", callback=name, **self.log_context)
