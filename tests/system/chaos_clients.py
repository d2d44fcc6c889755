"""The clients of a chaos: each goes on over lost connections, and knows what it was told.

Owns what they do, and what of an answer can be judged at once.  Each is a thread with a connection of its own.
"""

from __future__ import annotations

import contextlib
import random
import threading
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from procctl.client import Client
from procctl.results import Event, EventGap, LogGap, LogPiece
from procd.errors import ShuttingDown, Unreachable
from tests.system.chaos_accounts import Lives, Request, lives_of, message
from tests.system.daemon import BOUND_S, alive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from procctl.pieces import Pieces
    from tests.system.daemon import Daemon

PIECE = TypeVar("PIECE")

SIZES = (10, 100, 1000, 4000, 10_000, 65_536)


class Somebody(threading.Thread):
    """A client that takes turns until it is told to end; `mistakes` are those of procd."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(seed)  # noqa: S311 - it has to be repeatable
        self.client = Client(str(daemon.socket), timeout_s=2 * BOUND_S)
        self.over = threading.Event()
        #: Held while it does something: whoever takes it lets it rest.
        self.turning = threading.Lock()
        self.mistakes: list[str] = []
        #: What was asked and answered, and how often the connection was lost.
        self.did: Counter[str] = Counter()

    def run(self) -> None:
        """Take turns."""
        while not self.over.wait(0.005):
            try:
                with self.turning:
                    self.turn()
            except Unreachable:
                self.did["lost"] += 1
            except Exception:  # noqa: BLE001 - whatever it is, it is told at the end
                self.mistakes.append(f"{type(self).__name__}: {traceback.format_exc()}")
                return

    def turn(self) -> None:
        """Do something."""
        raise NotImplementedError

    def end(self) -> None:
        """Have it end, and wait for that."""
        self.over.set()
        self.join(4 * BOUND_S)
        if self.is_alive():
            self.mistakes.append(f"{type(self).__name__} hangs")
        self.client.close()


class Feeder(Somebody):
    """Writes to the stdin of programs; `requests` has for each what was asked, in its order."""

    def __init__(self, daemon: Daemon, seed: int, names: Sequence[str]) -> None:
        super().__init__(daemon, seed)
        self.requests: dict[str, list[Request]] = {name: [] for name in names}
        self._last = 0

    def turn(self) -> None:
        """Write one message."""
        name = self.random.choice(list(self.requests))
        size = self.random.choices(SIZES, (30, 30, 20, 10, 5, 2))[0]
        self._last += 1
        data = message(self._last, size)
        accepted = None
        try:
            accepted = int(self.client.call("write", program=name, data=data)["accepted"])
            self.did["write"] += 1
        finally:
            self.requests[name].append(Request(self._last, size, accepted))
        self.over.wait(self.random.random() * 0.03)


class Operator(Somebody):
    """Starts, stops and restarts programs that nobody else touches, and rotates logs.

    `starts` counts for each program what may have started it.
    """

    def __init__(
        self, daemon: Daemon, seed: int, evidence: Path, names: Sequence[str], logs: Sequence[str]
    ) -> None:
        super().__init__(daemon, seed)
        self.starts: Counter[str] = Counter()
        self._evidence = evidence
        self._names = names
        self._logs = logs

    def turn(self) -> None:
        """Ask for one thing."""
        name = self.random.choice(self._names)
        act = self.random.choices([self._restart, self._stop_and_start, self._rotate], (4, 4, 1))[0]
        act(name)
        self.over.wait(self.random.random() * 0.1)

    def _restart(self, name: str) -> None:
        before = self._lives(name)
        self.starts[name] += 1
        self._ask("restart", name, "RUNNING")
        last = before.births[-1] if before.births else None
        if last is not None and _lives_on(before):
            self.mistakes.append(f"restart {name} was answered, and its life before lives: {last}")

    def _stop_and_start(self, name: str) -> None:
        self._ask("stop", name, "STOPPED")
        after = self._lives(name)
        if _lives_on(after):
            self.mistakes.append(f"stop {name} was answered, and it lives: {after.births[-1]}")
        self.over.wait(self.random.choice((0, 0, 0.05)))
        self.starts[name] += 1
        self._ask("start", name, "RUNNING")

    def _ask(self, verb: str, name: str, state: str) -> None:
        (outcome,) = self.client.call(verb, programs=[name])["programs"]
        self.did[verb] += 1
        if not outcome["ok"] or outcome["state"] != state:
            self.mistakes.append(f"{verb} {name}: {outcome}")

    def _rotate(self, _: str) -> None:
        name = self.random.choice(self._logs)
        (outcome,) = self.client.call("rotate", programs=[name])["programs"]
        self.did["rotate"] += 1
        if not outcome["ok"]:
            self.mistakes.append(f"rotate {name}: {outcome}")

    def _lives(self, name: str) -> Lives:
        return lives_of(self._evidence, name)


def _lives_on(lives: Lives) -> bool:
    """Whether the last life that was noted still is."""
    if not lives.births or not alive(lives.births[-1].pid):
        return False
    return start_of(lives.births[-1].pid) == lives.births[-1].start


def start_of(pid: int) -> int:
    """When a process started, in ticks since boot; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - as cheap as can be
            return int(stat.read().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


class Watcher(Somebody):
    """Looks at everybody all the time: who has not been touched is RUNNING with the PID that it had."""

    def __init__(self, daemon: Daemon, seed: int, pids: dict[str, int]) -> None:
        super().__init__(daemon, seed)
        self._pids = pids

    def turn(self) -> None:
        """Look once."""
        records: list[dict[str, Any]] = self.client.call("status")["programs"]
        self.did["status"] += 1
        now = {record["name"]: (record["state"], record["pid"]) for record in records}
        wrong = {name: now.get(name) for name, pid in self._pids.items() if now.get(name) != ("RUNNING", pid)}
        if wrong:
            self.mistakes.append(f"status: nobody has touched {wrong}, but they had {self._pids}")
            self.over.set()
        self.over.wait(0.2)


class Reader(Somebody, Generic[PIECE]):
    """Follows a stream over all deaths, until `until_the_end`."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon, 0)
        self.client.reconnect_s = BOUND_S
        self._ends = False

    def follow(self, pieces: Pieces[PIECE]) -> None:
        """Open the stream: from now on a daemon that is gone is waited for."""
        self._pieces = pieces.__enter__()

    def take(self, piece: PIECE) -> None:
        """Take what came."""
        raise NotImplementedError

    def turn(self) -> None:
        """Read to the end."""
        try:
            for piece in self._pieces:
                self.take(piece)
        except (Unreachable, ShuttingDown):
            if not self._ends:
                raise AssertionError("it does not come back") from None
        self.over.set()

    def until_the_end(self) -> None:
        """Procd is about to end: nobody is to be waited for any more."""
        self._ends = True
        self._pieces._client.reconnect_s = 0


class LogReader(Reader[LogPiece | LogGap]):
    """Follows a log from its beginning; `text` is what came."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        super().__init__(daemon)
        self.log_name = name
        self.text = bytearray()
        self.follow(self.client.logs(name, offset=0, follow=True))

    def take(self, piece: LogPiece | LogGap) -> None:
        """Add it to the text."""
        if isinstance(piece, LogGap):
            self.mistakes.append(f"a gap in what is read of {self.log_name}: {piece}")
        else:
            self.text += piece.data
            self.did["pieces"] += 1


class EventReader(Reader[Event | EventGap]):
    """Follows the events; `events` are those that were told, in their order."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon)
        self.events: list[dict[str, object]] = []
        self.follow(self.client.events(since=0, follow=True))

    def take(self, piece: Event | EventGap) -> None:
        """Add it to the events."""
        if isinstance(piece, EventGap):
            self.did["gaps"] += 1
        else:
            head = {"seq": piece.seq, "type": piece.type, "program": piece.program}
            self.events.append(head | piece.facts)


@contextlib.contextmanager
def resting(clients: Iterable[Somebody]) -> Iterator[None]:
    """Have them finish what they do, and do nothing meanwhile."""
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client.turning)
        yield


def end_all(clients: Iterable[Somebody]) -> list[str]:
    """End them, and tell what was wrong."""
    clients = list(clients)
    for client in clients:
        client.over.set()
    for client in clients:
        client.end()
    return [mistake for client in clients for mistake in client.mistakes[:5]]
