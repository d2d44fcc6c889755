"""What a pidfd knows of an end, on kernels that tell."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from procd.process.pidfd import exit_of

if TYPE_CHECKING:
    from procd.process import Exit


def ended(code: int | None, number: int | None = None) -> Exit:
    """Let a child end, reap it, and ask the descriptor that was opened while it lived."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "read line; exit ${line:-9}"], {}, file_actions=STDIN)
    pidfd = os.pidfd_open(pid)
    try:
        assert exit_of(pidfd) is None, "it lives"
        if number is None:
            os.write(WRITE_END, b"%d\n" % (code or 0))
        else:
            os.kill(pid, number)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert exit_of(pidfd) is None, "it is not reaped"
        os.waitpid(pid, 0)
        found = exit_of(pidfd)
        if found is None:
            pytest.skip(f"Linux {os.uname().release} does not tell (6.15 does)")
        return found
    finally:
        os.close(pidfd)


READ_END, WRITE_END = os.pipe2(os.O_CLOEXEC)
STDIN = [(os.POSIX_SPAWN_DUP2, READ_END, 0)]


def test_an_exit_status_is_known_after_the_reaping() -> None:
    """As wait(2) would have told it."""
    assert [ended(code).code for code in (0, 7, 255)] == [0, 7, 255]


def test_a_signal_is_known_after_the_reaping() -> None:
    """Also whether there is a core."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        found = ended(None, number)
        assert (found.signal, found.code, found.core_dumped) == (number, None, False)


def test_what_is_no_pidfd_knows_nothing() -> None:
    """An older kernel answers as a pipe does."""
    assert exit_of(READ_END) is None
