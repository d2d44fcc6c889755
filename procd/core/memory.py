"""What is remembered of a machine: plain data that outlives it, and the way back.

A record is a dict of None, bool, int, float, str, list and dict, one for each program, and a small one for the
machine as a whole.  It holds all that is decided and known; what follows from it, and from the specs, is worked
out again.  Moments are those of the monotonic clock, which goes on until the system is booted again.  Specs are
not in it: whoever keeps the records keeps these beside them.

The version says how a record is to be read.  It changes with every change to `_ProgramRecord`, and with every
new name of a state, hook or verdict; a version that is not known is refused, not guessed at.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from msgspec import Struct, ValidationError, convert, to_builtins

from procd.core.events import Cause, Hook, Transition
from procd.core.outcome import Exit, Final  # noqa: TC001 - msgspec reads the annotations
from procd.core.program import Program
from procd.core.states import Desired, State, Trigger
from procd.errors import UnreadableRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procd.config.spec import ProgramSpec
    from procd.core.machine import Machine

VERSION = 1

Record: TypeAlias = dict[str, Any]

R = TypeVar("R", bound=Struct)


class _Step(Struct, frozen=True):
    """One transition of the program whose record this is in."""

    old: State
    new: State
    cause: Cause
    at_s: float


class _ProgramRecord(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The facts of a `Program`, each under its name there.

    What is as in the beginning is left out, but not what somebody has wanted.
    """

    version: int
    name: str
    number: int
    state: State
    desired: Desired
    cause: Cause
    wish: Cause
    since_s: float
    held: bool
    armed: bool
    retiring: bool
    exit: Exit | None = None
    pid: int | None = None
    started_s: float | None = None
    died_s: float | None = None
    deadline_s: float | None = None
    failures: int = 0
    restarts: int = 0
    withdrawn: bool = False
    skipped: int = 0
    queued: int = 0
    spawning: bool = False
    health: bool | None = None
    health_failures: int = 0
    health_reason: str = ""
    hook: Hook | None = None
    cancelled: bool = False
    step: int = -1
    killed: bool = False
    empty: bool = False
    stuck: bool = False
    # These stand here in another form.
    failed_at_s: list[float] = []
    history: list[_Step] = []
    after: Literal["RESTART_NOW", "RESTART_LATER", "GAVE_UP"] | None = None


class MachineRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is decided about all programs: whether they are to be stopped, and because of which."""

    version: int
    closing: bool
    final: Final | None


#: Facts that stand in the record as they are: all between the version and those in another form.
_ALIKE = _ProgramRecord.__struct_fields__[1:-3]
_alike_of = attrgetter(*_ALIKE)


def dump_program(program: Program) -> Record:
    """Give the record of a program, in which nothing is shared with it."""
    record: Record = to_builtins(facts_of(program))
    return record


def facts_of(program: Program) -> object:
    """Give the record of a program for an encoder of msgspec, which makes plain data of it by itself."""
    steps = [_Step(each.old, each.new, each.cause, each.at_s) for each in program.history]
    after = None if program.after is None else program.after.name
    facts: list[Any] = [VERSION, *_alike_of(program), list(program.failed_at_s), steps, after]
    return _ProgramRecord(*facts)


def dump_machine(machine: Machine) -> Record:
    """Give the record of what is decided about all programs."""
    record: Record = to_builtins(MachineRecord(version=VERSION, closing=machine.closing, final=machine.final))
    return record


def read_program(record: Record, specs: Mapping[str, ProgramSpec]) -> Program:
    """Make the program of a record again.

    Raises UnreadableRecord, and KeyError for a name that is not in `specs`.
    """
    known = _read(record, _ProgramRecord)
    program = Program(specs[known.name], known.since_s)
    for name in _ALIKE:
        setattr(program, name, getattr(known, name))
    program.failed_at_s = tuple(known.failed_at_s)
    program.after = None if known.after is None else Trigger[known.after]
    program.history = tuple(
        Transition(known.name, each.old, each.new, each.cause, each.at_s) for each in known.history
    )
    return program


def read_machine(record: Record) -> MachineRecord:
    """Read what was decided about all programs.

    Raises UnreadableRecord.
    """
    return _read(record, MachineRecord)


def _read(record: Record, kind: type[R]) -> R:
    version = record.get("version")
    if version != VERSION:
        raise UnreadableRecord(record.get("name"), f"its version is {version!r}, and {VERSION} is understood")
    try:
        return convert(record, kind)
    except ValidationError as error:
        raise UnreadableRecord(record.get("name"), str(error)) from error
