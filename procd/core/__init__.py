"""The pure machine: events in, actions out, time as a number.

Owns every decision about programs: which state they are in, when they are started, stopped, restarted or
given up.  Must not know processes, sockets, files or clocks: `tests/unit/core` runs years of it in a second.
"""

from procd.core.events import (
    Action,
    Actor,
    Add,
    AwaitEmpty,
    BecameReady,
    Cause,
    Change,
    DeadlinePassed,
    Emptied,
    Event,
    Exited,
    Forget,
    KillTree,
    Publish,
    Remove,
    Restart,
    Shutdown,
    Signal,
    Spawn,
    SpawnFailed,
    SpawnSucceeded,
    Start,
    Stop,
    Transition,
)
from procd.core.machine import Machine
from procd.core.outcome import Exit
from procd.core.program import Program
from procd.core.states import Desired, IllegalTransition, State, Trigger

__all__ = [
    "Action",
    "Actor",
    "Add",
    "AwaitEmpty",
    "BecameReady",
    "Cause",
    "Change",
    "DeadlinePassed",
    "Desired",
    "Emptied",
    "Event",
    "Exit",
    "Exited",
    "Forget",
    "IllegalTransition",
    "KillTree",
    "Machine",
    "Program",
    "Publish",
    "Remove",
    "Restart",
    "Shutdown",
    "Signal",
    "Spawn",
    "SpawnFailed",
    "SpawnSucceeded",
    "Start",
    "State",
    "Stop",
    "Transition",
    "Trigger",
]
