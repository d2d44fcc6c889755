"""Named places at which a test lets this process die, as kill -9 would have it.

`PROCD_FAULT=NAME=TOKEN[,NAME=TOKEN…]` in the environment: whoever comes to the place NAME and can remove the
file TOKEN ends there and then.  So each file is one death, in whichever process comes first; without the
variable a place costs a look into an empty dict.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Every place there is, in the order of a life.
POINTS = (
    "begin.locked",  # the runtime directory is ours, nothing else is recorded
    "begin.recorded",  # the configuration is recorded, nothing is started
    "decided.recorded",  # what was decided is recorded, nothing was done
    "spawn.intended",  # the intent is recorded, nothing was forked
    "spawn.forked",  # the program runs, only its intent is recorded
    "spawn.recorded",  # its life is recorded, what is known of the program is not
    "hook.begun",  # a hook runs, only that it was to is recorded
    "turn.done",  # what was decided is done, what was decided is not recorded
    "exit.peeked",  # a child is dead, not reaped, nothing of it is recorded
    "exit.recorded",  # its status is recorded, it is not reaped
    "exit.reaped",  # it is reaped
    "reload.planned",  # the new configuration is recorded, its plan is not
    "adopt.recalled",  # all records are here
    "adopt.lives",  # the processes are found, the machine knows nothing
    "adopt.done",  # all is adopted, signals are not welcome yet
    "drain.begun",  # everything has stopped, the logs are to be emptied
    "finish.said",  # the keeper knows that the end is the end
)

_wanted: dict[str, list[str]] = {}
for _each in filter(None, os.environ.pop("PROCD_FAULT", "").split(",")):
    _name, _, _token = _each.partition("=")
    if _name not in POINTS:
        raise ValueError(f"PROCD_FAULT: there is no place {_name!r}; there are {', '.join(POINTS)}")
    _wanted.setdefault(_name, []).append(_token)


def at(name: str, before: Callable[[], None] | None = None) -> None:
    """Die here, if that is wanted; `before` that, something is called."""
    for token in _wanted.get(name, ()):
        try:
            os.unlink(token)  # noqa: PTH108 - cheap to import
        except FileNotFoundError:
            continue
        if before is not None:
            before()
        os.kill(os.getpid(), signal.SIGKILL)
