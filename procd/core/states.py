"""The states of a program and every way between them, as one table.

`TABLE[state][trigger]` is a `Rule`: the state that follows and what is done on the way.  Three facts stay
apart: `Desired` (what somebody wants), `State` (where the program is), and its last `Exit` (why it last ended).

How raw events become triggers is decided in `machine`; the coupled rules are these:

* A wish is not a step.  START_REQUESTED makes a program WAITING; CLEARED (nothing left to wait for) makes it
  STARTING.  STOP_REQUESTED is applied when nothing that needs the program runs any more.  The machine settles
  all wishes before it emits an action, so a program that need not wait passes through WAITING unnoticed.
* STOPPING ends with EMPTIED, not with the exit: stopped means that no process of the program is left.  A start
  that is asked for meanwhile only changes what is desired; the machine starts the program from STOPPED.
* An end that nobody asked for has one of four verdicts (RESTART_NOW, RESTART_LATER, FINISHED, GAVE_UP), made by
  the restart policy before the table is asked.  Where procd itself stops a program (STOP_DECIDED: not ready in
  time, unhealthy, too long at work, a dependency gone) the verdict comes when it is empty, in STOPPED.
* What does not die of SIGKILL is not waited for: STUCK makes the program FATAL; nothing is started beside it.
  It stays FATAL, whatever is wanted meanwhile, until that is gone too (EMPTIED).

A pair that is not in the table is a mistake of the caller: `IllegalTransition`, and nothing has changed.
The diagram in docs/explanation/states.md is generated from this table, and a test compares the two.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class State(Enum):
    """Where a program is."""

    # Members are their own only equals.  Enum's hash is a function in Python, and every event looks states up.
    __hash__ = object.__hash__

    STOPPED = "STOPPED"  # not running, as somebody wants it
    WAITING = "WAITING"  # wanted, and waits for a dependency or a start slot
    STARTING = "STARTING"  # spawned, not ready
    RUNNING = "RUNNING"  # ready
    STOPPING = "STOPPING"  # told to stop, not empty
    BACKOFF = "BACKOFF"  # waits to be started again
    EXITED = "EXITED"  # ended, and should be
    FATAL = "FATAL"  # given up


class Desired(Enum):
    """What is wanted of a program."""

    UP = "up"
    DOWN = "down"


class Trigger(Enum):
    """What can happen to a program, after policy has looked at it."""

    __hash__ = object.__hash__

    START_REQUESTED = "start requested"
    STOP_REQUESTED = "stop requested"
    RESTART_REQUESTED = "restart requested"
    CLEARED = "nothing to wait for"
    SPAWNED = "spawned"
    BECAME_READY = "became ready"
    RESTART_NOW = "ended after a good run"
    RESTART_LATER = "failed start"
    FINISHED = "ended, no restart"
    GAVE_UP = "gave up"
    RETRY_DUE = "backoff is over"
    STOP_DECIDED = "stopped by procd itself"
    EXITED = "exited while stopping"
    STEP_TIMED_OUT = "next stop signal due"
    STOP_TIMED_OUT = "stop timed out"
    STUCK = "cannot be killed"
    EMPTIED = "nothing of it is left"


class Effect(Enum):
    """What a transition makes somebody do."""

    START = "start it: its hook, then the program"
    STOP = "stop it: its hook, then the first signal"
    SIGNAL = "send the next stop signal"
    KILL = "kill everything"
    AWAIT_EMPTY = "wait until nothing is left"


class Rule(NamedTuple):
    """Where a trigger leads, and what is done on the way."""

    target: State
    effects: tuple[Effect, ...] = ()


class IllegalTransition(Exception):  # noqa: N818 - named as the thing, as in the ancestor of this table
    """A trigger that its state does not have; nothing was changed."""

    def __init__(self, name: str, state: State, trigger: Trigger) -> None:
        super().__init__(f"{name}: {trigger.name} in state {state.name}")
        self.name = name
        self.state = state
        self.trigger = trigger


_START = Rule(State.WAITING)
_STOP_LIVE = Rule(State.STOPPING, (Effect.STOP,))
_VERDICTS = {
    Trigger.RESTART_NOW: Rule(State.WAITING),
    Trigger.RESTART_LATER: Rule(State.BACKOFF),
    Trigger.FINISHED: Rule(State.EXITED),
    Trigger.GAVE_UP: Rule(State.FATAL),
}

#: At rest there is no process: a wish to stop is fulfilled at once, any other wish is a start.
_AT_REST = {
    Trigger.START_REQUESTED: _START,
    Trigger.RESTART_REQUESTED: _START,
    Trigger.STOP_REQUESTED: Rule(State.STOPPED),
}

TABLE: dict[State, dict[Trigger, Rule]] = {
    State.STOPPED: {**_AT_REST, **_VERDICTS},
    State.EXITED: _AT_REST,
    # What could not be killed is gone at last: what is wanted can be done.
    State.FATAL: {**_AT_REST, Trigger.EMPTIED: Rule(State.STOPPED)},
    State.BACKOFF: {**_AT_REST, Trigger.RETRY_DUE: _START},
    State.WAITING: {
        **_AT_REST,
        Trigger.CLEARED: Rule(State.STARTING, (Effect.START,)),
    },
    State.STARTING: {
        Trigger.START_REQUESTED: Rule(State.STARTING),
        Trigger.STOP_REQUESTED: _STOP_LIVE,
        Trigger.RESTART_REQUESTED: _STOP_LIVE,
        Trigger.STOP_DECIDED: _STOP_LIVE,
        Trigger.SPAWNED: Rule(State.STARTING),
        Trigger.BECAME_READY: Rule(State.RUNNING),
        **_VERDICTS,
    },
    State.RUNNING: {
        Trigger.START_REQUESTED: Rule(State.RUNNING),
        Trigger.STOP_REQUESTED: _STOP_LIVE,
        Trigger.RESTART_REQUESTED: _STOP_LIVE,
        Trigger.STOP_DECIDED: _STOP_LIVE,
        **_VERDICTS,
    },
    State.STOPPING: {
        # What is desired changes; where the program is does not, until it is empty.
        Trigger.START_REQUESTED: Rule(State.STOPPING),
        Trigger.STOP_REQUESTED: Rule(State.STOPPING),
        Trigger.RESTART_REQUESTED: Rule(State.STOPPING),
        # The stop overtook a spawn that was decided, but not yet carried out: the signal follows it.
        Trigger.SPAWNED: Rule(State.STOPPING),
        Trigger.STEP_TIMED_OUT: Rule(State.STOPPING, (Effect.SIGNAL,)),
        Trigger.STOP_TIMED_OUT: Rule(State.STOPPING, (Effect.KILL,)),
        Trigger.STUCK: Rule(State.FATAL),
        Trigger.EXITED: Rule(State.STOPPING, (Effect.AWAIT_EMPTY,)),
        Trigger.EMPTIED: Rule(State.STOPPED),
    },
}


def next_rule(name: str, state: State, trigger: Trigger) -> Rule:
    """Look a transition up.

    Raises IllegalTransition for a pair that the table does not have.
    """
    try:
        return TABLE[state][trigger]
    except KeyError:
        raise IllegalTransition(name, state, trigger) from None
