"""What tests of the output room share: pipes as a program has them, and waiting for a log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from procd.output import Logs, StreamKey
from tests.kernel.children import until

if TYPE_CHECKING:
    from pathlib import Path

WEB = StreamKey("web", "stdout")


class Pen:
    """The write end of a pipe whose read end a log has: a program, as far as the log can tell."""

    def __init__(self, logs: Logs, key: StreamKey = WEB) -> None:
        read_end, self.fd = os.pipe()
        os.set_blocking(read_end, False)
        os.set_blocking(self.fd, False)
        self.read_end = read_end
        logs.attach(key, read_end)

    def write(self, content: bytes) -> int:
        """Write what the pipe takes."""
        return os.write(self.fd, content)

    def close(self) -> None:
        """End, as a program does."""
        os.close(self.fd)


def is_open(fd: int) -> bool:
    """Whether a descriptor of ours is open."""
    return os.path.lexists(f"/proc/self/fd/{fd}")


async def until_holds(path: Path, content: bytes) -> None:
    """Wait until a file has just this content."""
    await until(lambda: path.exists() and path.read_bytes() == content)
