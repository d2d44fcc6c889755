"""The supervisors that peers.py compares: how each is configured, started, asked and stopped."""

from __future__ import annotations

from rivals.directories import S6, Daemontools, Runit
from rivals.pythons import Circus, PopenLoop, Procd, Procmon, Supervisord
from rivals.rival import Rival, Task

#: In the order of the tables.
ALL: tuple[type[Rival], ...] = (Procd, Supervisord, Circus, Procmon, Runit, S6, Daemontools, PopenLoop)

__all__ = ["ALL", "Rival", "Task"]
