"""Random clients against a real procd: requests of every method, broken frames, sudden ends, other users.

Runs a few seconds among the tests, and as long as one likes by hand:

    python -m tests.system.fuzzing --seconds 900 --seed 1

What has to hold, whatever they send: procd lives and answers an ordinary client, its memory and descriptors are
bounded, it makes no mistake of its own (no traceback in its log), what it sends is procd's protocol, and nobody
is told a name that they may not see.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

from procd.control.methods import METHODS
from procd.errors import LocalProtocolError
from procd.wire import Connection, Response
from tests.system.daemon import Daemon, rss_bytes
from tests.system.strangers import connecting_as

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a client of another user must never hear.
SECRET = "xyzzy"  # noqa: S105 - the name of a program

CONFIGURATION = f"""
[control]
mode = "0666"

[[control.allow]]
users = [65534]
programs = ["fuzz*", "run-*", "mine:"]
actions = ["all"]

[[control.allow]]
users = [65533]
programs = ["fuzz-cat"]
actions = ["status", "events"]

[programs.secret-{SECRET}]
command = ["sleep", "1000"]

[programs.fuzz-cat]
command = ["cat"]
stdin = "pipe"

[programs.fuzz-needy]
command = ["sleep", "1000"]
depends_on = ["secret-{SECRET}"]
stop_timeout = "300ms"

[programs.fuzz-flood]
command = "while :; do echo 0123456789012345678901234567890123456789; sleep 0.01; done"
shell = true
start_limit = {{ count = 5, within = "10s" }}

