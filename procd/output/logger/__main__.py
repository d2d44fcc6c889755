"""`python -m procd.output.logger`: what the keeper starts; or the supervisor, if there is no keeper any more.

Descriptor 3 is the channel to who has started it.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import socket

from procd.keeper.line import channel_of
from procd.output.logger import rights
from procd.output.logger.conversation import Conversation
from procd.output.logger.service import Service

#: The descriptor of the channel to the daemon.
CHANNEL_FD = 3


def main() -> None:
    """Serve until it is over."""
    # A signal to the group of the daemon must not end us: the last words of its programs come after that.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGXFSZ"):
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    # A pipe and a file for each log.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    keeper = channel_of(os.environ)
    if keeper is not None:
        # The keeper sends SIGABRT to who does not answer.
        faulthandler.enable()
        rights.give_up()
        Service(keeper).run()
        return
    channel = socket.socket(fileno=CHANNEL_FD)
    channel.setblocking(False)
    channel.set_inheritable(False)
    Conversation(channel).run()


if __name__ == "__main__":
    main()
