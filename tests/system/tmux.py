"""A real tmux with one window, in which somebody works at a shell."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Self

from tests.system.daemon import BOUND_S, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PROMPT = "ready$ "


class Tmux:
    """A tmux server of its own, with a shell in a window of this size."""

    def __init__(self, place: Path, *, rows: int = 24, columns: int = 80) -> None:
        self._place = place
        self._size = (rows, columns)

    def __enter__(self) -> Self:
        rows, columns = self._size
        shell = f"PS1='{_PROMPT}' exec bash --norc --noprofile -i"
        self("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", shell)
        self.shows(_PROMPT.strip())
        return self

    def __exit__(self, *_: object) -> None:
        self("kill-server")

    def __call__(self, *words: str) -> str:
        """Run a command of tmux; what it says."""
        # What tells of the terminal of whoever tests.
        strange = {"TMUX", "COLUMNS", "LINES"}
        environment = {name: value for name, value in os.environ.items() if name not in strange}
        done = subprocess.run(
            ["tmux", "-S", str(self._place / "tmux"), "-f", "/dev/null", *words],
            check=True, capture_output=True, text=True, timeout=BOUND_S, cwd=self._place, env=environment,
        )  # fmt: skip
        return done.stdout

    def types(self, *keys: str) -> None:
        """Press keys, by tmux's names for them, or text."""
        self("send-keys", *keys)

    def resizes(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        self("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> str:
        """What is on the screen now, without the blanks at the ends of its lines."""
        return "\n".join(line.rstrip() for line in self("capture-pane", "-p").splitlines())

    def shows(self, text: str) -> str:
        """Wait until something is on the screen; the screen."""
        self._until(lambda screen: text in screen, repr(text))
        return self.screen()

    def _until(self, true: Callable[[str], bool], what: str) -> None:
        screens = [""]

        def look() -> bool:
            screens.append(self.screen())
            return true(screens[-1])

        try:
            until(look)
        except AssertionError as error:
            raise AssertionError(f"waited in vain for {what} on the screen:\n{screens[-1]}") from error

    def prompts(self) -> None:
        """Wait until the last line is the prompt of the shell."""
        self._until(lambda screen: screen.rstrip().endswith(_PROMPT.strip()), "the prompt")
