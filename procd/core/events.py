"""What the core hears and what it says.

Facts are in the past tense, requests are the operator's verbs, actions are imperatives.  All are frozen values
without behaviour; `name` is always the name of one instance.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from procd.config.spec import ProgramSpec
    from procd.core.outcome import Exit
    from procd.core.states import State


class Actor(Struct, frozen=True, gc=False):
    """Who asked: the kernel's word for the peer of a connection (unix(7), SO_PEERCRED)."""

    uid: int
    pid: int

    def __str__(self) -> str:
        return f"uid {self.uid}, pid {self.pid}"


class Cause(Struct, frozen=True, gc=False):
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


class Start(Struct, frozen=True):
    """Somebody wants it up."""

    name: str
    cause: Cause


class Stop(Struct, frozen=True):
    """Somebody wants it down, and it stays down until somebody wants it up."""

    name: str
    cause: Cause


class Restart(Struct, frozen=True):
    """Somebody wants a new life of it."""

    name: str
    cause: Cause


class Add(Struct, frozen=True):
    """A new program; with `start`, it is wanted up."""

    spec: ProgramSpec
    cause: Cause
    start: bool


class Remove(Struct, frozen=True):
    """The program is to be stopped and forgotten."""

    name: str
    cause: Cause


class Change(Struct, frozen=True):
    """The program has another spec; with `restart`, the present life is not good enough for it."""

    spec: ProgramSpec
    cause: Cause
    restart: bool


class Shutdown(Struct, frozen=True):
    """Everything is to be stopped, and nothing started any more."""

    cause: Cause


# Facts


class SpawnSucceeded(Struct, frozen=True):
    """The program was executed."""

    name: str
    pid: int


class SpawnFailed(Struct, frozen=True):
    """The program could not be executed; `reason` is a sentence for people."""

    name: str
    reason: str


class BecameReady(Struct, frozen=True):
    """The program does its work now."""

    name: str


class Died(Struct, frozen=True):
    """The main process is dead, of itself; Exited follows when others of its process group have let go, too.

    It may be left out where both are one: Exited says it then.
    """

    name: str


class Exited(Struct, frozen=True):
    """The main process of the program was reaped."""

    name: str
    exit: Exit


class Emptied(Struct, frozen=True):
    """No process of the program is left; answers `AwaitEmpty`.  `survivors` names what had to be killed."""

    name: str
    survivors: tuple[str, ...] = ()


class CheckPassed(Struct, frozen=True):
    """The health check of a program that is ready was answered well."""

    name: str


class CheckFailed(Struct, frozen=True):
    """It was not; `final` means that one such failure is enough (a watchdog that was not fed)."""

    name: str
    reason: str
    final: bool = False


class HookEnded(Struct, frozen=True):
    """A hook has ended; `failure` is a sentence for people, or empty."""

    name: str
    hook: Hook
    failure: str = ""


class ScheduleDue(Struct, frozen=True):
    """The schedule of a program says: now."""

    name: str


class TimeoutExtended(Struct, frozen=True):
    """The program asks for `seconds` from now to get ready, or to stop (EXTEND_TIMEOUT_USEC, sd_notify(3))."""

    name: str
    seconds: float


class MainChanged(Struct, frozen=True):
    """Another process of the program is its main process now (MAINPID, sd_notify(3))."""

    name: str
    pid: int


class DeadlinePassed(Struct, frozen=True):
    """The deadline that the program had set has passed."""

    name: str


Event: TypeAlias = (
    Start | Stop | Restart | Add | Remove | Change | Shutdown
    | SpawnSucceeded | SpawnFailed | BecameReady | Died | Exited | Emptied | DeadlinePassed
    | CheckPassed | CheckFailed | HookEnded | ScheduleDue | TimeoutExtended | MainChanged
)  # fmt: skip


# Actions


class Spawn(Struct, frozen=True):
    """Execute the program; answer with SpawnSucceeded or SpawnFailed."""

    name: str


class Signal(Struct, frozen=True):
    """Send a signal to the main process, or to its whole group."""

    name: str
    signal: int
    group: bool


class RunHook(Struct, frozen=True):
    """Run a hook of the program; answer with HookEnded."""

    name: str
    hook: Hook


class CancelHook(Struct, frozen=True):
    """Kill the hook that runs; it is answered with HookEnded all the same."""

    name: str


class AwaitReady(Struct, frozen=True):
    """Ask the program whether it is ready until it is, or its life ends; answer with BecameReady."""

    name: str


class WatchHealth(Struct, frozen=True):
    """Ask the program for its health while it runs; answer with CheckPassed and CheckFailed."""

    name: str


class KillTree(Struct, frozen=True):
    """Send SIGKILL to every process of the program."""

    name: str


class AwaitEmpty(Struct, frozen=True):
    """The main process is gone: ask the rest to stop too, and answer with Emptied when nothing is left."""

    name: str


class Forget(Struct, frozen=True):
    """The program was removed; nothing will be said of it any more."""

    name: str


class Transition(Struct, frozen=True, gc=False):
    """A program went from one state to another."""

    name: str
    old: State
    new: State
    cause: Cause
    at_s: float


class Publish(Struct, frozen=True):
    """Tell whoever listens."""

    transition: Transition


Action: TypeAlias = (
    Spawn | Signal | KillTree | AwaitEmpty | Forget | Publish | RunHook | CancelHook | AwaitReady | WatchHealth
)
