"""A request on its way to a method: who asks, and what the method has to work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from procd.config.access import READ_RIGHTS
from procd.errors import BadRequest, NoSuchProgram, ShuttingDown
from procd.runtime.selection import select

if TYPE_CHECKING:
    from procd.config.access import Right
    from procd.control.access import Peer, Permit
    from procd.control.daemon import Daemon
    from procd.control.server import ControlServer
    from procd.control.streams import Streams
    from procd.core import Program

Answer: TypeAlias = dict[str, Any]


class Call:
    """One request: who asks, with which right, and the daemon that it is put to.

    Whatever a method does with programs it looks up here, so that nobody reaches one without the right.
    """

    __slots__ = ("daemon", "permit", "programs", "right", "server", "streams")

    def __init__(
        self, daemon: Daemon, server: ControlServer, streams: Streams, permit: Permit, right: Right
    ) -> None:
        self.daemon = daemon
        self.server = server
        self.streams = streams
        self.permit = permit
        self.right = right
        #: What the request turned out to be about, for the audit line; None before that is known.
        self.programs: list[str] | None = None

    @property
    def peer(self) -> Peer:
        """Who asks."""
        return self.permit.peer

    def names(self, sent: dict[str, Any]) -> list[str]:
        """Look up the instances that the parameter `programs` means, or all.

        Raises NoSuchProgram, also for what the caller must not see, and NotPermitted.  Whoever reads gets
        what may be read; whatever else is asked for has to be permitted for all.
        """
        self.programs = found = self._permitted(sent.get("programs", ["*"]))
        return found

    def _permitted(self, patterns: list[str]) -> list[str]:
        programs = self.daemon.runtime.machine.programs
        permit, right = self.permit, self.right
        if permit.everything and len(patterns) == 1:
            # What is asked for most, as fast as it goes.
            if patterns[0] == "*":
                return list(programs)
            if patterns[0] in programs:
                return patterns
        visible = permit.visible(programs)
        found = select(patterns, {name: program.spec for name, program in visible.items()})
        if permit.everything:
            return found
        permitted = [name for name in found if permit.may(right, visible[name].spec)]
        if len(permitted) < len(found) and (right not in READ_RIGHTS or not permitted):
            lacking = next(name for name in found if not permit.may(right, visible[name].spec))
            permit.require(right, visible[lacking].spec)
        return permitted

    def program(self, sent: dict[str, Any]) -> Program:
        """Find the one program that the parameter `program` means.

        Raises NoSuchProgram, NotPermitted, and BadRequest for a pattern that means several.
        """
        names = self.names({"programs": [sent["program"]]})
        if not names:
            raise NoSuchProgram("there are no programs", "add one to the configuration and reload")
        if len(names) > 1:
            raise BadRequest(
                f"{sent['program']!r} means {len(names)} programs", f"name one of them: {', '.join(names[:4])}"
            )
        return self.daemon.runtime.machine.programs[names[0]]

    @staticmethod
    def going_down() -> ShuttingDown:
        """Make the refusal of what would start something while procd ends."""
        return ShuttingDown("procd is shutting down and starts nothing", "wait until it is started again")
