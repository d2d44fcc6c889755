"""A request on its way to a method: who asks, and what the method has to work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from procd.errors import BadRequest, NoSuchProgram
from procd.runtime.selection import select

if TYPE_CHECKING:
    from procd.control.access import Peer
    from procd.control.daemon import Daemon
    from procd.control.streams import Streams
    from procd.core import Program

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, and what a method has to work with."""

    daemon: Daemon
    peer: Peer
    streams: Streams

    def names(self, sent: dict[str, Any]) -> list[str]:
        """Look up the instances that the parameter `programs` means, or all."""
        specs = {name: program.spec for name, program in self.daemon.runtime.machine.programs.items()}
        return select(sent.get("programs", ["*"]), specs)

    def program(self, sent: dict[str, Any]) -> Program:
        """Find the one program that the parameter `program` means.

        Raises NoSuchProgram, and BadRequest for a pattern that means several.
        """
        program = self.daemon.runtime.machine.programs.get(sent["program"])
        if program is not None:
            return program
        names = self.names({"programs": [sent["program"]]})
        if not names:
            raise NoSuchProgram("there are no programs", "add one to the configuration and reload")
        if len(names) > 1:
            raise BadRequest(
                f"{sent['program']!r} means {len(names)} programs", f"name one of them: {', '.join(names[:4])}"
            )
        return self.daemon.runtime.machine.programs[names[0]]
