"""`python -m procd.output.logger`: what the daemon starts, with the channel as descriptor 3."""

from __future__ import annotations

import resource
import signal
import socket

from procd.output.logger.conversation import Conversation

#: The descriptor of the channel to the daemon.
CHANNEL_FD = 3


def main() -> None:
    """Serve until the daemon says that it is over, or is gone with all its pipes."""
    # A signal to the group of the daemon must not end us: the last words of its programs come after that.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGXFSZ"):
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    # A pipe and a file for each log.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    channel = socket.socket(fileno=CHANNEL_FD)
    channel.setblocking(False)
    channel.set_inheritable(False)
    Conversation(channel).run()


if __name__ == "__main__":
    main()
