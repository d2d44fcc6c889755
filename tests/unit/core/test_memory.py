"""What is remembered of a machine, and another one that goes on with it."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from procd.config.spec import Check, CheckKind, Health, Hooks, Restart, StartLimit, StopScope, StopStep
from procd.core import (
    Action,
    Add,
    AwaitEmpty,
    AwaitReady,
    CancelHook,
    Change,
    CheckFailed,
    CheckPassed,
    Died,
    Exit,
    Exited,
    Forget,
    Hook,
    HookEnded,
    KillTree,
    Machine,
    Publish,
    Remove,
    ScheduleDue,
    Signal,
    Spawn,
    SpawnFailed,
    SpawnSucceeded,
    State,
    WatchHealth,
)
from procd.core.memory import VERSION, Record, dump_machine, dump_program
from procd.core.outcome import Final
from procd.core.program import Program
from procd.core.states import Trigger
from procd.errors import UnreadableRecord
from tests.unit.core.world import ASKED, World, oneshot, snapshot, spec

CHECK = Check(kind=CheckKind.NOTIFY)
HEALTH = Health(check=CHECK)
HOOKS = Hooks(before_start=("a",), after_ready=("b",), before_stop=("c",), after_stop=("d",))
STEPS = (StopStep(2, 5.0), StopStep(15, 7.0))

#: A record as this version writes it.  Whoever has to change it has to think of those that are kept already:
#: another VERSION, and a way to read this one.
GOLDEN: Record = {
    "version": 1,
    "name": "web",
    "number": 1,
    "state": "STOPPING",
    "desired": "up",
    "exit": {
        "code": None,
        "signal": 11,
        "core_dumped": True,
        "user_s": 1.5,
        "system_s": 0.5,
        "max_rss_bytes": 4096,
    },
    "cause": {"text": "unhealthy: refused", "actor": None},
    "wish": {"text": "asked", "actor": {"uid": 1000, "pid": 4711}},
    "pid": 1001,
    "since_s": 111.0,
    "started_s": 101.0,
    "died_s": None,
    "deadline_s": 116.0,
    "failures": 1,
    "failed_at_s": [100.0],
    "restarts": 1,
    "history": [
        {
            "old": "STOPPED",
            "new": "STARTING",
            "cause": {"text": "asked", "actor": {"uid": 1000, "pid": 4711}},
            "at_s": 100.0,
        }
    ],
    "held": False,
    "withdrawn": False,
    "armed": True,
    "skipped": 2,
    "queued": 0,
    "retiring": False,
    "spawning": False,
    "health": None,
    "health_failures": 0,
    "health_reason": "",
    "hook": "before_stop",
    "cancelled": True,
    "step": 0,
    "killed": False,
    "empty": False,
    "after": "RESTART_LATER",
    "stuck": False,
}
WHOLE: Record = {"version": 1, "closing": False, "final": None}


def carried(record: Record) -> Record:
    """A record after it was somewhere else."""
    carried: Record = msgpack.unpackb(msgpack.packb(record))
    return carried


def succeed(world: World, slots: int | None = None) -> list[Action]:
    """Let another machine go on with the programs of a world; returns what it says, in `actions` too."""
    old = world.machine
    records = [carried(dump_program(program)) for program in reversed(old.programs.values())]
    specs = {name: program.spec for name, program in old.programs.items()}
    successors = {name: each.successor for name, each in old.programs.items() if each.successor is not None}
    world.machine = Machine(lambda: 0.5, slots)
    world.actions = world.machine.adopt(carried(dump_machine(old)), records, specs, world.now, successors)
    return world.actions


# The record


def test_a_record_is_what_it_always_was() -> None:
    """Read, and written again, it is the same."""
    machine = Machine(lambda: 0.5)
    hooks = Hooks(before_stop=("c",))
    machine.adopt(WHOLE, [GOLDEN], {"web": spec(hooks=hooks)}, 112.0)
    program = machine.programs["web"]
    # Where it says nothing it is as in the beginning.
    assert dump_program(program) == {name: GOLDEN[name] for name in dump_program(program)}
    assert {*GOLDEN} - {*dump_program(program)} == {
        "died_s", "withdrawn", "queued", "spawning", "health", "health_failures",
        "health_reason", "killed", "empty", "stuck",
    }  # fmt: skip
    assert dump_machine(machine) == WHOLE
    assert program.exit == Exit(signal=11, core_dumped=True, user_s=1.5, system_s=0.5, max_rss_bytes=4096)
    assert (program.hook, program.after) == (Hook.BEFORE_STOP, Trigger.RESTART_LATER)
    assert program.wish == ASKED
    assert program.history[0].name == "web"
    assert machine.next_deadline() == 116


def test_every_fact_of_a_program_is_in_its_record_but_for_the_specs() -> None:
    """One that is added to a program some day cannot be forgotten here."""
    assert set(GOLDEN) - {"version"} == set(Program.__slots__) - {"spec", "successor"}
    assert GOLDEN["version"] == VERSION


def test_a_record_is_plain_and_shares_nothing() -> None:
    """What happens to the program later does not change it."""
    world = World(spec(start_limit=StartLimit(3, 60.0)))
    world.spawned()
    world.exited()
    record = dump_program(world["web"])
    assert record == carried(record)
    assert record["failed_at_s"] == [100.0]
    world.take_deadline("web")
    assert record["state"] == "BACKOFF"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"version": 2}, "the record of web cannot be read: its version is 2, and 1 is understood"),
        ({"version": None}, "its version is None"),
        ({"state": "ASLEEP"}, "Invalid enum value 'ASLEEP' - at `$.state`"),
        ({"after": "EMPTIED"}, "Invalid enum value 'EMPTIED' - at `$.after`"),
        ({"pid": "1"}, "Expected `int | null`, got `str` - at `$.pid`"),
        ({"colour": "red"}, "unknown field `colour`"),
    ],
)
def test_a_record_that_is_not_understood_is_refused_and_nothing_has_changed(
    facts: dict[str, Any], reason: str
) -> None:
    """Neither guessed at, nor taken for half of it."""
    machine = Machine(lambda: 0.5)
    records = [{**GOLDEN, "name": "other", "number": 2}, {**GOLDEN, **facts}]
    with pytest.raises(UnreadableRecord) as refused:
        machine.adopt({**WHOLE, "closing": True}, records, {"web": spec(), "other": spec("other")}, 112.0)
    assert reason in str(refused.value)
    assert refused.value.name == "web"
    assert (machine.programs, machine.closing, machine.next_deadline()) == ({}, False, None)


def test_a_record_with_a_fact_missing_is_refused() -> None:
    """There is no default for what somebody wanted."""
    record = {name: fact for name, fact in GOLDEN.items() if name != "held"}
    with pytest.raises(UnreadableRecord, match="missing required field `held`"):
        Machine(lambda: 0.5).adopt(WHOLE, [record], {"web": spec()}, 112.0)


def test_the_record_of_the_whole_is_refused_like_that_of_a_program() -> None:
    """It has a version of its own."""
    with pytest.raises(UnreadableRecord, match="the record of procd itself cannot be read") as refused:
        Machine(lambda: 0.5).adopt({**WHOLE, "version": 7}, [], {}, 112.0)
    assert refused.value.name is None


def test_a_record_without_a_spec_is_a_mistake_of_the_caller() -> None:
    """Whoever keeps records keeps specs."""
    machine = Machine(lambda: 0.5)
    with pytest.raises(KeyError):
        machine.adopt(WHOLE, [GOLDEN], {}, 112.0)
    assert machine.programs == {}


def test_a_machine_that_has_programs_adopts_nobody() -> None:
    """Their numbers would be somebody else's."""
    with pytest.raises(AssertionError, match="cannot adopt"):
        World(spec()).machine.adopt(WHOLE, [], {}, 112.0)


