"""The supervisor dies at each named step of what it does; and what it did is done, once, and goes on.

Each test arms one of the places of `procd/faults.py`, does something on whose way that place is, and looks
whether it has come out as if nobody had died.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from procd import faults
from procd.config.logs import EVENT_LOG
from procd.errors import Unreachable
from tests.system import chaos_accounts as accounts
from tests.system.daemon import PROGRAMS, Daemon, marked, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SPAWNS = ("begin", "start", "restart", "die")
_EXITS = ("die", "stop", "restart", "shutdown")
_EVERYTHING = ("begin", "start", "stop", "restart", "die", "reload", "shutdown")
#: What leads past each place.
WAYS: dict[str, tuple[str, ...]] = {
    "begin.locked": ("begin",),
    "begin.recorded": ("begin",),
    "decided.recorded": _EVERYTHING,
    "spawn.intended": _SPAWNS,
    "spawn.forked": _SPAWNS,
    "spawn.recorded": _SPAWNS,
    "hook.begun": ("stop with a hook",),
    "turn.done": _EVERYTHING,
    "exit.peeked": _EXITS,
    "exit.recorded": _EXITS,
    "exit.reaped": (*_EXITS, "die adopted"),
    "reload.planned": ("reload",),
    "adopt.recalled": ("kill", "kill while it stops"),
    "adopt.lives": ("kill", "kill while it stops"),
    "adopt.done": ("kill", "kill while it stops"),
    "drain.begun": ("shutdown",),
    "finish.said": ("shutdown",),
}
#: Whoever comes after comes there again, with the same thing to do.
AGAIN = {
    "begin.locked", "decided.recorded", "spawn.intended", "turn.done", "adopt.recalled",
    "adopt.lives", "adopt.done", "drain.begun",
}  # fmt: skip
#: The place, the way, and how many die there one after the other.
ALL_CASES = [
    (point, way, deaths)
    for point, ways in WAYS.items()
    for way in ways
    for deaths in ((1, 2) if point in AGAIN else (1,))
]
#: All of them take five minutes: PROCD_FAULTS=all.  Otherwise each place is come to once.
CASES = (
    ALL_CASES
    if os.environ.get("PROCD_FAULTS") == "all"
    else [
        (point, "die" if "die" in ways else ways[0], 2 if point in AGAIN else 1) for point, ways in WAYS.items()
    ]
)


class Scene:
    """A procd that dies when it is told to, and programs that note their lives."""

    def __init__(self, make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
        self.tokens = tmp_path / "tokens"
        self.evidence = tmp_path / "evidence"
        for place in (self.tokens, self.evidence):
            place.mkdir()
        #: The hook of `worker` notes that it has begun, and ends when there is the other file.
        self.hook_begun, self.hook_may_end = tmp_path / "hook-begun", tmp_path / "hook-may-end"
        self.hook_may_end.touch()
        self.daemon = make_daemon(self.configuration())
        self.requests: list[accounts.Request] = []
        #: How many lives each program is to have had, at the end.
        self.lives = {"steady": 1, "fed": 1, "worker": 1, "idle": 0}

    def configuration(self, *, second: bool = False) -> str:
        """Programs; the second one changes, adds and removes some."""

        def program(name: str, *work: object, more: str = "") -> str:
            script = [sys.executable, "-I", "-S", str(PROGRAMS / "chaos_life.py"), str(self.evidence)]
            return f"[programs.{name}]\ncommand = {json.dumps([*script, *map(str, work)])}\n{more}\n"

        waits = f"while [ ! -e {self.hook_may_end} ]; do sleep 0.01; done"
        hook = json.dumps(["/bin/sh", "-c", f"echo begun >> {self.hook_begun}; {waits}"])
        parts = [
            program("steady", "lines", 0.01, 3),
            program("fed", "fed", more='stdin = "pipe"'),
            program(
                "worker",
                "lines",
                0.01,
                3,
                more=f'environment = {{ SECOND = "{second:d}" }}\nhooks = {{ before_stop = {hook} }}',
            ),
            program("added", "lines", 0.01, 3)
            if second
            else program("idle", "lines", 0.01, 3, more="autostart = false"),
        ]
        return "".join(parts)

    def arm(self, point: str, deaths: int) -> None:
        """From now on whoever comes to the place dies there, so often."""
        for number in range(deaths):
            (self.tokens / f"{point}.{number}").touch()

    def armed(self) -> list[str]:
        """Deaths that have not happened yet."""
        return sorted(token.name for token in self.tokens.iterdir())

    def start(self) -> None:
        """Start procd, with every place prepared."""
        places = [f"{point}={self.tokens}/{point}.{number}" for point in faults.POINTS for number in range(2)]
        environment = {"PROCD_FAULT": ",".join(places), "PROCD_KEEPER_PACE": "longest=0.2"}
        self.daemon.start(environment=environment)

    def ask(self, method: str, **params: Any) -> Any:  # noqa: ANN401 - what travels on the wire
        """Ask for something; None if the answer was lost."""
        with contextlib.suppress(Unreachable), self.daemon.client() as client:
            return client.call(method, **params)
        return None

    def ask_again(self, method: str, **params: Any) -> Any:  # noqa: ANN401 - as `ask`
        """Ask until there is an answer."""
        return until(lambda: self.ask(method, **params), "somebody who answers")

    def supervisor(self) -> int:
        """The PID of whoever answers."""
        return int(self.ask_again("hello")["pid"])

    def write(self) -> None:
        """Write to the stdin of `fed`, which must take it."""
        number = len(self.requests)
        data = accounts.message(number, 100)
        answer = until(lambda: self.ask("write", program="fed", data=data), "a write to be accepted")
        self.requests.append(accounts.Request(number, 100, answer["accepted"]))

    def births(self, name: str) -> list[accounts.Birth]:
        """The lives that a program has had."""
        return accounts.lives_of(self.evidence, name).births

    def until_states(self, **states: str) -> None:
        """Wait until these programs are in these states, and there are no others."""
        wanted = {"steady": "RUNNING", "fed": "RUNNING", "worker": "RUNNING", "idle": "STOPPED"} | states
        wanted = {name: state for name, state in wanted.items() if state != "gone"}
        found: dict[str, str] = {}

        def there() -> bool:
            answer = self.ask("status")
            if answer is not None:
                found.clear()
                found.update((record["name"], record["state"]) for record in answer["programs"])
            return found == wanted

        with contextlib.suppress(AssertionError):
            until(there)
        assert found == wanted, self.daemon.said.read_text()[-3000:]

    def until_begun(self) -> None:
        """Wait until everybody has begun a last life: one that is stopped before that notes nothing."""
        for name, number in self.lives.items():
            until(lambda: len(self.births(name)) >= number, f"life {number} of {name}")  # noqa: B023 - waited for here

    def check_lives(self) -> None:
        """So many lives as there should be, each alone; all they wrote is in the logs."""
        for name, number in self.lives.items():
            lives = accounts.lives_of(self.evidence, name)
            assert accounts.started_once(lives) == []
            assert len(lives.births) == number, lives
            if name != "fed":
                text = accounts.log_at(self.daemon.directory / "log" / f"{name}.log")
                assert accounts.lines_once(lives, text, "raw") == []
        got = accounts.place_of(self.evidence, "fed", "got")
        assert accounts.input_once("fed", got.read_bytes(), self.requests) == []
        assert accounts.numbered_upwards(accounts.events_at(self.daemon.directory / "state" / EVENT_LOG)) == []

    # What is done, with a death on the way

    def begin(self, point: str, deaths: int) -> None:
        """Start procd, and with it the programs."""
        self.arm(point, deaths)
        self.start()

    def do_start(self) -> None:
        """Start one program."""
        self.ask("start", programs=["idle"])
        self.lives["idle"] = 1
        self.until_states(idle="RUNNING")

    def do_stop(self) -> None:
        """Stop one."""
        self.ask("stop", programs=["worker"])
        self.until_states(worker="STOPPED")
        assert not self.living("worker")

    def do_stop_with_a_hook(self) -> None:
        """Stop one while its hook takes its time: that is waited for, and not begun again."""
        self.hook_may_end.unlink()
        self.ask("stop", programs=["worker"], wait=False)
        until(lambda: not self.armed(), "a death")
        assert self.ask_again("status", programs=["worker"])["programs"][0]["state"] == "STOPPING"
        self.hook_may_end.touch()
        self.until_states(worker="STOPPED")
        assert self.hook_begun.read_text() == "begun\n"

    def do_restart(self) -> None:
        """Restart one."""
        self.ask("restart", programs=["worker"])
        self.lives["worker"] = 2
        until(lambda: len(self.births("worker")) == 2, "a second life")
        self.until_states()

    def do_die(self) -> None:
        """A program ends by itself, and is started again; how it ended is told once."""
        self.lives["worker"] = 2
        os.kill(self.births("worker")[0].pid, signal.SIGTERM)  # it exits with 0
        until(lambda: len(self.births("worker")) == 2, "a second life")
        self.until_states()
        (record,) = self.ask("status", programs=["worker"])["programs"]
        assert (record["restarts"], record["exit"]["code"]) == (1, 0)
        until(lambda: self.ends_told() == ["exit 0"], f"one end to be told: {self.ends_told()}")

    def ends_told(self) -> list[str]:
        """How `worker` ended, by the events."""
        events = accounts.events_at(self.daemon.directory / "state" / EVENT_LOG)
        return accounts.ends_told(events, "worker")

    def do_die_adopted(self) -> None:
        """The same, of a program that an earlier supervisor had started."""
        armed = self.armed()
        for token in armed:
            (self.tokens / token).rename(self.tokens.parent / token)
        self.kill()
        for token in armed:
            (self.tokens.parent / token).rename(self.tokens / token)
        self.do_die()

    def do_reload(self) -> None:
        """Carry another configuration out; who got no answer asks again."""
        self.daemon.write(self.configuration(second=True))
        if self.ask("reload") is None:
            self.supervisor()
            until(lambda: self.ask("reload") is not None, "an answer to a reload")
        self.lives |= {"worker": 2, "added": 1}
        until(lambda: len(self.births("worker")) == 2, "a second life")
        self.until_states(added="RUNNING", idle="gone")

    def kill(self) -> None:
        """Kill the supervisor."""
        before = self.supervisor()
        os.kill(before, signal.SIGKILL)
        until(lambda: self.supervisor() != before, "another supervisor")

    def do_kill(self) -> None:
        """Kill it: the next one adopts."""
        self.kill()
        self.until_states()

    def do_kill_while_it_stops(self) -> None:
        """Kill it when a program was asked to stop, and has not."""
        os.kill(self.births("worker")[0].pid, signal.SIGSTOP)
        try:
            self.ask("stop", programs=["worker"], wait=False)
            self.kill()
            assert self.ask("status", programs=["worker"])["programs"][0]["state"] == "STOPPING"
        finally:
            os.kill(self.births("worker")[0].pid, signal.SIGCONT)
        self.until_states(worker="STOPPED")

    def do_shutdown(self) -> None:
        """Nothing more than what every test ends with."""

    def living(self, name: str) -> list[int]:
        """Which of the lives of a program go on."""
        return [birth.pid for birth in self.births(name) if birth.pid in marked(self.daemon.mark)]


def test_every_place_has_a_way_that_leads_past_it() -> None:
    """So a new one gets a test."""
    assert set(WAYS) == set(faults.POINTS)


@pytest.mark.parametrize(("point", "way", "deaths"), CASES)
def test_a_death_on_the_way_changes_nothing_about_where_it_leads(
    make_daemon: Callable[..., Daemon], tmp_path: Path, point: str, way: str, deaths: int
) -> None:
    """What was asked for is there; nobody who had nothing to do with it has noticed anything."""
    scene = Scene(make_daemon, tmp_path)
    if way == "begin":
        scene.begin(point, deaths)
        scene.until_states()
        assert scene.armed() == []
    else:
        scene.start()
        scene.until_states()
    scene.until_begun()
    untouched = {name: scene.births(name)[0].pid for name in ("steady", "fed")}
    scene.write()
    if way not in {"begin", "shutdown"}:
        scene.arm(point, deaths)
        getattr(scene, f"do_{way.replace(' ', '_')}")()
        assert scene.armed() == [], scene.daemon.said.read_text()[-3000:]
        scene.until_begun()
    scene.write()
    assert {name: scene.daemon.process(name) for name in untouched} == untouched
    if way == "shutdown":
        scene.arm(point, deaths)
    assert scene.daemon.stop() == 0
    assert scene.armed() == [], scene.daemon.said.read_text()[-3000:]
    assert marked(scene.daemon.mark) == {}
    scene.check_lives()
