"""The tables `[sockets.NAME]`: where procd listens for its programs, and which program gets what.

Owns what their keys mean, and the search for two sockets at one place.  Must not open anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from procd.config.accounts import group_id, user_id
from procd.config.addresses import listening_address
from procd.config.convert import checked
from procd.config.expansion import expand
from procd.config.logs import resolved_path
from procd.config.problems import Mistake, did_you_mean, quoted
from procd.config.schema import SocketTable
from procd.config.spec import SocketSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from procd.config.context import Load
    from procd.config.declaration import Declaration
    from procd.config.document import Place

FIRST_FD = 3
"""The first descriptor of a program that is a socket (SD_LISTEN_FDS_START of sd_listen_fds(3))."""

LONGEST_PATH = 107
"""sun_path of unix(7) has 108 bytes, the last of them a NUL."""

_USUAL_MODE = 0o600
_ALL_ADDRESSES = frozenset({"0.0.0.0", "::"})  # noqa: S104 - they are compared, not bound


def sockets_of(declaration: Declaration, load: Load) -> tuple[str, ...]:
    """The names of the sockets that a program gets, in its order."""
    names = declaration.table.sockets
    for index, name in enumerate(names):
        with load.problems.at(declaration.place("sockets", index)):
            if name not in load.socket_names:
                known = load.socket_names
                remedy = did_you_mean(name, known, f"write [sockets.{name}] with listen below it")
                raise Mistake(f"there is no socket {quoted(name)}", remedy)
            if name in names[:index]:
                raise Mistake(f"{name} is named twice", "remove one of the two")
    return names


def require_socket_path(path: str, remedy: str) -> None:
    """Raise Mistake for a path that is too long to be bound."""
    size = len(os.fsencode(path))
    if size > LONGEST_PATH:
        what = f"{path} has {size} bytes, and the path of a socket at most {LONGEST_PATH}"
        raise Mistake(what, remedy)


class SocketTables:
    """All tables `[sockets.NAME]` of one load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._problems = load.problems
        daemon = load.daemon
        self._variables: Mapping[str, str] = {
            **load.environ,
            "runtime_dir": daemon.runtime_dir,
            "state_dir": daemon.state_dir,
            "log_dir": daemon.log_dir,
        }
        self._owners = {daemon.socket: "control.socket", f"{daemon.runtime_dir}/notify.sock": "procd itself"}
        self.specs: dict[str, SocketSpec] = {}

    def add(self, name: str, place: Place, raw: object) -> None:
        """Resolve one table; what is wrong is recorded."""
        self._load.socket_names.add(name)
        table = checked(raw, SocketTable, place, self._problems)
        if table.listen is None:
            if isinstance(raw, dict) and "listen" not in raw:
                self._problems.add(place / "listen", "is missing", 'write listen = "ADDRESS:PORT", or a path')
            return
        with self._problems.at(place / "listen"):
            written = expand(table.listen, self._variables)
            if "/" in written:
                spec = self._at_path(name, written, table, place)
            else:
                spec = self._at_port(name, written, table, place)
            self._require_alone(spec)
            self.specs[name] = spec

    def _at_port(self, name: str, written: str, table: SocketTable, place: Place) -> SocketSpec:
        for key in ("mode", "user", "group"):
            if getattr(table, key) is not None:
                self._problems.add(place / key, "is for a path, and this is a port", "remove it")
        try:
            host, port = listening_address(written)
        except Mistake as mistake:
            remedy = 'write "ADDRESS:PORT", ":PORT", or a path with a slash, as "./NAME.sock"'
            raise Mistake(mistake.what, remedy) from None
        return SocketSpec(
            name=name, host=host, port=port, backlog=table.backlog, reuse_port=table.reuse_port
        )  # fmt: skip

    def _at_path(self, name: str, written: str, table: SocketTable, place: Place) -> SocketSpec:
        path = resolved_path(written, place.document.directory)
        require_socket_path(path, "write a shorter one")
        directory = os.path.dirname(path)  # noqa: PTH120 - paths are strings in this room
        # procd makes its runtime directory itself; any other must be there.
        if directory != self._load.daemon.runtime_dir:
            self._load.machine.require_directory(directory)
        if table.reuse_port:
            self._problems.add(place / "reuse_port", "is for a port, and this is a path", "remove it")
        uid = gid = None
        if table.user is not None:
            with self._problems.at(place / "user"):
                uid = self._owner(user_id(table.user), frozenset({self._load.uid}))
        if table.group is not None:
            with self._problems.at(place / "group"):
                gid = self._owner(group_id(table.group), frozenset({os.getegid(), *os.getgroups()}))
        mode = _USUAL_MODE if table.mode is None else int(table.mode)
        return SocketSpec(name=name, path=path, backlog=table.backlog, mode=mode, uid=uid, gid=gid)

    def _owner(self, number: int, own: frozenset[int]) -> int:
        if self._load.uid != 0 and number not in own:
            raise Mistake("procd does not run as root, so it cannot give a file away", "remove it")
        return number

    def _require_alone(self, spec: SocketSpec) -> None:
        """Two sockets at one place are a mistake: the second could not be opened."""
        where = spec.path or _shown(spec.host, spec.port)
        owner = self._owners.setdefault(where, f"the socket {spec.name}")
        if owner != f"the socket {spec.name}":
            raise Mistake(f"{where} belongs to {owner}", "name another place")
        for other in self._overlapping(spec):
            shown = _shown(other.host, other.port)
            raise Mistake(f"{where} and {shown} of the socket {other.name} overlap", "keep one of them")

    def _overlapping(self, spec: SocketSpec) -> Iterator[SocketSpec]:
        """Sockets on the same port that take all addresses, one of which this one names, or the reverse."""
        for other in self.specs.values():
            same_port = not spec.path and other.port == spec.port and (":" in other.host) == (":" in spec.host)
            if (
                same_port
                and _ALL_ADDRESSES & {other.host, spec.host}
                and not (other.reuse_port and spec.reuse_port)
            ):
                yield other


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