# What has changed


def test_the_machine_says_whose_records_a_call_may_have_changed() -> None:
    """The program that is named, and those that follow it; nobody else."""
    world = World(spec("db"), spec("app", needs=["db"]), spec("other"))
    world.run("db")
    assert world.machine.changed == {"db", "app"}
    world.spawned("app")
    assert "other" not in world.machine.changed
    world.shutdown()
    assert world.machine.changed == {"db", "app", "other"}


def test_a_fact_that_moves_nothing_changes_a_record() -> None:
    """A second failed check, a schedule that was skipped, another spec for later."""
    world = World(spec(health=HEALTH)).run()
    world.take(CheckFailed("web", "refused"))
    assert world.machine.changed == {"web"}
    world.pass_time(1)
    world.take(Change(spec(umask=0), ASKED, restart=True))
    assert world.machine.changed == {"web"}


def test_who_was_forgotten_has_changed() -> None:
    """Its record is to go."""
    world = World(spec()).run()
    world.take(Remove("web", ASKED))
    world.gone()
    assert (world.machine.changed, world.machine.programs) == ({"web"}, {})


# Another machine


def test_a_program_at_work_goes_on_as_if_nothing_had_been() -> None:
    """Its process, its deadline, its counters, its history."""
    world = World(spec(max_runtime_s=60)).run()
    before = snapshot(world["web"])
    assert succeed(world) == []
    assert snapshot(world["web"]) == before
    assert world.machine.next_deadline() == 160
    assert not world.machine.at_rest()
    world.exited("web", 1)
    assert world.spawns() == ["web"]
    assert world["web"].restarts == 1


