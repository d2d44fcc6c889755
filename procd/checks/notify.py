"""The notify socket: where programs say how they are (sd_notify(3)).

Owns the one datagram socket of the daemon, and whose word counts.  Must not know what a message leads to.

Anybody on the machine may send to it, since programs run as any user.  So the kernel says who did
(SCM_CREDENTIALS, unix(7)), and that process has to belong to the program.  A sender that is gone before its
datagram is read belongs to nobody any more: `systemd-notify` and other short-lived senders wait for that with
BARRIER=1, a descriptor that is closed when everything before it has been heard.

Descriptors that come along are taken, and closed: those that were left in the message would be closed all the
same, by the kernel and in our time.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from procd.checks.notification import MAX_BYTES, NOTHING, parse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from procd.checks.notification import Notification

    #: `recvmsg`'s list of (level, type, bytes).
    Ancillary = list[tuple[int, int, bytes]]

#: Datagrams that are read before the loop gets its turn.  A kernel queues ten of them where nobody has told it
#: otherwise (net.unix.max_dgram_qlen), and then senders wait: a flood costs the flooder, not the others.
TURN_DATAGRAMS = 64
#: Any user may connect: who is heard is decided by credentials.
SOCKET_MODE = 0o666

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_MAX_DESCRIPTORS = 253  # SCM_MAX_FD: more do not fit in a message
_ANCILLARY_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _MAX_DESCRIPTORS)
_NO_LINGER = struct.pack("ii", 0, 0)


def listen(path: str) -> socket.socket:
    """Make the socket at `path`, in place of one that an earlier daemon left there.

    Raises OSError where that is not possible.  The caller holds the lock of the directory, and owns the socket:
    its descriptor can be kept, and outlives the daemon with what is queued in it.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        # Before the name exists: a datagram that came without credentials would have no sender.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        Path(path).unlink(missing_ok=True)
        sock.bind(path)
        Path(path).chmod(SOCKET_MODE)
    except OSError:
        sock.close()
        raise
    return sock


class NotifySocket:
    """Reads what programs send, and hands it on: `on_message(name, notification)`.

    `owner_of(pid)` names the program that a process belongs to, or None; it is asked once in a turn for each
    sender.  `belongs(name, pid)` says whether a process that a program calls its main process is one of its
    own: any other MAINPID is dropped (CVE-2018-16888).  `strangers`, `malformed` and `foreign_pids` count what
    was not listened to.
    """

    __slots__ = (
        "_belongs", "_loop", "_on_message", "_owner_of", "_socket", "foreign_pids", "malformed", "strangers",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        owner_of: Callable[[int], str | None],
        belongs: Callable[[str, int], bool],
        on_message: Callable[[str, Notification], None],
    ) -> None:
        """Take the socket over, which `listen` made or a predecessor has left."""
        self._loop = loop
        self._socket = sock
        self._owner_of = owner_of
        self._belongs = belongs
        self._on_message = on_message
        self.strangers = 0
        self.malformed = 0
        self.foreign_pids = 0
        loop.add_reader(sock.fileno(), self._turn)

    def _turn(self) -> None:
        # A flood of strangers must not cost a look into /proc for each of its datagrams.
        owners: dict[int, str | None] = {}
        for _ in range(TURN_DATAGRAMS):
            if self._socket.fileno() < 0:
                return  # a message made somebody close us
            try:
                datagram, ancillary, flags, _ = self._socket.recvmsg(
                    MAX_BYTES + 1, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            descriptors = _descriptors(ancillary)
            try:
                self._hear(datagram, _sender(ancillary), flags, owners)
            finally:
                # Only now: for BARRIER=1 this is the answer that what came before was heard.
                for fd in descriptors:
                    _close(fd)

    def _hear(self, datagram: bytes, pid: int, flags: int, owners: dict[int, str | None]) -> None:
        notification = None if flags & socket.MSG_TRUNC else parse(datagram)
        if notification is None:
            self.malformed += 1
            return
        if pid not in owners:
            owners[pid] = self._owner_of(pid) if pid > 0 else None
        name = owners[pid]
        if name is None:
            self.strangers += 1
            return
        if notification.main_pid is not None and not self._belongs(name, notification.main_pid):
            self.foreign_pids += 1
            notification = replace(notification, main_pid=None)
        if notification != NOTHING:
            self._on_message(name, notification)

    def close(self) -> None:
        """Hear nothing more.  The name stays: without it a program would take us for gone for good."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()


def _sender(ancillary: Ancillary) -> int:
    """Find the PID that the kernel vouches for; 0 for a sender outside of our PID namespace."""
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(content) >= _CREDENTIALS.size:
            pid: int = _CREDENTIALS.unpack_from(content)[0]
            return pid
    return 0


def _descriptors(ancillary: Ancillary) -> array.array[int]:
    found = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return found


def _close(fd: int) -> None:
    """Close a descriptor of somebody that may wish us ill.

    Closing a socket that lingers (SO_LINGER, socket(7)) waits for its peer, and the whole daemon with it.  What
    cannot be helped from here is a file on a FUSE mount, which is flushed when it is closed.
    """
    with contextlib.suppress(OSError):
        sock = socket.socket(fileno=fd)  # fails for what is not a socket
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        finally:
            sock.detach()
    with contextlib.suppress(OSError):
        os.close(fd)
