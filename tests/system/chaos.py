"""A chaos: the supervisor and the logger are killed and stopped at random, beside a hundred programs at work.

Half a minute of it among the tests, and as long as one likes by hand:

    python -m tests.system.chaos --seconds 300 --seed 1

The keeper is left alone.  What has to hold afterwards is what `Chaos.run` looks at, and `chaos_accounts` says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from procd.config.logs import EVENT_LOG
from procd.errors import Unreachable
from tests.system import chaos_accounts as accounts
from tests.system.chaos_clients import (
    EventReader,
    Feeder,
    LogReader,
    Operator,
    Somebody,
    Watcher,
    end_all,
    resting,
    start_of,
)
from tests.system.daemon import HEAD, PROGRAMS, Daemon, alive, marked, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A watchdog that bites within seconds, and no long waits between the starts of who dies again and again.
PACE = "beat=1 patience=1 grace=0.5 start=10 longest=0.2"
#: As many events as are recorded with the keeper, at most.
EVENTS_KEPT = 1100
#: What the keeper may have more of at the end, however long it takes: the records of programs get longer with
#: their histories, up to a bound, and its heap is cut into pieces when all of them come and go at once.
KEEPER_MAY_GROW_BYTES = 1 << 20

#: Instances of each program.  Those of `OPERATED` are started and stopped by clients, `dies` die by themselves.
INSTANCES = {
    "fast": 8, "slow": 16, "packed": 2, "stamped": 2, "json": 2, "dies": 24, "fed": 10, "work": 16, "rests": 14
}  # fmt: skip
SINGLE = ("screen", "notifies", "tells", "hooked", "tracked", "paused")
OPERATED = (*(f"work@{number}" for number in range(INSTANCES["work"])), "notifies", "tells", "hooked")
FORMATS = {"stamped": "timestamp", "json": "json"}


def _names() -> list[str]:
    return [f"{name}@{number}" for name, count in INSTANCES.items() for number in range(count)] + list(SINGLE)


NAMES = _names()
DYING = [name for name in NAMES if name.startswith("dies@")]
FED = [name for name in NAMES if name.startswith("fed@")]
#: Nobody touches them, and they do not die: one life, with one PID.
STEADY = [name for name in NAMES if name not in OPERATED and name not in DYING]
#: They write lines.
WRITING = [name for name in NAMES if not name.startswith(("fed@", "rests@"))]


def configuration(evidence: Path) -> str:
    """A hundred programs."""
    small = 'max_size = "64KiB", keep = 1000'

    def program(name: str, *work: object, more: str = "") -> str:
        script = [sys.executable, "-I", "-S", str(PROGRAMS / "chaos_life.py"), str(evidence), *map(str, work)]
        instances = f"instances = {INSTANCES[name]}\n" if name in INSTANCES else ""
        return f"[programs.{name}]\ncommand = {json.dumps(script)}\n{instances}{more}\n"

    hook = json.dumps([sys.executable, "-I", "-S", str(PROGRAMS / "chaos_hook.py"), str(evidence)])
    return "".join([
        'environment = { PYTHONDONTWRITEBYTECODE = "1" }\n',
        'backoff = { initial = "50ms", max = "200ms" }\n',
        # As many old files stay as there ever are: to rotate a line away is to lose it.
        program("fast", "lines", 0.05, 40, more='log = { max_size = "256KiB", keep = 1000 }'),
        program("slow", "lines", 0.5, 1, more=f"log = {{ {small} }}"),
        program("packed", "lines", 0.02, 20, more=f"log = {{ {small}, compress = true }}"),
        program("stamped", "lines", 0.05, 5, more=f'log = {{ {small}, format = "timestamp" }}'),
        program("json", "lines", 0.05, 5, more=f'log = {{ {small}, format = "json" }}'),
        program("dies", "dies", 0.1, 3),
        program("fed", "fed", more='stdin = "pipe"'),
        program("work", "lines", 0.05, 2),
        program("rests", "rests"),
        program("screen", "lines", 0.05, 3, more="terminal = true"),
        program("notifies", "notifies", more="ready = { notify = true }"),
        program("tells", "tells", 5, more="ready = { fd = 5 }"),
        program("hooked", "lines", 0.1, 1, more=f"hooks = {{ before_start = {hook} }}"),
        program("tracked", "lines", 0.02, 2),
        program("paused", "lines", 1.0, 200),
    ])  # fmt: skip


class Victim:
    """One of the two that are killed: the process that it is at present, looked for again each time."""

    def __init__(self, name: str, pid: Callable[[], int | None]) -> None:
        self.name = name
        #: Its PID; None while there is none.
        self.pid = pid

    def signal(self, number: signal.Signals) -> int | None:
        """Signal it, and nobody else; whom."""
        pid = self.pid()
        if pid is None:
            return None
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                if self.pid() == pid:
                    signal.pidfd_send_signal(fd, number)
                    return pid
            finally:
                os.close(fd)
        return None


def children_of(pid: int) -> list[int]:
    """Its children, zombies too."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def pss_bytes(pid: int) -> int:
    """Its proportional share of memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no PSS")


def descriptors(pid: int) -> Counter[str]:
    """What it has open, by kind."""
    found: Counter[str] = Counter()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(fd.readlink())
            # Of files the number of a rotated one, and of others their inode, are different each time.
            found[re.sub(r"\[\d+\]$|(\.log)(\.\d+)?(\.gz)?$", r"\1", target)] += 1
    return found


class Chaos:
    """A run of it, in a directory of its own."""

    def __init__(self, place: Path, seed: int, *, deaths: bool = True) -> None:
        self.random = random.Random(seed)  # noqa: S311 - it has to be repeatable
        self.seed = seed
        self.did: Counter[str] = Counter()
        self.mistakes: list[str] = []
        self._deaths = deaths
        self._evidence = place / "evidence"
        self._evidence.mkdir()
        self.daemon = Daemon(place, configuration(self._evidence), head=HEAD)
        self._clients: list[Somebody] = []
        self._readers: list[LogReader | EventReader] = []

    # The whole

    def run(self, seconds: float) -> None:
        """Go through it, and look at everything; `mistakes` has what was wrong."""
        daemon = self.daemon.start(environment={"PROCD_KEEPER_PACE": PACE})
        self._supervisor = Victim("supervisor", lambda: daemon.supervisor_now)
        self._logger = Victim("logger", lambda: daemon.logger_now)
        self._until_steady()
        self._pids = {name: pid for name, pid in daemon.pids().items() if name in STEADY and pid is not None}
        self._begin_readers()
        self._begin_clients()
        self._disturb(time.monotonic() + seconds / 4)
        with resting(self._clients):
            self._start_what_was_stopped()
            self._until_steady()
            self._note_events()
            before = self._at_a_quiet_moment()
        self._disturb(time.monotonic() + seconds * 3 / 4)
        self._kill_enough(seconds)
        self.mistakes += end_all(self._clients)
        self._start_what_was_stopped()
        self._until_steady()
        self._look_at_status()
        after = self._at_a_quiet_moment()
        self._compare(before, after)
        self._look_at_processes()
        self._end()
        self._look_at_evidence()
        self._look_at_what_procd_said()

    def _until_steady(self) -> None:
        """Wait until somebody supervises, and everybody runs."""

        def steady() -> bool:
            with contextlib.suppress(Unreachable):
                records = self.daemon.records()
                wrong = {name: record for name, record in records.items() if record["state"] != "RUNNING"}
                self._not_steady = {name: record["reason"] for name, record in wrong.items()}
                return all(name.startswith("dies@") for name in wrong) and len(records) == len(NAMES)
            return False

        self._not_steady: dict[str, str] = {}
        try:
            until(steady, "everybody to run")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._not_steady}") from error

    def _start_what_was_stopped(self) -> None:
        """Nobody knows of the last start of a client whether it was read."""

        def started() -> bool:
            with contextlib.suppress(Unreachable), self.daemon.client() as client:
                return bool(client.call("start", programs=list(OPERATED)))
            return False

        until(started, "the last starts to be answered")

    def _note_events(self) -> None:
        """Have so many events that the keeper, which has the last ones, does not get more of them later."""
        with self.daemon.client() as client:
            for _ in range(EVENTS_KEPT):
                client.call("signal", programs=["rests@0"], signal="CONT")

    # What is done to it

    def _begin_clients(self) -> None:
        daemon, evidence = self.daemon, self._evidence
        third = len(OPERATED) // 3
        rotated = [name for name in STEADY if name.startswith(("slow", "packed", "stamped", "json"))]
        seeds = [self.random.randrange(1 << 32) for _ in range(6)]
        self._feeders = [Feeder(daemon, seeds[0], FED[:5]), Feeder(daemon, seeds[1], FED[5:])]
        self._operators = [
            Operator(daemon, seeds[2 + part], evidence, OPERATED[part * third :][:third], rotated)
            for part in range(3)
        ]
        self._clients = [*self._feeders, *self._operators, Watcher(daemon, seeds[5], self._pids)]
        for client in self._clients:
            client.start()

    def _begin_readers(self) -> None:
        daemon = self.daemon
        self._readers = [LogReader(daemon, "tracked"), LogReader(daemon, "packed@0"), EventReader(daemon)]
        for reader in self._readers:
            reader.start()

    def _disturb(self, until_s: float) -> None:
        """Kill and stop them, in bursts and one by one, and leave them alone now and then."""
        acts: list[tuple[int, Callable[[], None]]] = [
            (8, self._kill_supervisor), (5, self._kill_logger), (3, self._kill_both), (3, self._kill_twice),
            (3, self._stop_for_a_moment), (1, self._stop_for_good), (2, self._leave_alone),
        ]  # fmt: skip
        while self._pass(self.random.choice((0.05, 0.2, 0.5, 1.0)) * 2 * self.random.random(), until_s):
            if any(client.mistakes for client in self._clients):
                return
            if self._deaths:
                (act,) = self.random.choices([each for _, each in acts], [weight for weight, _ in acts])
                act()
                self.did[act.__name__] += 1

    def _kill_enough(self, seconds: float) -> None:
        """Chance may have left them in peace, or to the watchdog, most of the time."""
        while self._deaths and not any(client.mistakes for client in self._clients):
            if self.did["supervisor killed"] > seconds / 4 and self.did["logger killed"] > seconds / 6:
                return
            self._kill_both()
            self._pass(self.random.random())

    def _pass(self, seconds: float, until_s: float = float("inf")) -> bool:
        """Let time pass; whether there is any left.  The moments themselves are what is random here."""
        time.sleep(max(0.0, min(seconds, until_s - time.monotonic())))
        return time.monotonic() < until_s

    def _kill(self, victim: Victim) -> int | None:
        """Kill it; who that was."""
        pid = victim.signal(signal.SIGKILL)
        if pid is not None:
            self.did[f"{victim.name} killed"] += 1
        return pid

    def _kill_supervisor(self) -> None:
        self._kill(self._supervisor)

    def _kill_logger(self) -> None:
        self._kill(self._logger)

    def _kill_both(self) -> None:
        for victim in self.random.sample((self._supervisor, self._logger), 2):
            self._kill(victim)

    def _kill_twice(self) -> None:
        """And the next one at any moment of its start."""
        self._kill(self._supervisor)
        for _ in range(2):
            pid = None
            ends_s = time.monotonic() + 2
            while pid is None and self._pass(0.005, ends_s):
                pid = self._supervisor.pid()
            self._pass(self.random.random() * self.random.choice((0.1, 0.4, 1.0)))
            self._kill(self._supervisor)

    def _stop_for_a_moment(self) -> None:
        victim = self.random.choice((self._supervisor, self._logger))
        if victim.signal(signal.SIGSTOP) is not None:
            self.did[f"{victim.name} stopped"] += 1
            self._pass(self.random.random())
            victim.signal(signal.SIGCONT)

    def _stop_for_good(self) -> None:
        """The watchdog has to end that."""
        victim = self.random.choice((self._supervisor, self._logger))
        pid = victim.signal(signal.SIGSTOP)
        if pid is not None:
            self.did[f"{victim.name} left to the watchdog"] += 1
            until(lambda: not alive(pid), f"the watchdog to end the {victim.name}, PID {pid}, which is stopped")

    def _leave_alone(self) -> None:
        self._pass(2.0)

    @property
    def _events(self) -> list[dict[str, object]]:
        (events,) = (reader.events for reader in self._readers if isinstance(reader, EventReader))
        return events

    # What is looked at while it runs

    def _at_a_quiet_moment(self) -> dict[str, object]:
        """Stop what comes and goes by itself, and measure; each of the two was started again just before."""
        daemon = self.daemon
        with daemon.client() as client:
            client.call("stop", programs=["dies@*", *OPERATED])
        for name in DYING:
            with accounts.place_of(self._evidence, name, "lives").open("a") as noted:
                noted.write("stopped\n")
        if self._deaths:
            self._start_again(self._supervisor)
            self._start_again(self._logger)
        with daemon.client() as client:
            until(
                lambda: (
                    client.call("metrics")["connections"] == 1 + len(self._readers)
                    or any(reader.mistakes for reader in self._readers)
                ),
                "the readers to be back",
            )
            measured: dict[str, object] = {"keeper": pss_bytes(daemon.pid)}
            processes = {
                "keeper": daemon.pid,
                "supervisor": self._supervisor.pid(),
                "logger": self._logger.pid(),
            }
            for name, pid in processes.items():
                if pid is not None:
                    measured[f"descriptors of the {name}"] = self._settled(pid)
            client.call("start", programs=["dies@*", *OPERATED])
        return measured

    def _start_again(self, victim: Victim) -> None:
        killed = self._kill(victim)
        # Who was killed is there for a moment still.
        until(lambda: victim.pid() not in {None, killed}, f"another {victim.name}")
        self._until_quiet()

    def _until_quiet(self) -> None:
        def quiet() -> bool:
            with contextlib.suppress(Unreachable), self.daemon.client() as client:
                return bool(client.call("metrics")["programs_running"] == len(STEADY))
            return False

        until(quiet, "those who are not stopped to run")

    def _settled(self, pid: int) -> Counter[str]:
        """The descriptors of a process that has nothing to do, once they are the same for a while."""
        seen = [descriptors(pid)]

        def same() -> bool:
            time.sleep(0.1)
            seen.append(descriptors(pid))
            return len(seen) > 5 and all(each == seen[-1] for each in seen[-5:])

        until(same, f"the descriptors of process {pid} to stay as they are")
        return seen[-1]

    def _compare(self, before: dict[str, object], after: dict[str, object]) -> None:
        for what, first in before.items():
            last = after[what]
            if isinstance(first, int) and isinstance(last, int):
                if last - first > KEEPER_MAY_GROW_BYTES:
                    self.mistakes.append(f"memory of the {what}: {first} bytes before, {last} after")
            elif isinstance(first, Counter) and isinstance(last, Counter) and first != last:
                self.mistakes.append(f"{what}: now {last - first} more, {first - last} less")

    def _look_at_status(self) -> None:
        """Everybody is as old as they are, and has died as often as they have."""
        for name, record in self.daemon.records().items():
            lives = accounts.lives_of(self._evidence, name)
            if name in STEADY:
                last = lives.births[-1] if lives.births else None
                if last is None or len(lives.births) != 1 or last.pid != record["pid"]:
                    self.mistakes.append(
                        f"{name} has PID {record['pid']} and {record['restarts']} restarts: {lives}"
                    )
                elif start_of(last.pid) != last.start:
                    self.mistakes.append(f"{name}: PID {last.pid} is somebody else")
        for name in DYING:
            # Between a birth and what is told of it there is a moment.
            def told(name: str = name) -> bool:
                lives = accounts.lives_of(self._evidence, name)
                return bool(self.daemon.record(name)["restarts"] == accounts.restarts_of(lives, self._events))

            with self._noting():
                until(told, f"{name} to have as many restarts as it had lives after its first")

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            self.mistakes.append(str(error))

    def _look_at_processes(self) -> None:
        """Nobody is below procd but the two, the programs and no zombie."""

        def strangers() -> dict[int, str]:
            daemon = self.daemon
            known = {daemon.pid, self._supervisor.pid(), self._logger.pid(), *daemon.pids().values()}
            return {pid: command for pid, command in marked(daemon.mark).items() if pid not in known}

        def zombies() -> list[int]:
            parents = [self.daemon.pid, self._supervisor.pid()]
            return [pid for parent in parents if parent for pid in children_of(parent) if not alive(pid)]

        with self._noting():
            until(lambda: not zombies(), f"zombies to be reaped: {zombies()}")
            until(lambda: not strangers(), f"strangers to be gone: {strangers()}")

    def _end(self) -> None:
        for reader in self._readers:
            reader.until_the_end()
        status = self.daemon.stop()
        if status != 0:
            self.mistakes.append(f"procd exited with {status}")
        left = marked(self.daemon.mark)
        if left:
            self.mistakes.append(f"left behind: {left}")
        self.mistakes += end_all(self._readers)

    # What is looked at afterwards

    def _look_at_evidence(self) -> None:
        """Compare what the programs have noted with what procd has written and told."""
        starts = sum((operator.starts for operator in self._operators), Counter(OPERATED * 4))
        logs = self.daemon.directory / "log"
        for name in NAMES:
            lives = accounts.lives_of(self._evidence, name)
            most = starts[name] + 1 if name in OPERATED else 1 if name in STEADY else None
            self.mistakes += accounts.started_once(lives, most)
            if name == "hooked":
                self.mistakes += accounts.hooks_before(lives, starts[name] + 1)
            if name in WRITING:
                text = accounts.log_at(logs / f"{name}.log")
                form = FORMATS.get(name.partition("@")[0], "raw")
                self.mistakes += accounts.lines_once(lives, text, form)
        for feeder in self._feeders:
            for name, requests in feeder.requests.items():
                place = accounts.place_of(self._evidence, name, "got")
                got = place.read_bytes() if place.exists() else b""
                self.mistakes += accounts.input_once(name, got, requests)
        events = self._events
        self.mistakes += accounts.numbered_upwards(events)
        for name in DYING:
            self.mistakes += accounts.every_end_told_once(accounts.lives_of(self._evidence, name), events)
        self._look_at_readers(logs)

    def _look_at_what_procd_said(self) -> None:
        """It made no mistake of its own; who was stopped and did not answer says where, in other words."""
        said = self.daemon.said.read_text(errors="replace")
        at = said.find("Traceback (most recent call last)")
        if at >= 0:
            count = said.count("Traceback (most recent call last)")
            self.mistakes.append(f"procd has written {count} tracebacks; the first: {said[at : at + 3000]}")

    def _look_at_readers(self, logs: Path) -> None:
        for reader in self._readers:
            if isinstance(reader, LogReader):
                whole = accounts.log_at(logs / f"{reader.log_name}.log")
                if bytes(reader.text) != whole:
                    what = (
                        f"{len(reader.text)} bytes, of which {_common(reader.text, whole)} are the log's first"
                    )
                    self.mistakes.append(f"who followed {reader.log_name} got {what}; the log has {len(whole)}")
        kept = accounts.events_at(self.daemon.directory / "state" / EVENT_LOG)
        self.mistakes += [f"events.log: {event}" for event in kept if event["type"] == "broken"]

    def report(self) -> str:
        """What was done, and what was wrong."""
        did = self.did + sum((client.did for client in (*self._clients, *self._readers)), Counter[str]())
        lives = sum(len(accounts.lives_of(self._evidence, name).births) for name in NAMES)
        lines = [f"seed {self.seed}: {lives} lives, {dict(did)}"]
        return "\n".join([*lines, f"evidence in {self.daemon.directory}", *self.mistakes])


def _common(one: bytes | bytearray, other: bytes) -> int:
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


def main() -> None:
    """Run it by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--no-deaths", action="store_true", help="only the clients and the programs")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    place = Path(tempfile.mkdtemp(prefix="procd-chaos-"))
    chaos = Chaos(place, seed, deaths=not options.no_deaths)
    try:
        chaos.run(options.seconds)
    finally:
        print(chaos.report())
        chaos.daemon.end()
    sys.exit(bool(chaos.mistakes))


if __name__ == "__main__":
    main()
