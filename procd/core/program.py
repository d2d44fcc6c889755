"""One program as the core remembers it: facts only, no decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.core.events import Cause
from procd.core.states import Desired, State

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec
    from procd.core.events import Hook, Transition
    from procd.core.outcome import Exit
    from procd.core.states import Trigger

NEVER_STARTED = Cause("not started yet")

#: Transitions that are remembered for `why`; two lives, with what ended the first.
REMEMBERED = 8

#: States in which a process of the program may exist.
LIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})

#: States without a process that lead to one by themselves.
_PENDING = frozenset({State.WAITING, State.BACKOFF})

#: States that are not rest.
ACTIVE = LIVE | _PENDING


class Program:
    """The record of one instance.  All times are the machine's: monotonic seconds.

    `desired`, `state` and `exit` are the three facts.  `cause` says why it is in its state, `wish` why it is
    desired as it is.  `number` is its place among all programs, in the order in which they were added.
    `failures` counts failed starts in a row, `failed_at_s` has their times as far as the start limit looks
    back; `restarts` counts the lives after the first that nobody asked for.
    """

    __slots__ = (
        "after", "armed", "cancelled", "cause", "deadline_s", "desired", "died_s", "empty", "exit",
        "failed_at_s", "failures", "health", "health_failures", "health_reason", "held", "history", "hook",
        "killed", "name", "number", "pid", "queued", "restarts", "retiring", "since_s", "skipped", "spawning",
        "spec", "started_s", "state", "step", "stuck", "successor", "wish", "withdrawn",
    )  # fmt: skip

    def __init__(self, spec: ProgramSpec, now: float, number: int = 0) -> None:
        self.spec = spec
        #: Unique among all programs; any other spec has it, too.
        self.name = spec.name
        self.number = number
        self.state = State.STOPPED
        self.desired = Desired.DOWN
        self.exit: Exit | None = None
        self.cause = NEVER_STARTED
        self.wish = NEVER_STARTED
        self.pid: int | None = None
        self.since_s = now
        self.started_s: float | None = None
        self.deadline_s: float | None = None
        self.failures = 0
        self.failed_at_s: tuple[float, ...] = ()
        self.restarts = 0
        self.history: tuple[Transition, ...] = ()
        # Its wish
        #: Somebody stopped it: only somebody can start it again, nothing else does.
        self.held = False
        #: It is held, or runs and is to stop because something that it needs is withdrawn.
        self.withdrawn = False
        #: Its schedule is obeyed; `skipped` counts the times at which it still ran.
        self.armed = False
        self.skipped = 0
        #: Its ticket in the queue for a start slot, the lowest is the first; 0: it does not stand there.
        self.queued = 0
        #: The spec that takes over when the present life is empty.
        self.successor: ProgramSpec | None = None
        #: It is forgotten when it is empty.
        self.retiring = False
        # Its life
        #: It was asked to be executed, and there is no answer yet.
        self.spawning = False
        #: When its main process died, while others of its group still have to.
        self.died_s: float | None = None
        #: None: not asked, or not answered yet in this life.
        self.health: bool | None = None
        self.health_failures = 0
        self.health_reason = ""
        #: The hook that runs, at most one, and whether it was told to end.
        self.hook: Hook | None = None
        self.cancelled = False
        # Its stop
        #: The step of `stop` it is in; -1: none yet.
        self.step = -1
        #: SIGKILL was sent to everything of it.
        self.killed = False
        #: No process of it is left, but perhaps one of a hook.
        self.empty = False
        #: What follows when procd itself has stopped it, and it is empty.
        self.after: Trigger | None = None
        #: It was killed, and something of it does not die: nothing is started beside that.
        self.stuck = False

    @property
    def live(self) -> bool:
        """Whether a process of it may exist."""
        return self.state in LIVE

    def uptime_s(self, now: float) -> float:
        """Seconds since its last start; 0 before the first."""
        return 0.0 if self.started_s is None else now - self.started_s

    def after_start_s(self, seconds: float) -> float:
        """The moment so many seconds after its last start."""
        return (self.started_s or 0.0) + seconds

    def begin_stop(self) -> None:
        """Forget how the last stop went."""
        self.step = -1
        self.killed = False
        self.cancelled = False
        self.empty = self.pid is None and not self.spawning
