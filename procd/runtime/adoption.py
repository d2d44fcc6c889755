"""Going on where an earlier supervisor was cut off.

Owns what is made of its records: which processes are still those that were recorded, how the others ended, and
what became of what was only meant to be done.  Must not know who keeps the records.

A PID is nobody by itself: with its start time it is somebody, and a descriptor for it (pidfd_open(2)), opened
between two looks at that, stays with whom was looked at.  A life of which only the intent is recorded is found
by its cookie, which its process has in its environment as soon as it is executed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import msgpack
import structlog
from msgspec import structs

from procd import faults
from procd.config import snapshot
from procd.config.spec import ProgramSpec
from procd.core import Exit, HookEnded, RunHook, Signal, Spawn, SpawnSucceeded
from procd.errors import SpawnError, UnreadableRecord
from procd.output.streams import StreamKey
from procd.process import AdoptedProcess, Snapshot
from procd.process.tree import direct_children, look, start_time
from procd.runtime.emptiness import signal_group
from procd.runtime.heir import Heir
from procd.runtime.keeping import CHECK, IN, PIDFD, READY, HookRecord, Intent, LifeRecord, unpacked
from procd.runtime.wards import outcome_of_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from procd.config.spec import CgroupLimits
    from procd.core import Action, Hook
    from procd.core.memory import Record as CoreRecord
    from procd.keeper.line import Record
    from procd.process.tree import Identity
    from procd.runtime.life import Life
    from procd.runtime.recalled import Recalled
    from procd.runtime.runtime import Runtime

log = structlog.get_logger()

#: Seconds that a child may take from fork to exec, where its parent was killed in between, and how long between
#: two looks.
EXEC_MAY_TAKE_S = 2.0
_LOOK_S = 0.002

_UNKNOWN = "procd was killed while it ran, and nobody knows how it ended"


class Adoption:
    """One adoption: `find`, which may take a moment, then `carry_out` at once."""

    def __init__(
        self,
        runtime: Runtime,
        recalled: Recalled,
        file: Mapping[str, ProgramSpec],
    ) -> None:
        self._runtime = runtime
        self._keeper = os.getppid()
        self._recalled = recalled
        self._read_exits()
        whole = recalled.take("machine")
        self._whole: CoreRecord = _core(whole) if whole is not None else {}
        self._programs = {name: _core(record) for name, record in recalled.of("program").items()}
        own_specs = recalled.of("spec")
        self._own_specs = tuple(own_specs)
        self._specs, self._successors = self._read_specs(own_specs, file)
        self._transients = {name: record.value for name, record in recalled.of("transient").items()}
        lives = recalled.of("life")
        self._lives = {name: unpacked(record.value, LifeRecord) for name, record in lives.items()}
        self._ends = {kind: recalled.of(kind) for kind in (IN, READY, PIDFD)}
        self._intents = recalled.of("intent")
        self._exited = {name: unpacked(each.value, Exit) for name, each in recalled.of("end").items()}
        self._hooks = {name: unpacked(each.value, HookRecord) for name, each in recalled.of("hook").items()}
        checks = recalled.of(CHECK)
        self._checks = {name: unpacked(each.value, tuple[int, int]) for name, each in checks.items()}
        #: Lives that nobody knew of but their intent, with the descriptors of that.
        self._found: dict[str, Record] = {}
        #: Descriptors for the processes that live.
        self._held: dict[Identity, int] = {}

    def _read_exits(self) -> None:
        """What the keeper has told of until now."""
        self._exits = {(kept.pid, kept.started_ticks): kept for kept in self._recalled.exits}
        self._exits_of_pid = {kept.pid: kept for kept in self._exits.values()}

    def _read_specs(
        self, records: Mapping[str, Record], file: Mapping[str, ProgramSpec]
    ) -> tuple[dict[str, ProgramSpec], dict[str, ProgramSpec]]:
        specs, successors = dict(file), {}
        for name, record in records.items():
            specs[name], *following = snapshot.load(record.value, list[ProgramSpec])
            if following:
                successors[name] = following[0]
        for name in self._programs:
            if name not in specs:
                raise UnreadableRecord(name, "there is no spec of it")
        return specs, successors

    # Who lives, and what became of intents

    async def find(self) -> None:
        """Find the lives of which only the intent is recorded, and hold on to all that live."""
        await self._find_intended()
        self._hold_on()
        # Whoever is gone was reaped, and the keeper tells at once.
        await self._catch_up()

    def _hold_on(self) -> None:
        """Open descriptors: whoever dies from now on leaves word with them."""
        identities = [(life.pid, life.start) for life in self._lives.values() if life.exit is None]
        identities += [life.heir for life in self._lives.values() if life.heir is not None]
        identities += [(hook.pid, hook.start) for hook in self._hooks.values() if hook.exit is None]
        for identity in identities:
            pidfd = _open(*identity) if identity not in self._held else -1
            if pidfd >= 0:
                self._held[identity] = pidfd

    def _holding(self, pid: int, started: int) -> int:
        """The descriptor for a process, which is the caller's; -1 if it is gone, and how it ended is known."""
        pidfd = self._held.pop((pid, started), -1)
        if (pid, started) in self._exits:
            _close(pidfd)
            return -1
        return pidfd

    def _let_go(self) -> None:
        for pidfd in self._held.values():
            os.close(pidfd)
        self._held.clear()

    async def _catch_up(self) -> None:
        memory = self._runtime.around.memory
        if memory is not None:
            await memory.catch_up()
        self._read_exits()

    async def _find_intended(self) -> None:
        open_intents = {}
        for name, record in self._intents.items():
            intent = unpacked(record.value, Intent)
            known = self._lives.get(name)
            if known is not None and known.cookie == intent.cookie:
                record.close()
            else:
                open_intents[name] = intent
        hooks = {name: hook for name, hook in self._hooks.items() if hook.pid == 0}
        if not open_intents and not hooks:
            return
        await self._all_executed()
        cookies = {intent.cookie for intent in open_intents.values()} | {hook.cookie for hook in hooks.values()}
        carriers = Snapshot.take().carriers(cookies)
        await self._catch_up()
        for name, hook in hooks.items():
            begun = self._life_of(hook.cookie, carriers.get(hook.cookie, ()))
            if begun is not None:
                self._hooks[name] = structs.replace(hook, pid=begun.pid, start=begun.start)
        # Of one spawn only nothing but the intent is recorded: the last that was begun.
        for name, intent in open_intents.items():
            record = self._intents[name]
            life = self._life_of(intent.cookie, carriers.get(intent.cookie, ())) or self._short_life_of(intent)
            if life is None:
                record.close()
                continue
            self._found[name] = record
            self._lives[name] = life

    def _life_of(self, cookie: str, pids: Iterable[int]) -> LifeRecord | None:
        """The life whose processes have been found: its main process leads their session."""
        for pid in pids:
            try:
                leader = os.getsid(pid)
            except ProcessLookupError:
                continue
            kept = self._exits_of_pid.get(leader)
            started = start_time(leader) or (kept.started_ticks if kept else 0)
            return LifeRecord(cookie=cookie, pid=leader, start=started)
        return None

    def _short_life_of(self, intent: Intent) -> LifeRecord | None:
        """A life that is over already, and has left nobody who carries its cookie.

        The keeper has reaped it: a leader of a session that nobody knows, and that started since the intent.
        """
        known = {(life.pid, life.start) for life in self._lives.values()}
        known |= {(hook.pid, hook.start) for hook in self._hooks.values()}
        for kept in sorted(self._exits.values(), key=lambda each: each.started_ticks):
            identity = kept.pid, kept.started_ticks
            if kept.led_session and kept.started_ticks >= intent.ticks and identity not in known:
                return LifeRecord(cookie=intent.cookie, pid=kept.pid, start=kept.started_ticks)
        return None

    async def _all_executed(self) -> None:
        """Wait until nobody who was forked by our predecessor still is what that was."""
        waited_s = 0.0
        while waited_s < EXEC_MAY_TAKE_S and self._is_somebody_like_us():
            await asyncio.sleep(_LOOK_S)
            waited_s += _LOOK_S

    def _is_somebody_like_us(self) -> bool:
        """Whether a child of the keeper has our command line: a supervisor has forked it, and that is all.

        Or none at all: it is in the middle of its exec(2), and shows no cookie either.
        """
        others = (direct_children(self._keeper) or set()) - {os.getpid()}
        return any(_command_line(pid) in {b"", _command_line(os.getpid())} for pid in others)

    # All the rest, at once

    def carry_out(self) -> None:
        """Make all of it ours: lives, then what is decided, then what has happened meanwhile."""
        runtime = self._runtime
        now = runtime.around.loop.time()
        faults.at("adopt.lives")
        if not self._whole:
            # Nothing was decided yet.
            self._take_exits()
            return
        actions = runtime.machine.adopt(
            self._whole, self._programs.values(), self._specs, now, self._successors
        )
        runtime.decided([action for action in actions if not self._was_sent(action)])
        runtime.emptiness.has_adopted = True
        self._remember_keys()
        for name, spec in self._specs.items():
            if name in self._programs:
                runtime.follow(spec)
        self._resume_transients()
        self._end_checks()
        over = [call for name, record in self._lives.items() if (call := self._adopt_life(name, record))]
        self._settle_intents()
        programs = tuple(runtime.machine.programs.values())
        for program in [program for program in programs if program.spawning]:
            self._answer_spawn(program.name)
        for call in over:
            call()
        for program in programs:
            if program.hook is not None:
                self._adopt_hook(program.name, program.hook)
        self._take_exits()
        self._let_go()
        runtime.keeping.changed(runtime.machine.programs)
        log.info("programs are taken over", programs=len(self._programs), lives=len(self._lives))

    def _was_sent(self, action: Action) -> bool:
        """Whether it is a signal that was sent already: the second one means "at once" to many programs."""
        if not isinstance(action, Signal):
            return False
        life = self._lives.get(action.name)
        return life is not None and life.signalled >= self._runtime.machine.programs[action.name].step

    def _end_checks(self) -> None:
        """Nobody waits for what asks how a program is: it is asked again."""
        for name, (pid, start) in self._checks.items():
            if start_time(pid) == start:
                signal_group(pid, signal.SIGKILL)
            self._runtime.keeping.let_go(name, CHECK)

    def _resume_transients(self) -> None:
        for name, forget in self._transients.items():
            if name in self._programs:
                self._runtime.transients.resume(name, forget=bool(forget))
            else:
                # Whoever asked for it had no answer yet.
                self._runtime.keeping.let_go(name, "transient", "spec")

    def _settle_intents(self) -> None:
        """Lives that were found are recorded as such; of the other intents nothing came."""
        runtime = self._runtime
        for name in self._intents:
            life = runtime.lives.get(name) if name in self._found else None
            if life is not None:
                runtime.keeping.born(life, life.ends())
            else:
                runtime.keeping.unborn(name)

    def _remember_keys(self) -> None:
        keeping = self._runtime.keeping
        kinds = {
            "program": self._programs, "spec": self._own_specs, "transient": self._transients,
            "life": self._lives, "intent": self._intents, "end": self._exited, "hook": self._hooks,
            CHECK: self._checks, **self._ends,
        }  # fmt: skip
        for kind, names in kinds.items():
            for name in names:
                keeping.inherited(kind, name)

    def _answer_spawn(self, name: str) -> None:
        """Whoever was to be executed was, or is to be now."""
        life = self._runtime.life(name)
        if life is not None and not life.over:
            self._runtime.submit(SpawnSucceeded(name, life.pid))
        else:
            self._runtime.decided([Spawn(name)])

    def _adopt_life(self, name: str, record: LifeRecord) -> Callable[[], None] | None:
        """Take a life over; returns what is to be done about its end, if it has ended."""
        runtime = self._runtime
        program = runtime.machine.programs.get(name)
        ends = self._descriptors_of(name, record)
        if program is None:
            for fd in ends.values():
                os.close(fd)
            runtime.keeping.let_go(name, "life", IN, READY, PIDFD)
            return None
        # While another is to be spawned, the one that has ended is the one before.
        known = program.pid is not None or (program.spawning and record.exit is None)
        # A descriptor that was left is of whom it was left for, and tells how it ended, dead or not.
        pidfd = ends.pop(PIDFD, -1)
        if record.exit is not None or not known:
            _close(pidfd)
            pidfd = -1
        elif pidfd < 0:
            pidfd = self._holding(record.pid, record.start)
        if pidfd >= 0 and program.spec.cgroup is not None:
            self._limit(name, program.spec.cgroup)
        life = runtime.make_life(name, record.cookie)
        life.adopt(record, program.spec, runtime.around, pidfd, ends)
        runtime.lives[name] = life
        process = life.process
        assert isinstance(process, AdoptedProcess)  # noqa: S101 - for mypy
        if not known:
            # All is told already; only what is left of it is waited for.
            life.over, life.ended = True, record.exit
            runtime.around.logs.finish(name)
            process.reaped(record.exit or Exit())
            return None
        if pidfd >= 0:
            runtime.wards.watch(process, pidfd, record.start, keepers=self._is_keepers(record.pid))
            return self._heir_of(life, record)
        return partial(self._end, life, record, self._outcome(name, record))

    def _limit(self, name: str, limits: CgroupLimits) -> None:
        """See to it that limits hold: they may have been withdrawn (`Cgroups.withdraw`)."""
        try:
            self._runtime.around.cgroups.enter(name, limits)
        except SpawnError as error:
            log.error("limits of a program do not hold", program=name, reason=str(error))  # noqa: TRY400

    def _descriptors_of(self, name: str, record: LifeRecord) -> dict[str, int]:
        """Our ends of the pipes of a life."""
        found = self._found.get(name)
        if found is None:
            records = {kind: each.pop(name) for kind, each in self._ends.items() if name in each}
            return {kind: each.fds[0] for kind, each in records.items() if each.fds}
        # Nobody has read its output yet; what was attached already is the same pipe.
        ends = dict(zip(unpacked(found.value, Intent).ends, found.fds, strict=False))
        logs, spec = self._runtime.around.logs, self._specs[name]
        for stream in [each for each in ends if each not in {IN, READY}]:
            fd = ends.pop(stream)
            key = StreamKey(name, stream)
            kept = spec.stdout_log if stream == "stdout" else spec.stderr_log
            if kept is None or logs.has_pipe(key, fd):
                os.close(fd)
            else:
                logs.open(key, kept, spec.program, spec.instance)
                logs.attach(key, fd, record.pid)
        return ends

    def _outcome(self, name: str, record: LifeRecord) -> Exit:
        """How a main process ended that is not there any more."""
        if record.exit is not None:
            return record.exit
        kept = self._exits.get((record.pid, record.start)) or self._exits.get((record.pid, 0))
        if kept is not None:
            return outcome_of_kept(kept)
        if name in self._exited and name not in self._found:
            return self._exited[name]
        log.warning("program ended while nobody looked", program=name, pid=record.pid)
        return Exit()

    def _end(self, life: Life, record: LifeRecord, outcome: Exit) -> None:
        """Tell the end of a main process; of one with an heir, the end of that is what counts."""
        if record.exit is None:
            self._heir_of(life, record)
        assert isinstance(life.process, AdoptedProcess)  # noqa: S101 - for mypy
        life.process.exiting()
        life.process.reaped(outcome)

    def _heir_of(self, life: Life, record: LifeRecord) -> Callable[[], None] | None:
        """Follow the main process that a life has named; returns what is to be done if that has ended."""
        if record.heir is None:
            return None
        pid, started = record.heir
        pidfd = self._holding(pid, started)
        if pidfd >= 0:
            life.heir = Heir(self._runtime.around.loop, pid, pidfd, partial(self._runtime.heir_ended, life))
            return None
        kept = self._exits.get((pid, started))
        return partial(self._runtime.end, life, outcome_of_kept(kept) if kept is not None else Exit())

    def _adopt_hook(self, name: str, hook: Hook) -> None:
        """A hook that still runs is waited for; the others have ended."""
        record = self._hooks.get(name)
        runtime = self._runtime
        if record is None or record.hook != hook.value:
            # It was decided, and not begun.
            runtime.decided([RunHook(name, hook)])
            return
        if record.pid == 0:
            runtime.keeping.let_go(name, "hook")
            runtime.submit(HookEnded(name, hook, _UNKNOWN))
            return
        as_life = LifeRecord(cookie=record.cookie, pid=record.pid, start=record.start, exit=record.exit)
        pidfd = self._holding(record.pid, record.start) if record.exit is None else -1
        runtime.keeping.hook(name, record)
        command = runtime.adopt_hook(name, hook, record, pidfd)
        assert isinstance(command.process, AdoptedProcess)  # noqa: S101 - for mypy
        if pidfd >= 0:
            keepers = self._is_keepers(record.pid)
            runtime.wards.watch(command.process, pidfd, record.start, keepers=keepers)
        else:
            command.process.reaped(self._outcome(f"{name} (hook)", as_life))

    def _is_keepers(self, pid: int) -> bool:
        found = look(pid)
        return found is not None and found.parent == self._keeper

    def _take_exits(self) -> None:
        """What the keeper has told of is known now; of the others, somebody may wait for the end."""
        lives = {(record.pid, record.start) for record in self._lives.values()}
        for identity, kept in self._exits.items():
            self._runtime.keeping.taken(kept)
            if identity not in lives:
                self._runtime.orphan_reaped(kept.pid, outcome_of_kept(kept))


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _core(record: Record) -> CoreRecord:
    content: CoreRecord = msgpack.unpackb(record.value, unicode_errors="surrogateescape")
    return content


def _open(pid: int, started: int) -> int:
    """A descriptor for the process that started then; -1 if it is not there any more."""
    if pid <= 0 or start_time(pid) != started:
        return -1
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if start_time(pid) != started:
        os.close(pidfd)
        return -1
    return pidfd


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:  # noqa: PTH123 - as above
            return line.read()
    except OSError:
        return b""