def test_a_deadline_that_passed_meanwhile_passes_now() -> None:
    """Not a moment before somebody looks."""
    world = World(spec())
    world.spawned()
    world.exited()
    world.now += 1000
    succeed(world)
    assert world.state() is State.BACKOFF
    world.pass_time(0)
    assert world.spawns() == ["web"]


def test_a_failure_that_was_not_seen_is_dated_when_it_was() -> None:
    """It is handed in with its moment, and is no good run for having been noticed late."""
    world = World(spec(min_uptime_s=10))
    world.spawned()
    died_s, world.now = world.now + 2, world.now + 1000
    succeed(world)
    world.machine.handle(Exited("web", Exit(code=3)), died_s)
    assert (world.state(), world["web"].failures) == (State.BACKOFF, 1)
    assert world.why() == "exited with status 3 after 2s"
    world.pass_time(0)
    assert world.spawns() == ["web"]


def spawning() -> World:
    """A program that was to be spawned when everything ended."""
    world = World(spec())
    assert succeed(world) == []
    assert (world.state(), world["web"].spawning) == (State.STARTING, True)
    return world


def test_a_spawn_that_happened_is_answered_late() -> None:
    """The process was found: it is not started again."""
    world = spawning()
    world.take(SpawnSucceeded("web", 7))
    assert (world.state(), world["web"].pid, world.spawns()) == (State.STARTING, 7, [])


def test_a_spawn_that_did_not_happen_is_a_failed_start() -> None:
    """Nobody found a process."""
    world = spawning()
    world.take(SpawnFailed("web", "procd was killed before it was started"))
    assert world.state() is State.BACKOFF


def test_a_spawn_of_which_only_the_end_is_known_is_a_start_and_an_end() -> None:
    """Even if nobody knows how it ended."""
    world = spawning()
    world.take(SpawnSucceeded("web", 7), Exited("web", Exit()))
    assert world.state() is State.BACKOFF
    assert world.why() == "ended, nobody knows how after 0ms"


def test_a_stop_that_overtook_the_spawn_is_still_ahead_of_it() -> None:
    """What is spawned after all is told to stop."""
    world = World(spec())
    world.stop()
    assert succeed(world) == []
    world.take(SpawnSucceeded("web", 7))
    assert world.signals() == [("web", 15)]


def test_the_queue_for_start_slots_keeps_its_order() -> None:
    """Whoever was first is first, and nobody gets in front of those who wait."""
    world = World(*(spec(name) for name in "abc"), slots=1)
    world.stop("b")
    world.start("b")
    succeed(world, slots=1)
    world.take(Add(spec("d"), ASKED, start=True))
    order = ["a"]
    for _ in range(3):
        world.spawned(order[-1])
        world.pass_time(1)
        order += world.spawns()
    assert order == ["a", "b", "c", "d"]


def test_more_start_slots_are_used_at_once() -> None:
    """The configuration of the day counts."""
    world = World(*(spec(name) for name in "abc"), slots=1)
    assert [action.name for action in succeed(world, slots=2) if isinstance(action, Spawn)] == ["b"]
    assert world.states("a", "b", "c") == [State.STARTING, State.STARTING, State.WAITING]


def test_a_new_program_has_a_number_of_its_own() -> None:
    """And comes behind the others."""
    world = World(spec("a"), spec("b"))
    succeed(world)
    assert [each.number for each in world.machine.programs.values()] == [1, 2]
    world.take(Add(spec("c"), ASKED, start=True))
    assert world["c"].number == 3


def test_wishes_stay_what_they_were() -> None:
    """What somebody stopped stays stopped, a schedule that is obeyed is obeyed."""
    world = World(spec("db"), spec("app", needs=["db"]), oneshot(schedule="* * * * *"))
    world.stop("db")
    world.take(SpawnFailed("db", "too late"))
    succeed(world)
    assert world.states("db", "app") == [State.STOPPED, State.WAITING]
    assert (world["db"].held, world["db"].wish) == (True, ASKED)
    world.take(ScheduleDue("job"))
    assert world.spawns() == ["job"]


def test_what_goes_on_with_a_stack_is_the_order_of_its_stop() -> None:
    """A database that is to stop still waits for who needs it."""
    world = World(spec("db"), spec("app", needs=["db"])).run("db", "app")
    world.stop("db")
    succeed(world)
    assert world.states("db", "app") == [State.RUNNING, State.STOPPING]
    world.gone("app")
    assert world.signals() == [("db", 15)]


def test_a_successor_takes_over_when_the_old_life_is_over() -> None:
    """The spec that was to follow follows."""
    world = World(spec()).run()
    later = spec(umask=0)
    world.take(Change(later, ASKED, restart=True))
    succeed(world)
    assert world["web"].successor == later
    world.gone()
    assert world["web"].spec == later
    assert world.spawns() == ["web"]


