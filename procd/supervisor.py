"""The supervisor process: everything wired together, run, and taken down in order.

Owns the order of things: subreaper, logs, runtime, control socket, and the same backwards.  Decides nothing
about a program; what a changed configuration means is the plan's business.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any, assert_never

import structlog
from msgspec import structs

from procd import __version__, faults
from procd.beginning import READ_AGAIN, read, recorded, tell_refused
from procd.config import plan as plans
from procd.config import transient
from procd.config.logs import EVENT_LOG
from procd.config.plan import Kind
from procd.control import Access, ControlServer
from procd.control.activation import NotASocketError, passed_socket
from procd.core import Add, Cause, Change, Machine, Remove, Shutdown, State
from procd.errors import ConfigurationError, Problem
from procd.handover import Handover
from procd.keeper.messages import KEEPER_KEY, fields
from procd.output.logs import Logs
from procd.output.remembered import PREFIX as LOGS
from procd.process import Limit, Reaper
from procd.process.limits import hold_descriptors
from procd.quantities import signal_name
from procd.runtime import Runtime
from procd.runtime.event_log import KEPT, EventLog
from procd.runtime.journal import actor_to_wire
from procd.runtime.keeping import packed, unpacked
from procd.runtime.life import Surroundings
from procd.runtime.logger import LOGGER_KEY, KeptLogger, starter
from procd.runtime.own_log import OwnLog
from procd.runtime.present_memory import PresentMemory
from procd.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.beginning import Beginning
    from procd.config.spec import Configuration, LogSpec, ProgramSpec
    from procd.core import Actor, Event
    from procd.keeper.client import Memory
    from procd.keeper.line import Record
    from procd.runtime.transient import Transients

log = structlog.get_logger()

#: While programs stop, systemd is told at most this often that it takes longer: half of what it is told.
_EXTEND_EVERY_S = 5.0
#: How long the logger may take to move what programs have written last, when all have ended.
_LOGGER_MAY_TAKE_S = 5.0
#: How long a burst of changes may last before systemd is told of it.
_STATUS_AFTER_S = 0.2
#: The record of the control socket: its value is the inode of its file.
_LISTEN = "listen"


class Supervisor:
    """A running procd.

    `limits` are those that the programs get; `environ` is the environment that procd was started with.
    """

    def __init__(
        self, beginning: Beginning, memory: Memory, limits: tuple[Limit, ...], environ: Mapping[str, str]
    ) -> None:
        self._beginning = beginning
        self._configuration = configuration = beginning.configuration
        self._memory = PresentMemory(memory)
        self._keeper = memory
        self._limits = limits
        self._environ = environ
        self._about_keeper = fields(beginning.recalled.value(KEEPER_KEY.decode()) or b"")
        self._systemd = Notifier(memory.notify if self._about_keeper.get("notify") == "1" else None)
        #: Until there are some: an earlier supervisor may have left them.
        self._may_have_programs = not beginning.is_first
        self._is_told_again = self._about_keeper.get("stopping") == "1"
        self._handover = Handover(self, memory, self._memory, self._about_keeper, environ)
        self.logger: KeptLogger
        self.events: EventLog
        self._own_log: OwnLog
        self.access = Access(configuration.daemon.allow)
        self.control = ControlServer(self)
        self._stopped = asyncio.Event()
        self._status_is_due = False
        self.runtime: Runtime

    @property
    def configuration(self) -> Configuration:
        """What is in force."""
        return self._configuration

    @property
    def held(self) -> int:
        """The descriptor that holds the runtime directory."""
        return self._beginning.held

    @property
    def closing(self) -> bool:
        """Whether procd is going down."""
        return self.runtime.machine.closing

    @property
    def exit_status(self) -> int:
        """What procd exits with: 0, or the status of the essential program that ended and took all with it.

        A signal counts as a shell counts it, 128 and its number; a program that never started as 1.
        """
        final = self.runtime.machine.final
        if final is None:
            return 0
        if final.exit is None:
            return 1
        if final.exit.signal is not None:
            return 128 + final.exit.signal
        return 1 if final.exit.code is None else final.exit.code

    # Life

    async def run(self) -> None:
        """Run until told to stop, and until everything has stopped."""
        loop = asyncio.get_running_loop()
        daemon = self._configuration.daemon
        memory = self._memory
        os.umask(0o022)
        Reaper.become_subreaper()
        reaper = Reaper(loop)
        self.logger = KeptLogger(loop, memory, starter(loop, reaper, self._environ))
        self._keeper.on_record = self._on_record
        logs = Logs(loop, self.logger.start, memory)
        around = Surroundings(loop, reaper, logs, dict(self._environ), self._limits, memory)
        machine = Machine(random.random, daemon.max_concurrent_starts)
        self.runtime = runtime = Runtime(around, machine)
        reaper.on_orphan = runtime.orphan_reaped
        self.events = EventLog(loop, logs, runtime.journal, f"{daemon.state_dir}/{EVENT_LOG}", memory)
        runtime.keeping.beside = self.events.keep
        self._own_log = OwnLog(loop, logs)
        try:
            await self._start(loop, logs)
            await self._stopped.wait()
        except BaseException:
            if not self.leaves_programs:
                await self._take_down(logs)
                reaper.close()
            # Otherwise another goes on from what is recorded, and nothing of it may be given up.
            self._own_log.close()
            raise
        await self._take_down(logs)
        reaper.close()
        log.info("procd has ended")

    async def _start(self, loop: asyncio.AbstractEventLoop, logs: Logs) -> None:
        runtime, recalled = self.runtime, self._beginning.recalled
        self.logger.adopt(recalled)
        logs.adopt(recalled.of(LOGS))
        if not self._beginning.is_first:
            self._own_log.begin()
        kept = recalled.of(KEPT)
        await self.events.begin(lambda: asyncio.sleep(0), kept, version=__version__, pid=os.getpid())
        self._open_sockets()
        runtime.keeping.file = self._beginning.in_force.programs
        await runtime.adopt(recalled, self._beginning.in_force.programs)
        runtime.checking.hear()
        self._listen(loop)
        self._catch_signals(loop)
        runtime.on_change = self._on_change
        logs.begin()
        # Not before, the first time: what is refused then is told without a logger.
        self._own_log.begin()
        programs = len(self._configuration.programs)
        log.info("procd runs", version=__version__, pid=os.getpid(), programs=programs)
        self._begin()
        recalled.close()
        faults.at("adopt.done")
        self._be_up()

    async def _take_down(self, logs: Logs) -> None:
        self.events.close()
        self._own_log.close()
        faults.at("drain.begun")
        # Followers get the last words out of the files.
        await logs.close(_LOGGER_MAY_TAKE_S)
        self.control.close()
        self.runtime.close()
        logs.release()
        self.logger.close()

    @property
    def leaves_programs(self) -> bool:
        """Whether programs may run for which another supervisor is to be started, if this one ends now."""
        return self._may_have_programs and not self._stopped.is_set()

    def _be_up(self) -> None:
        """Tell the keeper that we can be told anything, and systemd that we are ready."""
        keeper = self._keeper
        keeper.on_exit = self.runtime.kept_exit
        keeper.on_lost = self._handover.keeper_lost
        keeper.up()
        if keeper.lost:
            self._handover.keeper_lost()
        self._systemd.ready(self._summary())
        self._on_change()

    def _on_record(self, record: Record) -> None:
        if record.key == LOGGER_KEY:
            self.logger.told(record)
        record.close()

    def _open_sockets(self) -> None:
        """Open what programs are to find: the notify socket and the sockets of the configuration."""
        path = f"{self._configuration.daemon.runtime_dir}/notify.sock"
        recalled = self._beginning.recalled
        try:
            self.runtime.checking.open(path, recalled)
        except OSError as error:
            raise self._refused("daemon.runtime_dir", f"cannot make {path}: {error.strerror}") from error
        self.runtime.around.sockets.adopt(recalled)
        try:
            self._replace_sockets(self._configuration)
        except ConfigurationError as error:
            if self._beginning.is_first:
                raise
            # What was in force is open.
            tell_refused(error, "configuration refused, the old one stays in force")
            self._configuration = structs.replace(self._beginning.in_force)
            self.access = Access(self._configuration.daemon.allow)

    def _replace_sockets(self, configuration: Configuration) -> None:
        try:
            self.runtime.around.sockets.replace(configuration.sockets)
        except OSError as error:
            what = f"cannot listen on {error.filename}: {error.strerror}"
            raise self._refused("sockets", what) from error

    def _refused(
        self, key: str, what: str, remedy: str = "choose another one, or end who has it"
    ) -> ConfigurationError:
        file = self._configuration.files[0] if self._configuration.files else "procd"
        return ConfigurationError((Problem(file, 0, key, what, remedy),))

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        daemon = self._configuration.daemon
        recalled = self._beginning.recalled
        activated = [
            (name.rpartition(":")[0], record.fds[0]) for name, record in recalled.of("activated").items()
        ]
        try:
            passed = passed_socket(activated)
        except NotASocketError as error:
            raise self._refused("control.socket", str(error), "see docs/how-to/systemd.md") from error
        if passed is not None:
            self.control.adopt(loop, passed)
            return
        record = recalled.take(_LISTEN)
        left = None
        if record is not None:
            left = socket.socket(fileno=record.fds[0]), unpacked(record.value, tuple[int, int])
        self.control.on_bound = self._keep_socket
        try:
            self.control.listen(loop, daemon.socket, daemon.socket_mode, daemon.socket_group, left)
        except OSError as error:
            what = f"cannot listen on {daemon.socket}: {error.strerror}"
            remedy = "make its directory, or name a socket in another one"
            raise self._refused("control.socket", what, remedy) from error

    def _keep_socket(self, listening: socket.socket, inode: tuple[int, int]) -> None:
        self._memory.put(_LISTEN, packed(inode), (listening.fileno(),))

    def _catch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload_signal)

    def _begin(self) -> None:
        """Have the programs of the configuration, whatever there was before."""
        runtime = self.runtime
        self._may_have_programs = True
        if self._beginning.is_first:
            cause = Cause("started with procd")
            programs = self._configuration.programs.values()
            runtime.submit(*(Add(spec, cause, spec.autostart) for spec in programs))
            return
        changes = plans.compare(self._in_force(), self._configuration).changes
        cause = Cause("configuration changed")
        if self._configuration != self._beginning.in_force:
            self._put_in_force(self._configuration)
        # Not before: who dies in between is followed by one that reads it, too.
        self._memory.drop(READ_AGAIN)
        runtime.submit(*_events(changes, self._configuration, cause, runtime.transients))
        if self.closing:
            self._bound_stop()

    def _in_force(self) -> Configuration:
        """What the programs that there are amount to."""
        runtime = self.runtime
        programs = {
            name: program.successor or program.spec
            for name, program in runtime.machine.programs.items()
            if name not in runtime.transients and not program.retiring
        }
        in_force = self._beginning.in_force
        return structs.replace(in_force, programs=programs, daemon=self._configuration.daemon)

    def _put_in_force(self, configuration: Configuration) -> None:
        """Record a configuration, whose plan is to be carried out now."""
        keeping = self.runtime.keeping
        keeping.file = configuration.programs
        # First what differs from it: none of its programs may look as if it ran as this says already.
        keeping.specs()
        recorded(self._memory, configuration)
        faults.at("reload.planned")

    # Requests to the daemon as a whole

    def resolve(self, name: str, written: Mapping[str, Any], *, check_files: bool) -> ProgramSpec:
        """Make the spec of a program that is in no file; its log is nobody else's."""
        specs = [program.spec for program in self.runtime.machine.programs.values() if program.name != name]
        # Not of which: who asks may not be meant to know that there is one.
        taken = [(log.path, "the log of another program") for spec in specs for log in _logs_of(spec)]
        daemon = self._configuration.daemon
        return transient.resolve(name, written, daemon, taken, uid=os.geteuid(), check_files=check_files)

    def plan(self) -> tuple[plans.Change, ...]:
        """Read the configuration again and say what would change."""
        return plans.compare(self._configuration, read(self._configuration.files[0])).changes

    def reload(self, actor: Actor | None) -> tuple[plans.Change, ...]:
        """Read the configuration again and carry the plan out; if it cannot be read, nothing changes."""
        self._systemd.reloading()
        try:
            new = read(self._configuration.files[0])
            self._replace_sockets(new)
            changes = plans.compare(self._configuration, new).changes
            cause = Cause("configuration changed", actor)
            # The programs and the rules only: what else changed of the daemon itself is in force when it is
            # started again.
            daemon = structs.replace(self._configuration.daemon, allow=new.daemon.allow)
            self._configuration = structs.replace(new, daemon=daemon)
            self.access = Access(daemon.allow)
            self.control.look()
            self._put_in_force(self._configuration)
            self.runtime.submit(*_events(changes, new, cause, self.runtime.transients))
            log.info("configuration reloaded", changes=len(changes))
            self.runtime.journal.note("reload", None, changes=len(changes), by=actor_to_wire(actor))
        finally:
            self._systemd.ready(self._summary())
        return changes

    async def upgrade(self, actor: Actor) -> str:
        """Begin to go on as the program that is installed now; returns its version.

        Raises Failed when it could not go on, and WrongState; then nothing has changed.
        """
        return await self._handover.upgrade(actor)

    def shutdown(self, actor: Actor | None, why: str = "shutdown requested") -> None:
        """Stop everything, then end; asked for again, it kills what has not stopped yet."""
        if self.closing:
            self._hurry()
            return
        log.info("procd shuts down", reason=str(Cause(why, actor)))
        self.runtime.submit(Shutdown(Cause(why, actor)))
        self._bound_stop()

    def _bound_stop(self) -> None:
        self._systemd.stopping("Stopping all programs")
        timeout_s = self._configuration.daemon.shutdown_timeout_s
        if timeout_s is not None:
            asyncio.get_running_loop().call_later(timeout_s, self._hurry)
        self._extend_stop()

    def _hurry(self) -> None:
        for program in tuple(self.runtime.machine.programs.values()):
            if program.state is State.STOPPING:
                self.runtime.hurry(program.name)

    def _extend_stop(self) -> None:
        """Keep systemd from killing programs that their own stop_timeout still lets live."""
        if self._systemd.listens and not self._stopped.is_set():
            self._systemd.extend_timeout(2 * _EXTEND_EVERY_S)
            asyncio.get_running_loop().call_later(_EXTEND_EVERY_S, self._extend_stop)

    # Signals and changes

    def _on_stop_signal(self, number: int) -> None:
        if self._is_told_again:
            # The keeper tells whoever comes after one that was stopping; nobody is in a hurry because of that.
            self._is_told_again = False
            if self.closing:
                return
        self.shutdown(None, f"procd received {signal_name(number)}")

    def _on_reload_signal(self) -> None:
        self.control.look()
        if self.closing:
            return
        try:
            self.reload(None)
        except ConfigurationError as error:
            tell_refused(error, "configuration refused")

    def _on_change(self) -> None:
        if self.closing and self.runtime.machine.at_rest():
            self._stopped.set()
        elif self._systemd.listens and not self._status_is_due:
            # Once for a burst of changes: a thousand starts are not a thousand datagrams.
            self._status_is_due = True
            asyncio.get_running_loop().call_later(_STATUS_AFTER_S, self._tell_status)

    def _tell_status(self) -> None:
        self._status_is_due = False
        if not self.closing:
            self._systemd.status(self._summary())

    def _summary(self) -> str:
        """How many programs are in which state: `3 RUNNING, 1 BACKOFF`."""
        counts = Counter(program.state for program in self.runtime.machine.programs.values())
        states = ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
        return states or "no programs"