[programs.fuzz-once]
command = ["true"]
type = "oneshot"
restart = "never"
"""

#: The users that clients are, by weight; the first is whoever runs this.
UIDS = (None, None, 65534, 65534, 65533, 65532)
#: Connections at once.
SLOTS = 40
#: Memory that procd may take more than after its start: the buffers of SLOTS clients, programs that are in no
#: file (`run` allows 1,024), and fragments.
MAY_GROW_BYTES = 96 << 20
#: Seconds within which an ordinary client is answered, on a machine that does other things too.
ANSWER_S = 20.0
#: Not for random clients: they would end the game.
EXCLUDED = frozenset({"shutdown", "upgrade"})

NAMES = (
    "fuzz-cat",
    "fuzz-needy",
    "fuzz-flood",
    "fuzz-once",
    "fuzz*",
    "secret*",
    "*",
    "mine:",
    "run-*",
    "run-1",
    "n o",
    "",
)


class Client:
    """One random client: a non-blocking socket, and what it has heard."""

    def __init__(self, path: Path, uid: int | None) -> None:
        self.uid = uid
        self.heard: Counter[str] = Counter()
        #: It knows that procd has closed the connection.
        self.over = False
        self._wire = Connection.of_client()
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        # A full backlog refuses; then this one sends into nowhere.
        with connecting_as(path, uid) as way, contextlib.suppress(BlockingIOError):
            self._socket.connect(way)

    def send(self, data: bytes) -> None:
        """Send as much as is taken."""
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def frame(self, method: str, params: dict[str, Any]) -> bytes:
        """A request, right or wrong."""
        self._last_id = (self._last_id + 1) % 2**32
        return bytes(msgpack.packb([0, self._last_id, method, [params]], use_bin_type=True))

    def read(self, most: int) -> None:
        """Read what is there; it must be procd's protocol, and tell no secret."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError, OSError):
            while most > 0:
                data = self._socket.recv(min(most, 65536))
                if not data:
                    self.over = True
                    return
                most -= len(data)
                assert self.uid is None or SECRET.encode() not in data, (
                    f"uid {self.uid} was told a secret: {data!r}"
                )
                for message in self._wire.receive(data):
                    if isinstance(message, Response):
                        self.heard["done" if message.error is None else message.error["code"]] += 1
                    else:
                        self.heard[message.method] += 1

    def close(self, how: int | None) -> None:
        """Leave: at once, or after saying that nothing more comes."""
        with contextlib.suppress(OSError):
            if how is not None:
                self._socket.shutdown(how)
        self._socket.close()

    def shut(self) -> None:
        """Say that nothing more comes, and listen on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)


class Fuzzing:
    """A run: its clients, what they do, and what has to hold."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.random = random.Random(seed)  # noqa: S311 - it has to be repeatable
        self.heard: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.most_bytes = 0
        self._clients: list[Client | None] = [None] * SLOTS
        self._first_bytes = rss_bytes(daemon.supervisor)
        self._actions: list[tuple[int, Callable[[Client], None]]] = [
            (60, self.ask), (10, self.ask_much), (10, self.garbage), (15, self.broken), (8, self.half),
            (25, self.read), (3, self.read_nothing), (3, self.shut),
        ]  # fmt: skip

    # What clients do

    def step(self) -> None:
        """Have one of them do something."""
        slot = self.random.randrange(SLOTS)
        client = self._clients[slot]
        if client is None:
            self._clients[slot] = Client(self.daemon.socket, self.random.choice(UIDS))
            return
        if client.over or self.random.random() < 0.04:
            self.leave(slot)
            return
        weights = [weight for weight, _ in self._actions]
        (action,) = self.random.choices([each for _, each in self._actions], weights)
        self.steps[action.__name__] += 1
        action(client)

    def leave(self, slot: int) -> None:
        """Go, in one of the ways to go."""
        client = self._clients[slot]
        self._clients[slot] = None
        if client is not None:
            client.read(1 << 20)
            self.heard += client.heard
            client.close(self.random.choice([None, None, socket.SHUT_RDWR, socket.SHUT_WR]))

    def ask(self, client: Client) -> None:
        """Ask for something, sensible or not."""
        client.send(self._request(client))
        client.read(self.random.choice([0, 100, 1 << 16]))

    def ask_much(self, client: Client) -> None:
        """Many requests at once, without reading an answer."""
        client.send(b"".join(self._request(client) for _ in range(self.random.randrange(60))))

    def garbage(self, client: Client) -> None:
        """Bytes."""
        client.send(self.random.randbytes(self.random.choice([1, 7, 300, 70_000])))

    def broken(self, client: Client) -> None:
        """A request with a few bytes changed, left out or doubled."""
        frame = bytearray(self._request(client))
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randrange(len(frame))
            match self.random.randrange(3):
                case 0:
                    frame[at] ^= 1 << self.random.randrange(8)
                case 1:
                    del frame[at]
                case _:
                    frame[at:at] = frame[at : at + self.random.randrange(9)]
            frame = frame or bytearray(b"\x94")
        client.send(bytes(frame))

    def half(self, client: Client) -> None:
        """The beginning of a request."""
        frame = self._request(client)
        client.send(frame[: self.random.randrange(len(frame))])

    def read(self, client: Client) -> None:
        """Read."""
        client.read(self.random.choice([10, 10_000, 1 << 20]))

    def read_nothing(self, client: Client) -> None:
        """Ask for a lot, and never read it."""
        client.send(client.frame("logs", {"program": "fuzz-flood", "offset": 0, "follow": True}) * 30)

    def shut(self, client: Client) -> None:
        """Half of an end."""
        client.shut()

    # What they ask for

    def _request(self, client: Client) -> bytes:
        name = self.random.choice([*sorted(set(METHODS) - EXCLUDED), "nothing", "__class__"])
        method = METHODS.get(name)
        params: dict[str, Any] = {}
        for parameter in method.parameters if method else ():
            if parameter.required or self.random.random() < 0.4:
                sensible = self.random.random() < 0.85
                params[parameter.name] = self._value(parameter.name) if sensible else self._anything(3)
        if self.random.random() < 0.05:
            params[self.random.choice(["x", "programs", "program", ""])] = self._anything(2)
        try:
            return client.frame(name, params)
        except (ValueError, OverflowError, LocalProtocolError):
            return client.frame(name, {})

    def _value(self, name: str) -> object:
        pick = self.random.choice
        match name:
            case "programs":
                return [pick(NAMES) for _ in range(pick([1, 1, 2, 30]))]
            case "program":
                return pick(NAMES)
            case "data":
                return self.random.randbytes(pick([1, 100, 65536]))
            case "signal":
                return pick(["TERM", "KILL", "USR1", 0, 1, 64, "CONT", "STOP"])
            case "timeout":
                return pick([0, 0.01, 0.2])
            case "stream":
                return pick(["stdout", "stderr", "stdin", 1, 2, 3])
            case "for":
                return pick(["running", "stopped", "exited", "healthy"])
            case "spec":
                return self._spec()
            case "wait" | "follow" | "rolling" | "group":
                return pick([True, False])
            case _:
                return pick([0, 1, 2, 10, 1000, 2**31, 2**40])

    def _spec(self) -> dict[str, Any]:
        pick = self.random.choice
        commands: list[object] = [["true"], "sleep 0.05", ["cat"], "/no/such/thing", "head -c 100000 /dev/zero"]
        keys: dict[str, object] = {
            "name": pick(["fuzz-run", "run-7", f"secret-{self.random.randrange(5)}"]),
            "user": pick(["root", 65534, 65533, "nobody", "x"]),
            "environment": {"A": "b", "C": pick(["d", 5])},
            "directory": pick(["/", "/root", "/nowhere"]),
            "restart": pick(["never", "on-failure"]),
            "groups": pick([["mine"], ["a"], "b"]),
            "stdin": pick(["pipe", "null"]),
            "max_runtime": "1s",
        }
        said = {key: value for key, value in keys.items() if self.random.random() < 0.25}
        return {"command": pick(commands), "rm": self.random.random() < 0.9, **said}

    def _anything(self, depth: int) -> object:
        pick = self.random.choice
        scalars: list[Any] = [
            None, True, -1, 0, 2**63, -(2**63), 1.5, float("nan"), float("inf"), "", "x", "\0", "é" * 50, b"",
            b"\xff", "x" * 5000,
        ]  # fmt: skip
        if depth == 0 or self.random.random() < 0.6:
            return pick(scalars)
        if self.random.random() < 0.5:
            return [self._anything(depth - 1) for _ in range(self.random.randrange(4))]
        return {str(number): self._anything(depth - 1) for number in range(self.random.randrange(4))}

    # What has to hold

    def check(self) -> None:
        """Look whether all is well."""
        began = time.monotonic()
        with self.daemon.client() as client:
            assert client.call("hello")["pid"] == self.daemon.supervisor
            client.call("metrics")
            client.call("start", programs=["fuzz-cat"], wait=False)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        assert self.slowest_s < ANSWER_S, self.slowest_s
        self.most_bytes = max(self.most_bytes, rss_bytes(self.daemon.supervisor))
        assert self.most_bytes - self._first_bytes < MAY_GROW_BYTES, self.most_bytes
        said = self.daemon.said.read_bytes()
        for sign in (b"Traceback", b"request failed"):
            at = said.find(sign)
            assert at < 0, said[max(0, at - 1000) : at + 6000].decode(errors="replace")

    def run(self, seconds: float) -> None:
        """Go on for so long, and look every second."""
        self.check()
        before = _descriptors(self.daemon.supervisor)
        ends_at = time.monotonic() + seconds
        next_check = time.monotonic() + 1
        while time.monotonic() < ends_at:
            for _ in range(50):
                self.step()
            if time.monotonic() >= next_check:
                self.check()
                next_check = time.monotonic() + 1
        for slot in range(SLOTS):
            self.leave(slot)
        self.check()
        with self.daemon.client() as client:
            client.call("stop", programs=["*"])
            client.call("start", programs=["*"], wait=False)
        self._until_closed(before)

    def _until_closed(self, descriptors: int) -> None:
        """Every connection is given back; programs that were run have a log open each."""
        with self.daemon.client() as client:
            programs = len(client.call("status")["programs"])
        deadline_s = time.monotonic() + ANSWER_S
        while _descriptors(self.daemon.supervisor) > descriptors + 4 * programs:
            assert time.monotonic() < deadline_s, "descriptors are left open"
            time.sleep(0.05)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a count


def main() -> None:
    """Run it by hand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        daemon = Daemon(place, CONFIGURATION)
        try:
            fuzzing = Fuzzing(daemon.start(), seed)
            fuzzing.run(options.seconds)
            with daemon.client() as client:
                print(f"procd counted {client.call('metrics')}")
        finally:
            daemon.end()
    print(f"steps {dict(fuzzing.steps)}")
    print(f"heard {dict(fuzzing.heard)}")
    print(f"slowest check {fuzzing.slowest_s:.3f} s, most memory {fuzzing.most_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
