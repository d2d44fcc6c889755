"""How a process ended.

Owns the value and its words.  Pure: the numbers come from whoever reaped the process (`waitid`(2)).
"""

from __future__ import annotations

from msgspec import Struct

from procd.quantities import signal_name


class Exit(Struct, frozen=True, gc=False):
    """The end of a process: an exit code, or the signal that killed it; with neither, nobody knows.

    The usage figures are what wait4(2) tells of the process and the children that it waited for: CPU seconds
    and the largest resident set in bytes; 0 where they are unknown.
    """

    code: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_bytes: int = 0

    def __str__(self) -> str:
        if self.signal is not None:
            core = " (core dumped)" if self.core_dumped else ""
            return f"killed by {signal_name(self.signal)}{core}"
        if self.code is not None:
            return f"exited with status {self.code}"
        return "ended, nobody knows how"


class Final(Struct, frozen=True):
    """The essential program that ended for good, and with it everything.

    `exit` is how its last life ended; None if there was none, or it could not be started.
    """

    name: str
    exit: Exit | None
