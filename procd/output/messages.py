"""What the daemon and the logger say to each other: one datagram each, with the descriptors that belong to it.

The channel is a SOCK_SEQPACKET socket pair (unix(7)): messages keep their bounds and their order, and the end
of one side is noticed by the other.  A message is a MessagePack array whose first element is one of the verbs
below. A log is named by its *slot*, its place on the board (`board`), which the daemon gives out.  Both sides
are of one version: the daemon starts the logger.
"""

from __future__ import annotations

import array
import os
import socket

import msgpack

TYPE_CHECKING = False  # not from typing, which would be a tenth of the logger's memory
if TYPE_CHECKING:
    from typing import Any

#: Bytes of one message: far more than any has, and less than the smallest send buffer takes
#: (net.core.wmem_default).
MAX_MESSAGE_BYTES = 65536
#: Descriptors that one message carries; the kernel's bound is 253 (SCM_MAX_FD, unix(7)).
MAX_FDS = 3

# The daemon says

#: `[BEGIN, pid]` with the board, the read end and the write end of the stash: first, once.
BEGIN = "begin"
#: `[OPEN, slot, {program, instance, stream, path, max_size, keep, max_age_s, compress, format, on_error}]`:
#: keep this log so, from now on.  Again for a slot that is open: what is in its pipes goes the old way first.
OPEN = "open"
#: `[ATTACH, slot, pipe, pid, tell]` with a non-blocking read end: what process `pid` writes.  `pipe` is a
#: number that is never given twice.  The pipes of a slot are emptied in the order in which they came, as far as
#: they can be.  Answered by BEGUN if `tell`.
ATTACH = "attach"
#: `[FINISH, slot]`: who wrote to the pipes of this slot is dead.  What is in them now stands in the log before
#: anything that is attached later; a descendant that still holds one may go on writing.
FINISH = "finish"
#: `[DETACH, slot]`: move what is in its pipes, then close them: who writes gets EPIPE.  Answered by an
#: ENDED for each.
DETACH = "detach"
#: `[FORGET, slot]`: as DETACH, and the log is closed.  Answered by FORGOTTEN; then the slot may be given again.
FORGET = "forget"
#: `[WATCH, slot, wanted]`: say GROWN of this log, or do not.  Said once at the beginning, too: what came before
#: somebody wanted to know was told to nobody.
WATCH = "watch"
#: `[SYNC, token, [slot, …]]`: answered by SYNCED when what is in these pipes now is in the files.
SYNC = "sync"
#: `[ROTATE, token, [slot, …]]`: answered by ROTATED.
ROTATE = "rotate"
#: `[GAVE_UP, slot, bytes]`: so much of its output the daemon had to throw away: count it, and mark it in the
#: log.
GAVE_UP = "gave up"
#: `[CLOSE]`: move everything, say CLOSED, and end.
CLOSE = "close"

# The logger says

#: `[READY]`: it has begun.
READY = "ready"
#: `[BEGUN, slot, pipe, offset]`: what was left in earlier pipes is moved; the first byte of this one will not
#: stand before `offset`.
BEGUN = "begun"
#: `[GROWN, [slot, …]]`: watched logs have grown; the board says how far.  Several turns are told as one.
GROWN = "grown"
#: `[NO_ROOM, slot, pipe]`: no descriptor is left, so this pipe could not be taken; it is to be attached again.
NO_ROOM = "no room"
#: `[ENDED, slot, pipe]`: nobody can write to this pipe any more, or it was detached; all of it was moved,
#: and it is closed here.
ENDED = "ended"
#: `[TROUBLE, slot, reason]`: the log cannot be written; `[WELL, slot, bytes]`: it can again, and so many bytes
#: of output were dropped meanwhile.
TROUBLE = "trouble"
WELL = "well"
#: `[ROLLED, slot]`: the file was rotated.
ROLLED = "rolled"
FORGOTTEN = "forgotten"
SYNCED = "synced"
#: `[ROTATED, token, [[slot, reason], …]]`: an empty reason is success.
ROTATED = "rotated"
CLOSED = "closed"


def send(channel: socket.socket, message: list[Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message.

    Raises BlockingIOError when the other side is behind (nothing was sent then), and OSError (EPIPE,
    ECONNRESET) when it is gone.  The descriptors stay open here.
    """
    data = msgpack.packb(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(data)} bytes is too large for the channel")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> tuple[list[Any], list[int]] | None:
    """Receive one message with its descriptors, which are close-on-exec; None when the other side is gone.

    Where not all of them could be taken, because none is left here (EMFILE), it has none.  Raises
    BlockingIOError when there is no message.
    """
    while True:
        fds = array.array("i")
        try:
            data, ancillary, flags, _ = channel.recvmsg(
                MAX_MESSAGE_BYTES, socket.CMSG_LEN(MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            # The other side has ended and had not read everything.  The kernel says so once, before it gives us
            # what that side had sent, which is as true as ever (unix(7)).
            continue
        break
    for level, kind, rights in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
    if not data:
        return None
    if flags & socket.MSG_CTRUNC:
        while fds:
            os.close(fds.pop())
    return msgpack.unpackb(data), fds.tolist()
