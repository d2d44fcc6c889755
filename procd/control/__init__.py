"""The control socket: who may ask what, and the answers.

Owns the Unix socket, its connections, the table of methods and the streams.  Must not know how a program is
run: it asks the runtime, and the daemon as a whole, through `Daemon`.
"""

from procd.control.access import Access
from procd.control.daemon import Daemon
from procd.control.server import ControlServer

__all__ = ["Access", "ControlServer", "Daemon"]
