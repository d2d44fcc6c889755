"""How a loop learns that a child has died.

Owns SIGCHLD.  Must not know what is done then.

asyncio's way is a handler that writes a byte to a socket of the loop for every single signal.  When hundreds of
children die during one callback that socket is full, and what is lost then may be a SIGTERM.  So whoever owns
all children of its process blocks SIGCHLD and reads it from a descriptor instead (signalfd(2)), where any
number of them is one.  The price is that children inherit the mask unless they are given another, as Process
does; and that other threads, if there are any, must block it as well.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from procd.process import syscalls

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_ROOM_FOR_ONE = 128  # struct signalfd_siginfo; a standard signal is never pending twice
_PID_AT = 12  # ssi_pid


class Sigchld:
    """Calls back at least once after any number of SIGCHLD; with `blocked`, not more often than is needed.

    The callback is given the PID of a child that a signal was about, of perhaps many; 0 where it is not known.
    """

    __slots__ = ("_callback", "_fd", "_loop", "_was_blocked")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[[int], None], *, blocked: bool
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._fd = -1
        # The handler stays under a block, for the moments in which a spawn has to lift it.
        loop.add_signal_handler(signal.SIGCHLD, callback, 0)
        # A full socket wakes the loop as well as one with room: no need for a traceback on stderr.
        signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
        # A block may be inherited over an exec(2), from somebody who reads signals from a descriptor, too.
        before = signal.pthread_sigmask(signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK, {signal.SIGCHLD})
        self._was_blocked = signal.SIGCHLD in before
        if blocked:
            self._fd = syscalls.signal_descriptor(signal.SIGCHLD)
            loop.add_reader(self._fd, self._arrived)

    def _arrived(self) -> None:
        try:
            told = os.read(self._fd, _ROOM_FOR_ONE)
        except BlockingIOError:
            return
        self._callback(int.from_bytes(told[_PID_AT : _PID_AT + 4], sys.byteorder))

    def close(self) -> None:
        """Wait no longer, and let the signal through as it was before."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
        signal.pthread_sigmask(signal.SIG_BLOCK if self._was_blocked else signal.SIG_UNBLOCK, {signal.SIGCHLD})
        self._loop.remove_signal_handler(signal.SIGCHLD)
