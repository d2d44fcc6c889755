"""A process that an earlier daemon started: the same face, without a child.

Owns a pidfd, through which it is signalled.  Whoever makes one has verified that it is the process that was
recorded, and knows how it ended: only its parent can.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from procd.process.descriptor import Descriptor
from procd.process.process import Process

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from procd.core.outcome import Exit
    from procd.process.protocol import ProcessProtocol


class AdoptedProcess(Process):
    """A running process that is no child of ours; nobody reaps it here.

    `pidfd`  of just this process (pidfd_open(2)); it is taken over.  -1 for one that is dead: whoever makes it
             calls `reaped` at once
    `ends`   our ends of its pipes by its descriptor, each with what is done with it ("r", "w", "rw"; see
             `wiring`); they are taken over

    Whoever learns of its death calls `exiting`, while its number cannot be another's yet, and `reaped`.  Raises
    OSError when the loop cannot watch an end.
    """

    __slots__ = ("_pidfd",)

    def __init__(
        self,
        reactor: asyncio.AbstractEventLoop,
        pid: int,
        pidfd: int,
        command: str | bytes,
        protocol: ProcessProtocol,
        ends: Mapping[int, tuple[int, str]],
    ) -> None:
        self._begin(reactor, command, protocol)
        self.pid = pid
        self._pidfd = pidfd
        if ends:
            self._descriptors = {
                child_fd: Descriptor(reactor, self, fd, mode, child_fd) for child_fd, (fd, mode) in ends.items()
            }
        self._open = len(self._descriptors)
        self._tell(protocol.connection_made, self)

    def reap_process(self) -> None:
        """Do nothing: it is its parent's to reap."""

    def reaped(self, outcome: Exit) -> None:
        """It was reaped, by its parent."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        super().reaped(outcome)

    def _send(self, number: int) -> None:
        # Its number may be another's as soon as its parent has reaped it; this cannot.
        signal.pidfd_send_signal(self._pidfd, number)
