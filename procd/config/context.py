"""One load: what it is resolved against, and where its findings go.

Owns nothing but the record, and the values that programs share: ten thousand of them must not hold ten
thousand copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.logs import LogPaths
    from procd.config.machine import Machine
    from procd.config.problems import Problems
    from procd.config.rights import Rights
    from procd.config.spec import DaemonSpec

T = TypeVar("T")


class Load(Struct, frozen=True):
    """What one load is resolved against, and where its findings go.

    `environ` and `uid` are procd's own; `socket_names` are those of `[sockets]`, the ones with problems too.
    """

    daemon: DaemonSpec
    environ: Mapping[str, str]
    uid: int
    machine: Machine
    rights: Rights
    logs: LogPaths
    problems: Problems
    socket_names: set[str] = field(default_factory=set)
    _values: dict[tuple[type, Any], Any] = field(default_factory=dict)

    def shared(self, value: T) -> T:
        """The first value that was equal to this one."""
        found: T = self._values.setdefault((type(value), value), value)
        return found
