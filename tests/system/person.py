"""Somebody at a terminal, who runs one command on it: what they type, what they see, what is left of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any, Self

from tests.system.daemon import BOUND_S

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence

DETACH = b"\x10\x11"


class Person:
    """A terminal, and the command that leads the session on it.

    Their screen is read whenever something is waited for.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        rows: int = 24,
        columns: int = 80,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._ours, self._theirs = os.openpty()
        os.set_blocking(self._ours, False)
        termios.tcsetwinsize(self._theirs, (rows, columns))
        self.before = self.modes()
        self.seen = b""
        self._process = subprocess.Popen(
            command, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=self._take_terminal,  # noqa: PLW1509 - there is one thread
        )  # fmt: skip

    @staticmethod
    def _take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    @property
    def pid(self) -> int:
        """The PID of the command."""
        return self._process.pid

    @property
    def keyboard(self) -> int:
        """What keys are written to."""
        return self._ours

    def modes(self) -> list[Any]:
        """The modes that the terminal has now."""
        return termios.tcgetattr(self._theirs)

    @property
    def is_raw(self) -> bool:
        """Whether keys are passed on as they are typed."""
        return not self.modes()[3] & termios.ICANON

    def look(self) -> bytes:
        """Read what is on the screen; all that ever was."""
        try:
            while data := os.read(self._ours, 1 << 16):
                self.seen += data
        except BlockingIOError:
            pass
        return self.seen

    def until(self, true: Callable[[], object], what: str = "") -> None:
        """Wait for something, and go on looking."""
        deadline_s = time.monotonic() + BOUND_S
        while not true():
            assert time.monotonic() < deadline_s, f"waited in vain for {what}, saw {self.look()!r}"
            self.look()
            time.sleep(0.005)

    def sees(self, text: bytes) -> None:
        """Wait until there is a text on the screen, and look behind it from now on."""
        self.until(lambda: text in self.look(), repr(text))
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def types(self, keys: bytes) -> None:
        """Type keys, as fast as they are taken."""
        rest = keys

        def taken() -> bool:
            nonlocal rest
            try:
                rest = rest[os.write(self._ours, rest) :]
            except BlockingIOError:
                return False
            return not rest

        self.until(taken, f"{len(keys)} keys to be taken")

    def resizes(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        termios.tcsetwinsize(self._ours, (rows, columns))

    def signals(self, number: signal.Signals) -> None:
        """Signal the command."""
        self._process.send_signal(number)

    def ends(self) -> int:
        """Wait for the command to end; its exit status."""
        self.until(lambda: self._process.poll() is not None, "the command to end")
        self.look()
        assert self._process.returncode is not None
        return self._process.returncode

    def shuts_the_window(self) -> None:
        """Take the terminal away."""
        os.close(self._ours)
        self._ours = os.open(os.devnull, os.O_RDWR | os.O_NONBLOCK)
