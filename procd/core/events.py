"""What the core hears and what it says.

Facts are in the past tense, requests are the operator's verbs, actions are imperatives.  All are frozen values
without behaviour; `name` is always the name of one instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec
    from procd.core.outcome import Exit
    from procd.core.states import State


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked: the kernel's word for the peer of a connection (unix(7), SO_PEERCRED)."""

    uid: int
    pid: int

    def __str__(self) -> str:
        return f"uid {self.uid}, pid {self.pid}"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something happens, in words, and who asked for it if somebody did."""

    text: str
    actor: Actor | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.actor})" if self.actor else self.text


class Hook(Enum):
    """A command around a life (key `hooks`)."""

    BEFORE_START = "before_start"
    AFTER_READY = "after_ready"
    BEFORE_STOP = "before_stop"
    AFTER_STOP = "after_stop"


# Requests


@dataclass(frozen=True, slots=True)
class Start:
    """Somebody wants it up."""

    name: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants it down, and it stays down until somebody wants it up."""

    name: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Restart:
    """Somebody wants a new life of it."""

    name: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Add:
    """A new program; with `start`, it is wanted up."""

    spec: ProgramSpec
    cause: Cause
    start: bool


@dataclass(frozen=True, slots=True)
class Remove:
    """The program is to be stopped and forgotten."""

    name: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Change:
    """The program has another spec; with `restart`, the present life is not good enough for it."""

    spec: ProgramSpec
    cause: Cause
    restart: bool


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Everything is to be stopped, and nothing started any more."""

    cause: Cause


# Facts


@dataclass(frozen=True, slots=True)
class SpawnSucceeded:
    """The program was executed."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The program could not be executed; `reason` is a sentence for people."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The program does its work now."""

    name: str


@dataclass(frozen=True, slots=True)
class Died:
    """The main process is dead, of itself; Exited follows when others of its process group have let go, too.

    It may be left out where both are one: Exited says it then.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The main process of the program was reaped."""

    name: str
    exit: Exit


@dataclass(frozen=True, slots=True)
class Emptied:
    """No process of the program is left; answers `AwaitEmpty`.  `survivors` names what had to be killed."""

    name: str
    survivors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckPassed:
    """The health check of a program that is ready was answered well."""

    name: str


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """It was not; `final` means that one such failure is enough (a watchdog that was not fed)."""

    name: str
    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class HookEnded:
    """A hook has ended; `failure` is a sentence for people, or empty."""

    name: str
    hook: Hook
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleDue:
    """The schedule of a program says: now."""

    name: str


@dataclass(frozen=True, slots=True)
class TimeoutExtended:
    """The program asks for `seconds` from now to get ready, or to stop (EXTEND_TIMEOUT_USEC, sd_notify(3))."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class MainChanged:
    """Another process of the program is its main process now (MAINPID, sd_notify(3))."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The deadline that the program had set has passed."""

    name: str


Event: TypeAlias = (
    Start | Stop | Restart | Add | Remove | Change | Shutdown
    | SpawnSucceeded | SpawnFailed | BecameReady | Died | Exited | Emptied | DeadlinePassed
    | CheckPassed | CheckFailed | HookEnded | ScheduleDue | TimeoutExtended | MainChanged
)  # fmt: skip


# Actions


@dataclass(frozen=True, slots=True)
class Spawn:
    """Execute the program; answer with SpawnSucceeded or SpawnFailed."""

    name: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the main process, or to its whole group."""

    name: str
    signal: int
    group: bool


@dataclass(frozen=True, slots=True)
class RunHook:
    """Run a hook of the program; answer with HookEnded."""

    name: str
    hook: Hook


@dataclass(frozen=True, slots=True)
class CancelHook:
    """Kill the hook that runs; it is answered with HookEnded all the same."""

    name: str


@dataclass(frozen=True, slots=True)
class AwaitReady:
    """Ask the program whether it is ready until it is, or its life ends; answer with BecameReady."""

    name: str


@dataclass(frozen=True, slots=True)
class WatchHealth:
    """Ask the program for its health while it runs; answer with CheckPassed and CheckFailed."""

    name: str


@dataclass(frozen=True, slots=True)
class KillTree:
    """Send SIGKILL to every process of the program."""

    name: str


@dataclass(frozen=True, slots=True)
class AwaitEmpty:
    """The main process is gone: ask the rest to stop too, and answer with Emptied when nothing is left."""

    name: str


@dataclass(frozen=True, slots=True)
class Forget:
    """The program was removed; nothing will be said of it any more."""

    name: str


@dataclass(frozen=True, slots=True)
class Transition:
    """A program went from one state to another."""

    name: str
    old: State
    new: State
    cause: Cause
    at_s: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell whoever listens."""

    transition: Transition


Action: TypeAlias = (
    Spawn | Signal | KillTree | AwaitEmpty | Forget | Publish | RunHook | CancelHook | AwaitReady | WatchHealth
)