def _events(
    changes: tuple[plans.Change, ...], new: Configuration, cause: Cause, transients: Transients
) -> list[Event]:
    """Turn a plan into what the machine understands."""
    events: list[Event] = []
    for change in changes:
        match change.kind:
            case Kind.ADD:
                spec = new.programs[change.name]
                # It may run already, in no file until now: the machine gives it the new spec.
                transients.give_up(spec.name)
                events.append(Add(spec, cause, spec.autostart))
            case Kind.REMOVE:
                events.append(Remove(change.name, cause))
            case Kind.UPDATE if change.name not in new.programs:
                log.info("in force at once", keys=change.keys)
            case Kind.RESTART | Kind.UPDATE:
                restart = change.kind is Kind.RESTART
                events.append(Change(new.programs[change.name], cause, restart))
            case Kind.DAEMON:
                log.warning("in force after the next start of procd", keys=change.keys)
            case _:
                assert_never(change.kind)
    return events


def _logs_of(spec: ProgramSpec) -> list[LogSpec]:
    return [log for log in (spec.stdout_log, spec.stderr_log) if log is not None]


def raise_descriptor_limit() -> tuple[Limit, ...]:
    """Allow ourselves all descriptors that we may have; returns what we were given, which the programs get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return ()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Low numbers, while there still are some: a spawn needs a few below the limit that it lends to the child.
    hold_descriptors()
    return (Limit(resource.RLIMIT_NOFILE, soft, hard),)
