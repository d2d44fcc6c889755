"""The tables [daemon] and [control] into a DaemonSpec.

Owns the paths of procd itself: their defaults, and the bound that the kernel sets to a socket's.  Must not
know programs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from procd.config import places
from procd.config.accounts import group_id
from procd.config.allow import rules_of
from procd.config.convert import checked
from procd.config.expansion import expand
from procd.config.logs import resolved_path
from procd.config.problems import Mistake
from procd.config.schema import ControlTable, DaemonTable
from procd.config.sockets import require_socket_path
from procd.config.spec import DaemonSpec
from procd.config.values import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from procd.config.access import Rule
    from procd.config.document import Place
    from procd.config.problems import Problems


class DaemonTables:
    """The tables [daemon] and [control] of one configuration."""

    def __init__(self, place: Place, environ: Mapping[str, str], uid: int, problems: Problems) -> None:
        self._place = place
        self._environ = environ
        self._uid = uid
        self._problems = problems
        tables = place.document.table
        self._daemon = checked(tables.get("daemon", {}), DaemonTable, place / "daemon", problems)
        self._control = checked(tables.get("control", {}), ControlTable, place / "control", problems)

    @property
    def include(self) -> tuple[str, ...]:
        """The patterns of `daemon.include`."""
        return self._daemon.include

    def spec(self, *, check_files: bool) -> DaemonSpec:
        """The resolved tables; what is wrong is recorded."""
        daemon = self._daemon
        runtime_dir = self._directory("runtime_dir", daemon.runtime_dir, places.runtime_dir)
        state_dir = self._directory("state_dir", daemon.state_dir, places.state_dir)
        log_dir = self._directory("log_dir", daemon.log_dir, places.log_dir)
        timeout = daemon.shutdown_timeout
        group = self._group()
        mode = self._control.mode
        if mode is None and self._control.group is not None:
            # To give the socket to a group is to let it connect.
            mode = Mode(0o660)
        return DaemonSpec(
            runtime_dir=runtime_dir,
            state_dir=state_dir,
            log_dir=log_dir,
            log_level=daemon.log_level,
            log_format=daemon.log_format,
            shutdown_timeout_s=None if timeout is None else float(timeout),
            max_concurrent_starts=daemon.max_concurrent_starts,
            socket=self._socket(runtime_dir, check_files=check_files),
            socket_mode=0o600 if mode is None else int(mode),
            socket_group=group,
            allow=self._allow(mode),
        )

    def _group(self) -> int | None:
        written = self._control.group
        if written is None:
            return None
        place = self._place / "control" / "group"
        try:
            group = group_id(written)
        except Mistake as mistake:
            self._problems.add_mistake(place, mistake)
            return None
        if self._uid != 0 and self._uid == os.geteuid() and group not in {os.getgid(), *os.getgroups()}:
            what = f"procd does not run as root and is not in the group {written}"
            self._problems.add(place, what, "run procd as root, or name a group that it is in")
        return group

    def _allow(self, mode: Mode | None) -> tuple[Rule, ...]:
        """The rules; somebody must be able to connect whom they are for."""
        place = self._place / "control"
        rules = rules_of(self._control.allow, place / "allow", self._problems)
        others = [rule for rule in rules if rule.everybody or rule.gids or rule.uids - {0, self._uid}]
        if others and not (mode or 0) & 0o022:
            self._problems.add(
                place / ("allow" if mode is None else "mode"),
                f"nobody else can open a socket with mode {mode or 0o600:04o}, whatever the rules allow",
                'add group = "NAME" to [control] to open it to that group, or mode = "0666": the rules decide',
            )
        return rules

    def _directory(self, key: str, written: str | None, default: Callable[..., str]) -> str:
        place = self._place / "daemon" / key
        try:
            if written is None:
                return default(self._environ, uid=self._uid)
            return resolved_path(expand(written, self._environ), self._place.document.directory)
        except Mistake as mistake:
            self._problems.add_mistake(place, mistake)
            return "/nowhere"

    def _socket(self, runtime_dir: str, *, check_files: bool) -> str:
        written = self._control.socket
        place = self._place / "control" / "socket"
        try:
            if written is None:
                path = f"{runtime_dir}/procd.sock"
            else:
                text = expand(written, {**self._environ, "runtime_dir": runtime_dir})
                path = resolved_path(text, self._place.document.directory)
            self._check_socket(path, runtime_dir, check_files=check_files)
        except Mistake as mistake:
            self._problems.add_mistake(place, mistake)
            return "/nowhere"
        return path

    @staticmethod
    def _check_socket(path: str, runtime_dir: str, *, check_files: bool) -> None:
        require_socket_path(path, 'write a shorter socket = "/PATH" in [control], or runtime_dir in [daemon]')
        directory = os.path.dirname(path)  # noqa: PTH120 - paths are strings in this room
        # procd makes its runtime directory itself; any other must be there.
        if check_files and directory != runtime_dir and not os.path.isdir(directory):  # noqa: PTH112
            raise Mistake(f"directory {directory} does not exist", f"create it: mkdir -p {directory}")
