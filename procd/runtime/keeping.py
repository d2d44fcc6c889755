"""What is remembered of the programs, for a supervisor that may have to come after this one.

Owns the records of programs and lives: their keys, their form, and when they are put.  `adoption` reads them.
Without a memory nothing is kept.

| key | value | descriptors |
| `machine` | what is decided about all programs (`core.memory`) | |
| `program:NAME` | what is decided about one (`core.memory`) | |
| `spec:NAME` | its spec in force and the one that follows, where these are not those of the file | |
| `intent:NAME` | the cookie of a life that is about to begin | our ends of its pipes, as the value names them |
| `life:NAME` | a life (`LifeRecord`) | |
| `in:NAME` | | the write end of its stdin, or our end of its terminal |
| `ready:NAME` | | the read end of the pipe on which it says that it is ready |
| `pidfd:NAME` | | its main process, where whoever was its parent has gone on purpose |
| `end:NAME` | how its main process ended | |
| `hook:NAME` | a hook that runs (`HookRecord`) | |
| `check:NAME` | the PID and the start of a command that asks how it is | |
| `transient:NAME` | it is in no file; whether it is forgotten when it has ended | |
"""

from __future__ import annotations

import asyncio
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeVar

import msgpack
import msgspec

from procd.config import snapshot
from procd.core import Exit  # noqa: TC001 - msgspec looks at it
from procd.core.memory import dump_machine, facts_of
from procd.process.start_times import ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from procd.config.spec import ProgramSpec
    from procd.core import Machine
    from procd.keeper.client import KeptExit
    from procd.runtime.life import Life
    from procd.runtime.present_memory import PresentMemory, RecordedValues

T = TypeVar("T")

_ENCODER = msgspec.msgpack.Encoder()
_NONE: frozenset[str] = frozenset()

#: What is put once for a life, and dropped when there is no more use for it.
IN, READY, PIDFD, CHECK = "in", "ready", "pidfd", "check"

#: All keys that a program can have, in the order in which they are forgotten.
_OF_A_PROGRAM = ("program", "spec", "transient", "intent", "life", IN, READY, PIDFD, "end", "hook", CHECK)


class NotKeptError(Exception):
    """The keeper is behind: what must be recorded before it is done has to wait (`Memory.settle`)."""


class LifeRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a life is, beside its descriptors.

    `start` is when its process started, in ticks since boot: with it the PID is somebody.  `heir` has the PID
    and the start of the main process that it has named.  `exit` is how it ended, once it has.
    """

    cookie: str
    pid: int
    start: int
    cgroup: str | None = None
    log_starts: dict[str, int] = {}
    status: str = ""
    phase: str = ""
    said_ready: bool = False
    heir: tuple[int, int] | None = None
    exit: Exit | None = None
    #: The last step of its stop whose signal it was sent; -1: none.
    signalled: int = -1


class HookRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A hook: `pid` is 0 as long as it is only meant to be started."""

    cookie: str
    hook: str
    pid: int = 0
    start: int = 0
    exit: Exit | None = None


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A life that is about to begin, at `ticks` since boot; `ends` says what the descriptors are."""

    cookie: str
    ticks: int = 0
    ends: tuple[str, ...] = ()


class Keeping:
    """Writes the records of one runtime.  `memory` is None where nobody would read them."""

    def __init__(self, memory: PresentMemory | RecordedValues | None, machine: Machine) -> None:
        self._memory = memory
        self._machine = machine
        #: The specs of the file, which are recorded as a whole by whoever owns them.
        self.file: Mapping[str, ProgramSpec] = {}
        self._changed: set[str] = set()
        #: The kinds of records of each program: many have the same, so there is one of each such set.
        self._kept: dict[str, frozenset[str]] = {}
        self._sets: dict[frozenset[str], frozenset[str]] = {}
        self._over: set[tuple[str, str]] = set()
        #: Which specs were put of a program whose specs are not the file's.
        self._specs: dict[str, tuple[ProgramSpec, ProgramSpec | None]] = {}
        self._decided: dict[str, object] | None = None
        #: Records what is to be recorded with what is decided.
        self.beside: Callable[[], None] = _nothing
        self._taken: list[KeptExit] = []
        self._waiting: asyncio.Future[None]

    def collect(self) -> AbstractContextManager[None]:
        """In a `with`: what is recorded may wait for the next intent, for `send`, or for the end."""
        return nullcontext() if self._memory is None else self._memory.collect()

    def send(self) -> None:
        """Send what was collected."""
        if self._memory is not None:
            self._memory.send()

    # Before something is done

    def when_settled(self, call: Callable[[], None]) -> None:
        """Call when the keeper is not behind any more."""
        if self._memory is not None:
            self._waiting = asyncio.ensure_future(self._memory.settle())
            self._waiting.add_done_callback(lambda _: call())

    def intend(self, name: str, cookie: str, ends: Mapping[str, int]) -> None:
        """Record that a life is about to begin, and what was decided before.  Raises NotKeptError."""
        self._intend(
            "intent", name, Intent(cookie=cookie, ends=tuple(ends), ticks=ticks()), tuple(ends.values())
        )

    def intend_hook(self, name: str, hook: HookRecord) -> None:
        """Record that a hook is about to begin, and what was decided before.  Raises NotKeptError."""
        self._intend("hook", name, hook)

    def _intend(self, kind: str, name: str, intent: object, fds: tuple[int, ...] = ()) -> None:
        memory = self._memory
        if memory is None:
            return
        try:
            with memory.batch():
                self.flush()
                if kind == "intent":
                    # Whatever it was: what is recorded of the life before is over.
                    self._drop("life", name)
                self._put(kind, name, packed(intent), fds)
            memory.send()
            kept = memory.settled or memory.lost
        except OSError:
            # The keeper is behind, and there is no room for a copy that could wait.
            kept = False
        if not kept:
            self._drop(kind, name)
            raise NotKeptError

    # As it happens

    def born(self, life: Life, ends: Mapping[str, int]) -> None:
        """Record a life in place of its intent; `ends` are its descriptors by the kind of their record."""
        if self._memory is None:
            return
        with self._memory.batch():
            self.life(life)
            for kind, fd in ends.items():
                self._put(kind, life.name, b"", (fd,))
            self._drop("intent", life.name)

    def unborn(self, name: str) -> None:
        """There is no such life, and will not be."""
        self._drop("intent", name)

    def life(self, life: Life) -> None:
        """Record what has changed of a life."""
        if self._memory is not None:
            self._put("life", life.name, packed(life.record()))

    def ended(self, life: Life) -> None:
        """Record the end of a life; there is no more use for its pipes."""
        if self._memory is None:
            return
        with self._memory.batch():
            self.life(life)
            self.let_go(life.name, IN, READY, PIDFD, "end")

    def hook(self, name: str, hook: HookRecord) -> None:
        """Record what has changed of a hook."""
        if self._memory is not None:
            self._put("hook", name, packed(hook))

    def ending(self, name: str, ended: Exit) -> None:
        """Record how a main process ended that is about to be reaped."""
        if self._memory is not None:
            self._put("end", name, packed(ended))

    def check(self, name: str, pid: int, start: int) -> None:
        """Record a command that asks how a program is: nobody else would end it."""
        if self._memory is not None:
            self._put(CHECK, name, packed((pid, start)))

    def let_go(self, name: str, *kinds: str) -> None:
        """Forget what there is no use for any more."""
        for kind in kinds:
            self._drop(kind, name)

    def over(self, kind: str, name: str) -> None:
        """Forget a record as soon as what follows from its end is recorded."""
        if self._memory is not None:
            self._over.add((kind, name))
            self._changed.add(name)

    def transient(self, spec: ProgramSpec, *, forget: bool) -> None:
        """Record a program that is in no file, before anything is decided about it."""
        self._specs_of(spec.name, spec, None)
        self._put("transient", spec.name, b"1" if forget else b"")

    def taken(self, kept: KeptExit) -> None:
        """Have an exit forgotten when all that follows from it is recorded."""
        self._taken.append(kept)

    # What is decided

    def changed(self, names: Iterable[str]) -> None:
        """Take note of programs of which something may be decided otherwise; `flush` records it."""
        if self._memory is not None:
            self._changed.update(names)

    def flush(self) -> None:
        """Record all that has changed."""
        memory = self._memory
        if memory is None or not (self._changed or self._taken):
            return
        changed, self._changed = self._changed, set()
        over, self._over = self._over, set()
        with memory.batch():
            decided = dump_machine(self._machine)
            if decided != self._decided:
                self._decided = decided
                memory.put("machine", packed(decided))
            for name in changed:
                self._flush_one(name)
            for kind, name in over:
                self._drop(kind, name)
            for kept in self._taken:
                memory.taken(kept)
            self.beside()
        self._taken.clear()

    def _flush_one(self, name: str) -> None:
        program = self._machine.programs.get(name)
        if program is None:
            self.let_go(name, *_OF_A_PROGRAM)
            self._kept.pop(name, None)
            self._specs.pop(name, None)
            return
        self._specs_of(name, program.spec, program.successor)
        self._put("program", name, packed(facts_of(program)))

    def _specs_of(self, name: str, spec: ProgramSpec, successor: ProgramSpec | None) -> None:
        if successor is None and spec == self.file.get(name):
            self._specs.pop(name, None)
            self._drop("spec", name)
            return
        known = self._specs.get(name)
        if known is None or known[0] is not spec or known[1] is not successor:
            self._specs[name] = (spec, successor)
            self._put("spec", name, snapshot.dump([each for each in (spec, successor) if each is not None]))

    def specs(self) -> None:
        """Record all specs that are not, or will not be, those of the file."""
        for name, program in self._machine.programs.items():
            self._specs_of(name, program.spec, program.successor)

    def again(self, lives: Iterable[Life], hooks: Mapping[str, HookRecord]) -> None:
        """Record everything: the memory is another one, which has nothing."""
        self._kept.clear()
        self._specs.clear()
        self._decided = None
        for life in lives:
            self.life(life)
            for kind, fd in life.ends().items():
                self._put(kind, life.name, b"", (fd,))
            self._keep_status(life)
        for name, hook in hooks.items():
            self.hook(name, hook)
        self._changed.update(self._machine.programs)
        self.flush()

    def _keep_status(self, life: Life) -> None:
        """Keep a descriptor of a process whose parent we will not be for long: it knows how that will end."""
        try:
            pidfd = os.pidfd_open(life.pid)
        except OSError:
            return
        self._put(PIDFD, life.name, b"", (pidfd,))
        os.close(pidfd)

    # The memory

    def _put(self, kind: str, name: str, value: bytes, fds: tuple[int, ...] = ()) -> bool:
        if self._memory is None:
            return True
        self.inherited(kind, name)
        self._over.discard((kind, name))
        return self._memory.put(f"{kind}:{name}", value, fds)

    def _drop(self, kind: str, name: str) -> None:
        kept = self._kept.get(name)
        if kept is not None and kind in kept and self._memory is not None:
            self._keep(name, kept - {kind})
            self._memory.drop(f"{kind}:{name}")

    def inherited(self, kind: str, name: str) -> None:
        """Take note of a record that an earlier supervisor has put."""
        kept = self._kept.get(name, _NONE)
        if kind not in kept:
            self._keep(name, kept | {kind})

    def _keep(self, name: str, kinds: frozenset[str]) -> None:
        self._kept[name] = self._sets.setdefault(kinds, kinds)


def packed(record: object) -> bytes:
    """A record as bytes; text is carried as it is, UTF-8 or not."""
    try:
        # A program has a dozen records from its start to its end: the other way takes seven times as long.
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        content: bytes = msgpack.packb(msgspec.to_builtins(record), unicode_errors="surrogateescape")
        return content


def unpacked(value: bytes, kind: type[T]) -> T:
    """What `packed` made of a record.  Raises ValueError for what is none."""
    try:
        return msgspec.convert(msgpack.unpackb(value, unicode_errors="surrogateescape"), kind)
    except msgpack.UnpackException as error:
        raise ValueError(f"this is no record: {error}") from error


def _nothing() -> None:
    """There is nothing else."""
