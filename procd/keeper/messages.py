"""What the keeper and its children say to each other, and how it goes through a socket.

Owns the bytes.  The channel is a SOCK_SEQPACKET socket pair (unix(7)): datagrams keep their bounds and their
order, and the end of one side is noticed by the other.  A datagram is one message or several; a message is a
header, a key, a value, and a number of descriptors, which travel beside the bytes (SCM_RIGHTS).

A datagram that was sent lies in the queue of the *receiver*.  So what a process has told the keeper is told,
even if that process is killed the next moment; nothing has to be acknowledged.

The keeper imports this, so it imports little; and both sides may be of different versions of procd (PROTOCOL).
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import struct

TYPE_CHECKING = False  # not from typing, which would be a tenth of the keeper's memory
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: To be counted up when a message changes its meaning; the first line of HELLO, and in the record KEEPER.
PROTOCOL = 1

# A child says

#: value: the protocol, in decimal.  I have begun; give me what was kept for me.
HELLO = 1
#: I am ready for signals, and nothing is about to be adopted any more.
UP = 2
#: key, value, descriptors: keep this for me, instead of what was kept under that key.
PUT = 3
#: key: I shall not need this any more.
DROP = 4
#: As PUT, of `NAME/KEY`: keep it for the child NAME under KEY, and tell it.  For the first child only, as
#: FINISH and UPGRADE are: the others parse what nobody trusts.
GIVE = 5
#: I live (to a PING).
PONG = 6
#: value: answered by SYNCED with the same value when everything before it is done.
SYNC = 7
#: value: tell this to the service manager (sd_notify(3)).
NOTIFY = 8
#: value: an exit status in decimal.  When I have ended that is the end, on purpose.
FINISH = 9
#: Become the program that is installed now.  Answered by UPGRADED, or REFUSED with the key of UPGRADE_KEY.
UPGRADE = 10
#: value: how many bytes were written into the ring (`keeper.ring`), in decimal; what they say comes before what
#: follows here.  With a descriptor: this is the ring from now on.  For the first child only.
RING = 11
#: What may be said in a ring, of records without descriptors.
IN_A_RING = frozenset({PUT, DROP})

# The keeper says

#: key, value, descriptors: this is kept for you.
RECORD = 20
#: That was all that was kept when you said HELLO.
END = 21
#: Are you well?
PING = 22
SYNCED = 23
#: key, value: what you said of this was not done, because of value.  What was kept under the key still is.
REFUSED = 24
UPGRADED = 25

#: Verb, number of descriptors, bytes of the key, bytes of the value.
HEADER = struct.Struct("=BBHI")
#: SCM_MAX_FD: descriptors that one datagram carries (unix(7)).
MOST_FDS = 253
MOST_KEY_BYTES = 255
MOST_VALUE_BYTES = 65536
#: Every message fits into one datagram, and this into the smallest send buffer (net.core.wmem_default).
MOST_DATAGRAM_BYTES = HEADER.size + MOST_KEY_BYTES + MOST_VALUE_BYTES
#: Asked for; the kernel gives what it allows (net.core.wmem_max).
SEND_BUFFER_BYTES = 4 << 20

# The first byte of the value of a record says where the rest is; the keeper does not look at it.
HERE = b"\0"
#: In a file in memory (memfd_create(2)), the last descriptor of the record.
IN_A_FILE = b"\1"

#: Where a child finds its channel, and the environment variable that says so.
CHANNEL_FD = 3
CHANNEL_VARIABLE = "PROCD_KEEPER_FD"

#: Records that the keeper itself keeps for the first child; the lines of their values are NAME=VALUE.
KEEPER_KEY = b"keeper"
EXIT_PREFIX = b"exit:"
CHILD_PREFIX = b"child:"
ACTIVATED_PREFIX = b"activated:"
#: What was taken over from another keeper's supervisor (`inheritance`); its line `starts`: how many there were.
BEQUEST_KEY = b"bequest"
OF_THE_KEEPER = (KEEPER_KEY, EXIT_PREFIX, CHILD_PREFIX, ACTIVATED_PREFIX)
UPGRADE_KEY = b"upgrade"

#: The value of an `exit:` record: PID, wait status (wait(2)), when it was reaped (CLOCK_MONOTONIC, ns), when it
#: had started (ticks since boot, field 22 of /proc/PID/stat; 0: not known), user and system time (µs), peak
#: resident memory (KiB), whether it led its session, as the main process of a program does.
EXIT = struct.Struct("=iiQQQQQ?")

# The queue is full (EAGAIN), memory is short, or too many descriptors are on their way between processes of our
# user (unix(7)): all of that passes.
_LATER = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})


def encode(verb: int, key: bytes = b"", value: bytes = b"", fds: int = 0) -> bytes:
    """One message.  Raises ValueError when it is larger than is allowed."""
    if len(key) > MOST_KEY_BYTES or len(value) > MOST_VALUE_BYTES or fds > MOST_FDS:
        raise ValueError(f"too large: a key of {len(key)} bytes, a value of {len(value)}, {fds} descriptors")
    return HEADER.pack(verb, fds, len(key), len(value)) + key + value


def decode(datagram: bytes) -> Iterator[tuple[int, bytes, bytes, int]]:
    """Verb, key, value and number of descriptors of each message.  Raises ValueError where there is none."""
    at = 0
    while at < len(datagram):
        if len(datagram) - at < HEADER.size:
            raise ValueError("half a header")
        verb, fds, key_bytes, value_bytes = HEADER.unpack_from(datagram, at)
        key_at = at + HEADER.size
        value_at = key_at + key_bytes
        at = value_at + value_bytes
        if at > len(datagram) or key_bytes > MOST_KEY_BYTES or value_bytes > MOST_VALUE_BYTES:
            raise ValueError("a message longer than its datagram, or than is allowed")
        yield verb, datagram[key_at:value_at], datagram[value_at:at], fds


def lines(**fields: object) -> bytes:
    """NAME=VALUE, a line each."""
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode()


def fields(text: bytes) -> dict[str, str]:
    """What `lines` made."""
    return dict(line.split("=", 1) for line in text.decode(errors="replace").splitlines() if "=" in line)


def channel() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel, close-on-exec; the first does not block.  Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    ours.setblocking(False)
    return ours, theirs


#: What became of a datagram: the kernel has it, it is to be sent again later, nobody will ever read it.
SENT, LATER, LATER_UNTOLD, GONE = range(4)


def send(end: socket.socket, datagram: bytes, fds: Sequence[int] = ()) -> int:
    """Send a datagram, and say what became of it.

    SENT; LATER: it can be sent once the socket is writable; LATER_UNTOLD: the kernel will not tell when it can
    be; or GONE.  The descriptors stay open.  Raises OSError (EBADF) for a descriptor that is none.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        end.sendmsg([datagram], rights, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno in _LATER:
            return LATER if error.errno == errno.EAGAIN else LATER_UNTOLD
        if error.errno in _GONE:
            return GONE
        raise
    return SENT


def receive(end: socket.socket) -> tuple[bytes, list[int]] | None:
    """One datagram and its descriptors, which are close-on-exec; None when there is nothing more to come.

    There are fewer descriptors than the messages say when there was no room for them (MSG_CTRUNC): those of the
    first messages came.  Raises BlockingIOError when there is nothing now.
    """
    while True:
        fds = array.array("i")
        try:
            datagram, ancillary, flags, _ = end.recvmsg(
                MOST_DATAGRAM_BYTES, socket.CMSG_SPACE(MOST_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            # The other side died and had not read everything.  The kernel says so before it gives us what that
            # side had sent, which is as true as ever.
            continue
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
        if flags & socket.MSG_TRUNC:
            datagram = datagram[:1]  # longer than is allowed: no message, for `decode` too
        if datagram or fds:
            return datagram, fds.tolist()
        if has_ended(end):
            return None
        # A datagram without a byte, which nobody sends: it only looks like the end.


def has_ended(end: socket.socket) -> bool:
    """Whether the other side is gone, though it may have left something to be received."""
    poll = select.poll()
    poll.register(end, select.POLLRDHUP)
    return bool(poll.poll(0))


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that nobody wants."""
    for fd in fds:
        os.close(fd)
