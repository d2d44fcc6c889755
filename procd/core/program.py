"""One program as the core remembers it: facts only, no decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.core.events import Cause
from procd.core.states import Desired, State

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec
    from procd.core.outcome import Exit

NEVER_STARTED = Cause("not started yet")


class Program:
    """The record of one instance.  All times are the machine's: monotonic seconds.

    `desired`, `state` and `exit` are the three facts.  `cause` says why it is in its state.  `failures` counts
    failed starts in a row, `restarts` the lives after the first that nobody asked for.
    """

    __slots__ = (
        "cause",
        "deadline_s",
        "desired",
        "exit",
        "failures",
        "pid",
        "restarts",
        "retiring",
        "since_s",
        "spec",
        "started_s",
        "state",
        "successor",
        "wish",
    )  # fmt: skip

    def __init__(self, spec: ProgramSpec, now: float) -> None:
        self.spec = spec
        self.state = State.STOPPED
        self.desired = Desired.DOWN
        self.exit: Exit | None = None
        self.cause = NEVER_STARTED
        #: The last request: why `desired` is what it is.
        self.wish = NEVER_STARTED
        self.pid: int | None = None
        self.since_s = now
        self.started_s: float | None = None
        self.deadline_s: float | None = None
        self.failures = 0
        self.restarts = 0
        #: The spec that takes over when the present life is empty.
        self.successor: ProgramSpec | None = None
        #: It is forgotten when it is empty.
        self.retiring = False

    @property
    def name(self) -> str:
        """The name of the instance, unique among all programs."""
        return self.spec.name

    @property
    def live(self) -> bool:
        """Whether a process of it may exist."""
        return self.state in LIVE


#: States in which a process of the program may exist.
LIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
