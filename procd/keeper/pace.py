"""How long the keeper waits for whom."""

from __future__ import annotations

TYPE_CHECKING = False  # as in `messages`
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Later than anything that is due.
FOR_EVER_S = float("inf")


class Pace:
    """Seconds, each to be given as an argument `beat=30`.

    `beat`      between two questions whether a child is well; 0: nobody is asked
    `patience`  for its answer; then it is sent SIGABRT
    `start`     until it says that it is up; the same
    `grace`     after SIGABRT until SIGKILL, and for each step of the end
    `longest`   until who dies again and again is started again
    """

    __slots__ = ("beat_s", "grace_s", "longest_s", "patience_s", "start_s")

    def __init__(self) -> None:
        self.beat_s = 30.0
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

    def between_beats_s(self, watchdog_s: float) -> float:
        """How long nothing has to be done while all is well: for ever, if nobody is asked and nobody counts.

        A service manager that waits for a word for `watchdog_s` (0: it does not) gets it twice as often.
        """
        return min((seconds for seconds in (self.beat_s, watchdog_s / 2) if seconds), default=FOR_EVER_S)
