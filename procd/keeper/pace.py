"""How long the keeper waits for whom."""

from __future__ import annotations

TYPE_CHECKING = False  # as in `messages`
if TYPE_CHECKING:
    from collections.abc import Iterable


class Pace:
    """Seconds, each to be given as an argument `beat=10`.

    `beat`      between two questions whether a child is well
    `patience`  for its answer; then it is sent SIGABRT
    `start`     until it says that it is up; the same
    `grace`     after SIGABRT until SIGKILL, and for each step of the end
    `longest`   until who dies again and again is started again
    """

    __slots__ = ("beat_s", "grace_s", "longest_s", "patience_s", "start_s")

    def __init__(self) -> None:
        self.beat_s = 10.0
        self.patience_s = 10.0
        self.start_s = 120.0
        self.grace_s = 5.0
        self.longest_s = 5.0

    def take(self, arguments: Iterable[str]) -> None:
        """Take what is given.  Raises ValueError for what is not understood."""
        for argument in arguments:
            name, _, seconds = argument.partition("=")
            if name + "_s" not in self.__slots__:
                raise ValueError(f"{argument} is none of {', '.join(self.__slots__)}")
            setattr(self, name + "_s", float(seconds))
