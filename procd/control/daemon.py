"""What the control room asks of the daemon as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.plan import Change
    from procd.config.spec import ProgramSpec
    from procd.control.access import Access
    from procd.core import Actor
    from procd.runtime import Runtime


class Daemon(Protocol):
    """The composition root, seen from a connection."""

    @property
    def runtime(self) -> Runtime:
        """The programs."""

    @property
    def closing(self) -> bool:
        """Whether the daemon is going down, and starts nothing any more."""

    @property
    def access(self) -> Access:
        """The rules in force; another object after a reload that has changed them."""

    def resolve(self, name: str, written: Mapping[str, Any], *, check_files: bool) -> ProgramSpec:
        """Make the spec of a program that is in no file.

        Raises ConfigurationError.
        """

    def plan(self) -> tuple[Change, ...]:
        """Read the configuration again and say what would change.

        Raises ConfigurationError.
        """

    def reload(self, actor: Actor) -> tuple[Change, ...]:
        """Read the configuration again and carry the plan out.

        Raises ConfigurationError; then nothing has changed.
        """

    async def upgrade(self, actor: Actor) -> str:
        """Begin to go on as the program that is installed now; returns its version.

        Raises Failed when it could not go on, and WrongState; then nothing has changed.
        """

    def shutdown(self, actor: Actor) -> None:
        """Stop everything, then end."""
