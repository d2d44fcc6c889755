"""How the kernel is to treat a program: nice, I/O, CPUs, OOM killer, capabilities.

Owns what these keys mean together.  Whether procd can give it is asked of `rights`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procd.config.capabilities import number_of
from procd.config.problems import Mistake, quoted
from procd.config.rights import cpus_of
from procd.config.spec import Scheduling

if TYPE_CHECKING:
    from procd.config.context import Load
    from procd.config.declaration import Declaration
    from procd.config.program_schema import ProgramTable

KEYS = ("nice", "io_class", "io_priority", "cpu_affinity", "oom_score_adj")
"""The keys of a program that are fields of Scheduling."""

_IO_CLASSES = {"real-time": 1, "best-effort": 2, "idle": 3}  # ioprio_set(2)
_USUAL_IO_PRIORITY = 4  # the kernel's own, where nobody asks for another


def scheduling_of(declaration: Declaration, load: Load) -> Scheduling | None:
    """The scheduling of a program; None where it says nothing."""
    table = declaration.table
    if all(getattr(table, key) is None for key in KEYS):
        return None
    problems, rights = load.problems, load.rights
    if table.nice is not None:
        with problems.at(declaration.place("nice")):
            rights.require_nice(table.nice)
    if table.oom_score_adj is not None:
        with problems.at(declaration.place("oom_score_adj")):
            rights.require_oom_score(table.oom_score_adj)
    if table.io_class == "real-time":
        with problems.at(declaration.place("io_class")):
            rights.require_real_time_io()
    with problems.at(declaration.place("io_priority")):
        _check_io_priority(table)
    scheduling = Scheduling(
        nice=table.nice,
        io_class=None if table.io_class is None else _IO_CLASSES[table.io_class],
        io_priority=_io_priority(table),
        cpu_affinity=_cpus(declaration, load),
        oom_score_adj=table.oom_score_adj,
    )
    return load.shared(scheduling)


def capabilities_of(declaration: Declaration, load: Load) -> frozenset[int] | None:
    """The capabilities that a program keeps; None where nothing is said of them."""
    words = declaration.table.capabilities
    if words is None:
        return None
    with load.problems.at(declaration.place("capabilities")):
        load.rights.require_capabilities_can_be_dropped()
    kept = set()
    for index, word in enumerate(words):
        with load.problems.at(declaration.place("capabilities", index)):
            number = number_of(word)
            load.rights.require_capability(number)
            kept.add(number)
    return load.shared(frozenset(kept))


def _check_io_priority(table: ProgramTable) -> None:
    if table.io_priority is None:
        return
    if table.io_class is None:
        raise Mistake("is a priority within io_class, which is not set", 'write io_class = "best-effort"')
    if table.io_class == "idle":
        raise Mistake("the I/O class idle has no priorities", 'remove it, or write io_class = "best-effort"')


def _io_priority(table: ProgramTable) -> int | None:
    if table.io_class in {None, "idle"}:
        return None
    return _USUAL_IO_PRIORITY if table.io_priority is None else table.io_priority


def _cpus(declaration: Declaration, load: Load) -> frozenset[int] | None:
    words = declaration.table.cpu_affinity
    if words is None:
        return None
    numbers: frozenset[int] = frozenset()
    for index, word in enumerate(words):
        with load.problems.at(declaration.place("cpu_affinity", index)):
            try:
                found = cpus_of(str(word))
            except ValueError:
                raise Mistake(f"{quoted(word)} is not a CPU", 'write a number, or a range as "0-3"') from None
            load.rights.require_cpus(found)
            numbers |= found
    if not words:
        load.problems.add(declaration.place("cpu_affinity"), "is empty", "name at least one CPU")
    return load.shared(numbers)
