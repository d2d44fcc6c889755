"""Who may do what, as values: the rights, the sets of them, and a rule.

Owns the words of `[[control.allow]]`.  Pure; who is asking, and what a rule then gives, is the control room's.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Right(Enum):
    """What a method of the control socket needs."""

    NONE = "none"
    STATUS = "status"
    LOGS = "logs"
    EVENTS = "events"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SIGNAL = "signal"
    ROTATE = "rotate"
    WRITE = "write"
    ATTACH = "attach"
    RUN = "run"
    RUN_AS = "run-as"
    RELOAD = "reload"
    UPGRADE = "upgrade"
    SHUTDOWN = "shutdown"


ALL_RIGHTS = frozenset(Right) - {Right.NONE}

#: Rights that are about procd as a whole: a rule for some programs only cannot give them.
WHOLE_RIGHTS = frozenset({Right.RELOAD, Right.UPGRADE, Right.SHUTDOWN})

READ_RIGHTS = frozenset({Right.STATUS, Right.LOGS, Right.EVENTS})

SETS: dict[str, frozenset[Right]] = {
    "read": READ_RIGHTS,
    # Not `write` and `attach`: whoever types into a shell or a database console is its user.
    "operate": READ_RIGHTS | {Right.START, Right.STOP, Right.RESTART, Right.SIGNAL, Right.ROTATE},
    "all": ALL_RIGHTS,
}

#: The pattern, and the user, that is every one.
EVERY = "*"


class Rule(Struct, frozen=True, kw_only=True):
    """One table of `[[control.allow]]`.

    It holds for these users, or for everybody, and for members of these groups; it gives these rights on the
    programs that the patterns mean.
    """

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    everybody: bool = False
    programs: tuple[str, ...] = (EVERY,)
    rights: frozenset[Right] = frozenset()

    @property
    def for_all_programs(self) -> bool:
        """Whether no program is left out, whatever comes."""
        return EVERY in self.programs
