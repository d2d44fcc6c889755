"""What a process tells its user.

Owns the callbacks and their default behaviour, which is to do nothing.  Must not know how anything is learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procd.core.outcome import Exit
    from procd.process.process import Process


class ProcessProtocol:
    """The callbacks of one Process; every one is called by the loop, never from inside a call of yours.

    The exception is `connection_made`, called by the constructor of Process.  A callback that raises is logged
    and stops no other.  The order is: `connection_made`; data and losses, as they come; `process_exiting`,
    `process_exited` when it was reaped; `process_ended` when it was reaped and every pipe is lost, always last.
    """

    __slots__ = ("process",)
    process: Process

    def connection_made(self, process: Process) -> None:
        """The process was started; this is called before anything else."""
        self.process = process

    def child_data_received(self, child_fd: int, data: bytes) -> None:
        """The child wrote `data` to its descriptor `child_fd`."""
        if child_fd == 1:
            self.out_received(data)
        elif child_fd == 2:
            self.err_received(data)

    def out_received(self, data: bytes) -> None:
        """The child wrote to its standard output."""

    def err_received(self, data: bytes) -> None:
        """The child wrote to its standard error."""

    def child_connection_lost(self, child_fd: int) -> None:
        """The pipe of `child_fd` is closed: by the child, by us, or by an error."""
        if child_fd == 0:
            self.in_connection_lost()
        elif child_fd == 1:
            self.out_connection_lost()
        elif child_fd == 2:
            self.err_connection_lost()

    def in_connection_lost(self) -> None:
        """Nobody reads the child's standard input any more, or we closed it."""

    def out_connection_lost(self) -> None:
        """The child's standard output is at its end."""

    def err_connection_lost(self) -> None:
        """The child's standard error is at its end."""

    def process_exiting(self) -> None:
        """The process is dead and not yet reaped: this moment, its PID and its group are certainly its own.

        What it left in its process group can be signalled now without the risk of hitting a stranger.
        """

    def process_exited(self, exit: Exit) -> None:  # noqa: A002 - the word of the field
        """The process was reaped; its pipes may still carry data, of it or of its descendants."""

    def process_ended(self, exit: Exit) -> None:  # noqa: A002 - the same
        """The process was reaped and all its pipes are lost: nothing will follow."""
