"""The system's journal as a program's output: the stream that sd_journal_stream_fd(3) makes.

The journal learns the PID of each writer from the kernel, so procd, which connects, is not taken for the
program.
"""

from __future__ import annotations

import errno
import os
import socket

#: Where systemd-journald takes streams.
SOCKET = "/run/systemd/journal/stdout"

#: LOG_INFO (syslog(3)), which systemd takes for both streams, too.
_PRIORITY = 6
_BUFFER_BYTES = 8 << 20


def connect(path: str, identifier: str) -> int:
    """Connect to the journal; a descriptor to write lines to, which the caller owns.

    `identifier` is what the lines are listed under (SYSLOG_IDENTIFIER).  A line that begins with `<N>` has
    priority N (sd-daemon(3)).  Raises OSError, also when the journal is too busy to take a connection now.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with stream:
        # As sd_journal_stream_fd(3) does, so that a program waits less (socket(7), wmem_max).
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        try:
            stream.connect(path)
        except BlockingIOError as error:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path) from error
        stream.shutdown(socket.SHUT_RD)
        # Identifier, unit (whose process it is tells the journal), priority, that of a line counts, and to
        # neither syslog, kernel log nor console.
        header = f"{identifier}\n\n{_PRIORITY}\n1\n0\n0\n0\n".encode()
        sent = stream.send(header)
        if sent != len(header):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        # A program's standard output blocks.
        stream.setblocking(True)
        return stream.detach()
