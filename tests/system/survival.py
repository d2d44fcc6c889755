"""Programs that note each of their lives, for tests of what becomes of them when the supervisor is killed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.system.daemon import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.daemon import Daemon

SLEEP = "exec sleep 1000"
#: Says "deaf", and does not end at SIGTERM.
DEAF = "trap '' TERM; echo deaf; exec sleep 1000"
#: What looks the same before and after, where nothing has happened but a death of the supervisor.
LASTING = ("state", "desired", "ready", "health", "pid", "restarts", "exit", "reason", "status_text", "skipped")


class Stage:
    """One procd, a directory for facts, and programs whose lives are counted there."""

    def __init__(self, place: Path, start: Callable[..., Daemon]) -> None:
        self.place = place / "facts"
        self.place.mkdir()
        self._start = start
        self.daemon: Daemon

    # What is played

    def program(self, name: str, script: str = SLEEP, keys: str = "") -> str:
        """A program of the configuration: a shell that notes its birth and goes on with `script`."""
        words = ["/bin/sh", "-c", f"echo $$ >> {self.place}/{name}; {script}"]
        return f"[programs.{name}]\ncommand = {json.dumps(words).replace('$', '$$')}\n{keys}\n"

    def start(self, *programs: str) -> Daemon:
        """Start a procd with these programs."""
        self.daemon = self._start("".join(programs))
        return self.daemon

    def when(self, fact: str) -> str:
        """What a shell says to wait for a fact."""
        return f"while [ ! -e {self.place}/{fact} ]; do sleep 0.02; done"

    def become(self, fact: str) -> None:
        """Make a fact true."""
        (self.place / fact).touch()

    # What came of it

    def lines(self, name: str) -> list[str]:
        """What stands in a file of facts."""
        file = self.place / name
        return file.read_text().splitlines() if file.exists() else []

    def until_born(self, *names: str) -> None:
        """Wait until these programs have had a life."""
        for name in names:
            until(lambda name=name: self.lines(name), f"the birth of {name}")

    def births(self) -> dict[str, int]:
        """How many lives each program has had; facts are not programs."""
        return {name: len(self.lines(name)) for name in self.daemon.records()}

    def looks(self, name: str) -> dict[str, Any]:
        """What is to be the same before and after."""
        record = self.daemon.record(name)
        return {key: record[key] for key in LASTING} | {"started_at": _rounded(record["started_at"])}

    def next_s(self, name: str, action: str) -> float:
        """In how many seconds something happens by itself."""
        found = self.daemon.record(name)["next"]
        assert found["action"] == action
        return float(found["in_s"])


def _rounded(when_s: float | None) -> int | None:
    """Wall time is reckoned from the monotonic one at each look."""
    return None if when_s is None else round(when_s)
