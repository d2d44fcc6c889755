"""Who may do what.

Owns the kernel's word for a peer, and what the rules of `[[control.allow]]` give to it.  root, and the user
that procd runs as, may do everything; nobody else may do anything that no rule gives.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from procd.config.access import ALL_RIGHTS, EVERY, READ_RIGHTS, Right, Rule
from procd.core import Actor
from procd.errors import NotPermitted
from procd.process.syscalls import socket_option
from procd.runtime.selection import meaning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from procd.core import Program
    from procd.runtime.selection import Nameable

_UCRED = struct.Struct("iII")
#: Not in Python's socket module; asm-generic/socket.h, since Linux 4.13.
_SO_PEERGROUPS = 59
#: What Python's getsockopt can take, which is enough for 256 groups.
_USUAL_BYTES = 1024
#: Bytes for the most groups that a process can have: 65,536 (NGROUPS_MAX, setgroups(2)).
_MOST_GROUPS_BYTES = 65_536 * 4
#: What kernels say that do not know SO_PEERGROUPS.
_UNKNOWN_OPTION = frozenset({errno.ENOPROTOOPT, errno.EOPNOTSUPP})

#: Rights whose use changes something, and leaves an audit line.
CHANGING = ALL_RIGHTS - READ_RIGHTS


class Peer(NamedTuple):
    """Who is at the other end, as the kernel noted it at connect(2) (unix(7), SO_PEERCRED, SO_PEERGROUPS).

    `groups` are all groups of the process, its primary one among them.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """Ask the kernel."""
        option = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, gid = _UCRED.unpack(option)
        return cls(pid, uid, gid, frozenset({gid, *_groups(connection)}))

    @property
    def actor(self) -> Actor:
        """The peer as the one who asked."""
        return Actor(self.uid, self.pid)


def _groups(connection: socket.socket) -> tuple[int, ...]:
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _USUAL_BYTES)
    except OSError as error:
        if error.errno in _UNKNOWN_OPTION:
            return ()
        if error.errno != errno.ERANGE:
            raise
        found = socket_option(connection.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS_BYTES)
    return struct.unpack(f"{len(found) // 4}I", found)


class Access:
    """The rules in force.  Another one takes its place when the configuration is read again."""

    def __init__(self, rules: Iterable[Rule], own_uid: int | None = None) -> None:
        self._masters = {0, os.geteuid() if own_uid is None else own_uid}
        self._rules = tuple(_Rule(rule) for rule in rules)

    def is_master(self, uid: int) -> bool:
        """Whether a user may do everything."""
        return uid in self._masters

    def of(self, peer: Peer) -> Permit:
        """What a peer may do."""
        if self.is_master(peer.uid):
            return _Everything(peer, ())
        return Permit(peer, tuple(each for each in self._rules if _is_for(each.rule, peer)))


def _is_for(rule: Rule, peer: Peer) -> bool:
    return rule.everybody or peer.uid in rule.uids or not rule.gids.isdisjoint(peer.groups)


class _Rule:
    """A rule, and its patterns ready to be asked."""

    __slots__ = ("_meanings", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._meanings = [meaning(pattern) for pattern in rule.programs]

    def means(self, program: Nameable) -> bool:
        return self.rule.for_all_programs or any(means(program) for means in self._meanings)


class Permit:
    """What one peer may do, and see: to it, a program on which it has no right does not exist."""

    __slots__ = ("_rules", "held", "peer")

    def __init__(self, peer: Peer, rules: tuple[_Rule, ...]) -> None:
        self.peer = peer
        self._rules = rules
        #: The rights that it has on one program at least, or on procd as a whole.
        self.held: frozenset[Right] = frozenset().union(*(each.rule.rights for each in rules))

    @property
    def everything(self) -> bool:
        """Whether nothing is kept from this peer."""
        return False

    def may(self, right: Right, program: Nameable) -> bool:
        """Whether it has a right on a program."""
        return any(right in each.rule.rights and each.means(program) for each in self._rules)

    def may_whole(self, right: Right) -> bool:
        """Whether it has a right on all programs, whatever comes."""
        return any(right in each.rule.rights and each.rule.for_all_programs for each in self._rules)

    def sees(self, program: Nameable) -> bool:
        """Whether it has any right on a program."""
        return any(each.means(program) for each in self._rules)

    def visible(self, programs: Mapping[str, Program]) -> Mapping[str, Program]:
        """Give the programs that are there for this peer."""
        return {name: program for name, program in programs.items() if self.sees(program.spec)}

    def require(self, right: Right, program: Nameable | None = None) -> None:
        """Let pass who has a right: on a program, or without one on anything at all.

        Raises NotPermitted, which says what is missing and nothing else.
        """
        if right is Right.NONE or (self.may(right, program) if program else right in self.held):
            return
        raise NotPermitted(
            f"uid {self.peer.uid} lacks the right {right.value!r}",
            "ask as root, or ask root for a rule in [[control.allow]]",
            {"right": right.value},
        )

    def to_wire(self) -> list[dict[str, list[str]]]:
        """Tell the rules that are for this peer: `[{programs, rights}]`."""
        return [
            {"programs": list(each.rule.programs), "rights": _words(each.rule.rights)} for each in self._rules
        ]

    def words(self) -> list[str]:
        """Name the rights that are held."""
        return _words(self.held)


class _Everything(Permit):
    """root's, and that of the user that procd runs as."""

    __slots__ = ()

    def __init__(self, peer: Peer, rules: tuple[_Rule, ...]) -> None:
        super().__init__(peer, rules)
        self.held = ALL_RIGHTS

    @property
    def everything(self) -> bool:
        return True

    def may(self, right: Right, program: Nameable) -> bool:
        del right, program
        return True

    def may_whole(self, right: Right) -> bool:
        del right
        return True

    def sees(self, program: Nameable) -> bool:
        del program
        return True

    def visible(self, programs: Mapping[str, Program]) -> Mapping[str, Program]:
        return programs

    def to_wire(self) -> list[dict[str, list[str]]]:
        return [{"programs": [EVERY], "rights": self.words()}]


def _words(rights: Iterable[Right]) -> list[str]:
    return sorted(right.value for right in rights)
