"""Processes of the operating system, on any asyncio loop.

Owns everything between a command and its end: descriptors, credentials, limits, starting, reaping, the tree of
descendants.  Must not know programs, configuration files or the rest of procd; it can be used without them, as
docs/how-to/embed-process.md shows.
"""

from procd.config.spec import Credentials
from procd.core.outcome import Exit
from procd.errors import BufferFull, DescriptorClosed, ProcessExitedAlready, SpawnError
from procd.process.adopted import AdoptedProcess
from procd.process.credentials import credentials_for
from procd.process.descriptor import Descriptor, Producer, PullProducer
from procd.process.kill_tree import TreeKiller, kill_tree
from procd.process.process import Process
from procd.process.protocol import ProcessProtocol
from procd.process.reaper import Reaper
from procd.process.settings import Limit, Settings
from procd.process.tap import Tap
from procd.process.terminal import Terminal
from procd.process.tree import Member, Snapshot
from procd.process.wiring import NULL, READ, STDOUT, WRITE, ChildFd

__all__ = [
    "NULL", "READ", "STDOUT", "WRITE", "AdoptedProcess", "BufferFull", "ChildFd", "Credentials", "Descriptor",
    "DescriptorClosed", "Exit", "Limit", "Member", "Process", "ProcessExitedAlready", "ProcessProtocol",
    "Producer", "PullProducer", "Reaper", "Settings", "Snapshot", "SpawnError", "Tap", "Terminal", "TreeKiller",
    "credentials_for", "kill_tree",
]  # fmt: skip
