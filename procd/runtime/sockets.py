"""Listening sockets that procd opens once and hands to its programs (sd_listen_fds(3)).

Owns the descriptors for as long as the configuration has the socket: a program that is restarted finds the same
one, with the connections that came meanwhile in its backlog, so nobody is refused.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from procd.config import snapshot
from procd.config.spec import SocketSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from procd.runtime.present_memory import PresentMemory
    from procd.runtime.recalled import Recalled

#: The first descriptor of a program that is a socket (SD_LISTEN_FDS_START).
FIRST_FD = 3
#: The records of them are `socket:NAME`, each with its spec.
_KIND = "socket"


class Sockets:
    """All sockets of `[sockets]`, open.  With a memory they outlive us."""

    def __init__(self, memory: PresentMemory | None = None) -> None:
        self._memory = memory
        self._open: dict[str, tuple[SocketSpec, socket.socket]] = {}

    def adopt(self, recalled: Recalled) -> None:
        """Take over what an earlier supervisor has opened."""
        for name, record in recalled.of(_KIND).items():
            listener = socket.socket(fileno=record.fds[0])
            self._open[name] = (snapshot.load(record.value, SocketSpec), listener)

    def replace(self, specs: Mapping[str, SocketSpec]) -> None:
        """Open what is new or different, close what is not wanted any more, keep the rest as it is.

        Raises OSError, with what cannot be opened as its filename; then nothing has changed.
        """
        fresh: dict[str, tuple[SocketSpec, socket.socket]] = {}
        try:
            for name, spec in specs.items():
                if name not in self._open or self._open[name][0] != spec:
                    fresh[name] = (spec, _listen(spec))
        except OSError:
            for _, listener in fresh.values():
                listener.close()
            raise
        for name in [name for name in self._open if name not in specs or name in fresh]:
            self._close(name, keep_path=name in fresh and fresh[name][0].path == self._open[name][0].path)
        self._open |= fresh
        self._keep(fresh)

    def keep(self) -> None:
        """Record all of them."""
        self._keep(self._open)

    def _keep(self, opened: Mapping[str, tuple[SocketSpec, socket.socket]]) -> None:
        if self._memory is not None:
            for name, (spec, listener) in opened.items():
                self._memory.put(f"{_KIND}:{name}", snapshot.dump(spec), (listener.fileno(),))

    def descriptors(self, names: Iterable[str]) -> dict[int, int]:
        """Map the descriptor numbers that a program gets, 3 and up, to ours."""
        return {FIRST_FD + index: self._open[name][1].fileno() for index, name in enumerate(names)}

    def _close(self, name: str, *, keep_path: bool = False) -> None:
        spec, listener = self._open.pop(name)
        listener.close()
        if self._memory is not None:
            self._memory.drop(f"{_KIND}:{name}")
        if spec.path and not keep_path:
            with contextlib.suppress(OSError):
                Path(spec.path).unlink()

    def close(self) -> None:
        """Close all."""
        for name in tuple(self._open):
            self._close(name)


def _listen(spec: SocketSpec) -> socket.socket:
    try:
        return _listen_at_path(spec) if spec.path else _listen_at_port(spec)
    except OSError as error:
        where = spec.path or f"{spec.host}:{spec.port}"
        raise OSError(error.errno, error.strerror or str(error), where) from error


def _listen_at_port(spec: SocketSpec) -> socket.socket:
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if spec.reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((spec.host, spec.port))
        listener.listen(spec.backlog)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_at_path(spec: SocketSpec) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # What is there may be the socket of a procd that was killed; anything else is not ours to remove.
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(spec.path).st_mode):
                Path(spec.path).unlink()
        listener.bind(spec.path)
        os.chmod(spec.path, spec.mode)  # noqa: PTH101 - as chmod(2)
        if spec.uid is not None or spec.gid is not None:
            os.chown(spec.path, -1 if spec.uid is None else spec.uid, -1 if spec.gid is None else spec.gid)
        listener.listen(spec.backlog)
    except OSError:
        listener.close()
        raise
    return listener