def test_a_program_that_was_about_to_be_forgotten_is() -> None:
    """Everything ended between the decision and the deed."""
    world = World(spec()).run()
    world.take(Remove("web", ASKED))
    world.exited("web", 0)
    record = dump_program(world["web"])
    world.emptied()
    machine = Machine(lambda: 0.5)
    gone = {**record, "state": "STOPPED", "empty": True, "deadline_s": None}
    assert machine.adopt(WHOLE, [gone], {"web": spec()}, world.now) == [Forget("web")]
    assert machine.programs == {}


def test_a_shutdown_goes_on_and_so_does_its_reason() -> None:
    """Nothing is started any more; the essential program that ended is known."""
    world = World(spec("boss", essential=True, restart=Restart.NEVER), spec("web")).run("boss", "web")
    world.exited("boss", 3)
    succeed(world)
    assert world.machine.closing
    assert world.machine.final == Final("boss", Exit(code=3))
    assert dump_machine(world.machine)["final"]["name"] == "boss"
    world.start("web")
    world.gone("web")
    assert (world.spawns(), world.machine.at_rest()) == ([], True)


# What is said again


def said(world: World) -> list[Action]:
    """What another machine says again, and changes nothing by it."""
    before = snapshot(next(iter(world.machine.programs.values())))
    actions = succeed(world)
    assert snapshot(next(iter(world.machine.programs.values()))) == before
    assert not any(isinstance(action, Publish) for action in actions)
    return actions


def at_work(*steps: Any, **keys: Any) -> World:  # noqa: ANN401 - of a spec
    """A program that was told to stop while it ran."""
    world = World(spec(stop_steps=steps, **keys)).run()
    world.stop()
    return world


def test_who_is_not_ready_yet_is_asked_again() -> None:
    """The question ended with whoever asked it; one that is dead already is not asked."""
    world = World(spec(ready=CHECK))
    world.spawned()
    assert said(world) == [AwaitReady("web")]
    world.take(Died("web"))
    assert said(world) == []


def test_the_health_of_who_is_ready_is_watched_again() -> None:
    """What was known of it stays known."""
    world = World(spec(health=HEALTH)).run()
    world.take(CheckPassed("web"))
    assert said(world) == [WatchHealth("web")]
    assert world["web"].health is True


def test_the_signal_of_a_stop_may_not_have_been_sent() -> None:
    """Of the step it is in, to whom that is for; its time is not prolonged."""
    world = at_work(*STEPS, stop_scope=StopScope.PROCESS)
    assert said(world) == [Signal("web", 2, group=False)]
    assert world["web"].deadline_s == 106
    world.take_deadline("web")
    assert said(world) == [Signal("web", 15, group=True)]


def test_a_step_that_the_spec_does_not_have_any_more_is_not_said_again() -> None:
    """The deadline leads on."""
    world = at_work(*STEPS)
    world.take_deadline("web")
    world.take(Change(spec(), ASKED, restart=False))
    assert said(world) == []


def test_what_was_killed_is_killed_again() -> None:
    """Also where it has been waited for in vain, and where its main process is gone."""
    world = at_work()
    world.take_deadline("web")
    assert said(world) == [KillTree("web")]
    world.take_deadline("web")
    assert world["web"].stuck
    assert said(world) == [KillTree("web")]
    world.exited("web", None, 9)
    assert said(world) == [AwaitEmpty("web"), KillTree("web")]


def test_the_rest_of_a_stop_is_waited_for_again() -> None:
    """Until it is empty; what follows then is its own business."""
    world = at_work(hooks=Hooks(after_stop=("x",)))
    world.exited("web", 0)
    assert said(world) == [AwaitEmpty("web")]
    world.emptied()
    assert world["web"].hook is Hook.AFTER_STOP
    assert said(world) == []
    world.ended("web", Hook.AFTER_STOP)
    assert world.state() is State.STOPPED


def test_a_hook_that_runs_is_not_run_again() -> None:
    """Its end is owed by whoever found it, or did not."""
    world = World(spec(hooks=HOOKS))
    assert said(world) == []
    assert world["web"].hook is Hook.BEFORE_START
    world.take(HookEnded("web", Hook.BEFORE_START))
    assert world.spawns() == ["web"]


def test_a_hook_that_was_cancelled_is_cancelled_again() -> None:
    """By a stop, or by the end of the program."""
    world = World(spec(hooks=HOOKS))
    world.stop()
    assert said(world) == [CancelHook("web")]
    world = World(spec(hooks=Hooks(after_ready=("b",)))).run()
    world.exited()
    assert world.state() is State.WAITING
    assert said(world) == [CancelHook("web")]
    world.ended("web", Hook.AFTER_READY)
    assert world.spawns() == ["web"]
