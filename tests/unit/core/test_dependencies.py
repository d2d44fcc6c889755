"""Programs that need each other: starts in order, stops in reverse, and everything parallel that can be."""

from __future__ import annotations

import pytest

from procd.config.spec import Check, CheckKind, Condition, Health, Hooks, Kind, Restart, StartLimit
from procd.core import (
    Add,
    CheckFailed,
    CheckPassed,
    Desired,
    Hook,
    Remove,
    ScheduleDue,
    Spawn,
    SpawnFailed,
    Start,
    State,
    Stop,
)
from tests.unit.core.world import ANA, ASKED, BOOT, World, oneshot, spec

STARTED, HEALTHY, COMPLETED = Condition.STARTED, Condition.HEALTHY, Condition.COMPLETED
HEALTH = Health(check=Check(kind=CheckKind.NOTIFY), failures=2, restart=False)
STOPPED, WAITING, STARTING, RUNNING, STOPPING, BACKOFF, EXITED, FATAL = State


def chain() -> World:
    """A front that needs an app that needs a database, all of them up."""
    return World(spec("front", needs=["app"]), spec("app", needs=["db"]), spec("db")).run("db", "app", "front")


# Starts


def test_programs_start_in_the_order_of_their_needs_whatever_the_order_of_the_file() -> None:
    """Each as soon as what it needs is ready."""
    world = World(spec("front", needs=["app"]), spec("app", needs=["db"]), spec("db"))
    assert world.spawns() == ["db"]
    assert world.machine.waits_for(world["app"]) == ["db to be ready (it is STARTING)"]
    assert world.machine.waits_for(world["db"]) == []
    world.spawned("db")
    assert world.spawns() == []
    world.take_deadline("db")
    assert world.spawns() == ["app"]
    world.run("app")
    assert world.spawns() == ["front"]


def test_programs_that_do_not_need_each_other_start_in_parallel() -> None:
    """All ten workers at once."""
    workers = [f"w{number}" for number in range(10)]
    world = World(spec("db"), *(spec(name, needs=["db"]) for name in workers))
    world.run("db")
    assert world.spawns() == workers


def test_started_needs_an_executed_process_only() -> None:
    """Not a ready one; but a hook before it is not yet a start."""
    world = World(spec("db", hooks=Hooks(before_start=("x",))), spec(needs={"db": STARTED}))
    assert world.spawns() == []
    world.ended("db", Hook.BEFORE_START)
    assert world.spawns() == ["db"]
    world.spawned("db")
    assert world.spawns() == ["web"]


def test_healthy_needs_a_check_that_passed_or_none() -> None:
    """Being ready is not enough where there is a check."""
    world = World(spec("db", health=HEALTH), spec("other"), spec(needs={"db": HEALTHY, "other": HEALTHY}))
    world.run("db", "other")
    assert world.spawns() == []
    world.take(CheckPassed("db"))
    assert world.spawns() == ["web"]


def test_completed_needs_success() -> None:
    """A oneshot that failed for good keeps its dependents waiting."""
    world = World(oneshot(restart=Restart.NEVER), spec(needs={"job": COMPLETED}))
    world.spawned("job")
    world.exited("job", 1)
    assert world.states("job", "web") == [EXITED, WAITING]
    world.start("job")
    world.complete()
    assert world.spawns() == ["web"]


def test_a_plain_dependency_on_a_oneshot_waits_for_its_success() -> None:
    """And holds on to nothing afterwards: stopping what is over stops nobody."""
    world = World(oneshot(), spec(needs=["job"]))
    world.spawned("job")
    world.take_deadline("job")
    assert world.states("job", "web") == [RUNNING, WAITING]
    world.exited("job", 0)
    assert world.spawns() == ["web"]
    world.run()
    world.stop("job")
    assert world.states("job", "web") == [STOPPED, RUNNING]


def test_whoever_wants_a_program_wants_what_it_needs() -> None:
    """All the way down, with the actor, in one request."""
    world = World(
        spec("front", needs=["app"]), spec("app", needs=["db"]), spec("db"), spec("other"), start=False
    )
    world.start("front")
    assert world.spawns() == ["db"]
    assert world.states("front", "app", "db", "other") == [WAITING, WAITING, STARTING, STOPPED]
    assert world["db"].wish.text == "needed by app: needed by front: asked"
    assert world["db"].wish.actor == ANA


def test_who_asks_brings_back_what_had_been_given_up() -> None:
    """A dependency that is FATAL, however deep, is worth another try to whoever asks."""
    world = World(spec("front", needs=["app"]), spec("app", needs=["db"]), spec("db", restart=Restart.NEVER))
    world.take(SpawnFailed("db", "exec: no such file"))
    assert world.state("db") is FATAL
    world.start("front")
    assert world.spawns() == ["db"]


def test_who_asks_brings_back_what_somebody_had_stopped() -> None:
    """Through programs in between that only wait."""
    world = chain()
    world.stop("db")
    world.gone("front")
    world.gone("app")
    world.gone("db")
    world.start("front")
    assert world.spawns() == ["db"]


def test_a_dependency_that_is_on_its_way_is_not_started_anew() -> None:
    """Its backoff is its own."""
    world = World(spec("db"), spec(needs=["db"]))
    world.spawned("db")
    world.exited("db")
    world.start()
    assert world.states("db", "web") == [BACKOFF, WAITING]


def test_needs_in_the_shape_of_a_lattice_are_looked_at_once() -> None:
    """Ten layers of ten, each needing all of the next: a hundred programs, not ten to the tenth ways."""
    layers = [[f"p{layer}-{number}" for number in range(10)] for layer in range(10)]
    specs = [
        spec(name, needs=layers[depth + 1] if depth < 9 else ())
        for depth, layer in enumerate(layers)
        for name in layer
    ]
    world = World(*specs, start=False)
    world.start("p0-0")
    assert sorted(world.spawns()) == sorted(layers[9])
    world.start("p0-1")
    assert world.spawns() == []


def test_no_more_than_max_concurrent_starts_are_starting() -> None:
    """The others wait in the order of their requests, and say for what."""
    world = World(*(spec(name) for name in "abc"), slots=2)
    assert world.spawns() == ["a", "b"]
    assert world.machine.waits_for(world["c"]) == ["a start slot (2 of 2 programs are starting)"]
    world.spawned("a")
    world.exited("a")
    assert world.spawns() == ["c"]
    world.run("b", "c")
    assert world.machine.waits_for(world["c"]) == []


def test_who_is_stopped_in_the_queue_loses_its_place() -> None:
    """Nobody waits for its turn."""
    world = World(spec("a"), spec("b"), spec("c"), slots=1)
    world.stop("b")
    world.run("a")
    assert world.states("b", "c") == [STOPPED, STARTING]


def test_whose_dependency_goes_before_its_turn_comes_waits_on() -> None:
    """Its place in the queue is no promise."""
    world = World(spec("db"), spec("a"), spec(needs=["db"]), slots=1)
    world.run("db")
    assert world.states("a", "web") == [STARTING, WAITING]
    world.stop("db")
    world.take(SpawnFailed("a", "x"))
    assert world.states("db", "a", "web") == [STOPPING, BACKOFF, WAITING]
    assert world.machine.waits_for(world["web"]) == ["db to be ready (it is STOPPING)"]


# Ends


def test_a_dependent_runs_on_while_its_dependency_restarts() -> None:
    """READY is a condition for the start."""
    world = chain()
    world.exited("db")
    assert world.states("db", "app", "front") == [STARTING, RUNNING, RUNNING]


def test_failures_without_the_dependency_do_not_count() -> None:
    """They use up no start limit, and the dependent comes back with the dependency."""
    world = World(spec("db"), spec(needs=["db"], start_limit=StartLimit(1, 1000))).run("db")
    for _ in range(5):
        world.spawned()
        world.exited("db")
        world.exited()
        assert world.state() is WAITING
        assert world.why() == "exited with status 1 after 0ms; not counted, what it needs was missing"
        world.run("db")
        assert world.state() is STARTING
    assert world["web"].failures == 0


def test_a_dependent_of_a_healthy_dependency_yields_when_that_is_not() -> None:
    """It is stopped, waits, and comes back; nobody counts that as its failure."""
    world = World(spec("db", health=HEALTH), spec(needs={"db": HEALTHY})).run("db")
    world.take(CheckPassed("db"))
    world.run()
    world.take(CheckFailed("db", "refused"))
    assert world.state() is RUNNING
    world.take(CheckFailed("db", "refused"))
    assert world.states("db", "web") == [RUNNING, STOPPING]
    assert world.why() == "db is not healthy: refused"
    world.gone()
    assert world.state() is WAITING
    world.take(CheckPassed("db"))
    assert world.spawns() == ["web"]
    assert (world["web"].failures, world["web"].restarts) == (0, 0)


def test_a_dependent_of_a_healthy_dependency_yields_when_that_ends() -> None:
    """The reason is the end of the other."""
    world = World(spec("db"), spec(needs={"db": HEALTHY})).run("db").run()
    world.exited("db", 3)
    assert world.state() is STOPPING
    assert world.why() == "db is not healthy: exited with status 3 after 2s"


def test_a_restart_of_a_dependency_leaves_those_alone_that_need_it_ready() -> None:
    """And takes along those that need it healthy."""
    world = World(spec("db"), spec(needs=["db"]), spec("app", needs={"db": HEALTHY})).run("db", "web", "app")
    world.restart("db")
    assert world.states("db", "web", "app") == [STOPPING, RUNNING, STOPPING]


@pytest.mark.parametrize("condition", [STARTED, COMPLETED])
def test_started_and_completed_are_about_order_only(condition: Condition) -> None:
    """What happens to the dependency later does not matter."""
    world = World(spec("db", kind=Kind.ONESHOT), spec(needs={"db": condition}))
    world.complete("db").run()
    world.stop("db")
    assert world.states("db", "web") == [STOPPED, RUNNING]


# Stops


def test_a_stop_of_a_dependency_takes_its_dependents_down_first() -> None:
    """In reverse, each only when what needs it is empty; they stay wanted."""
    world = chain()
    world.stop("db")
    assert world.states("db", "app", "front") == [RUNNING, RUNNING, STOPPING]
    assert world.why("front") == "db, which it needs, is to stop: asked"
    assert world["front"].cause.actor == ANA
    world.gone("front")
    assert world.states("db", "app", "front") == [RUNNING, STOPPING, WAITING]
    world.gone("app")
    assert world.states("db", "app", "front") == [STOPPING, WAITING, WAITING]
    world.gone("db")
    assert [world[name].desired for name in ("db", "app", "front")] == [Desired.DOWN, Desired.UP, Desired.UP]


def test_they_come_back_when_the_dependency_does() -> None:
    """In order."""
    world = chain()
    world.stop("db")
    for name in ("front", "app", "db"):
        world.gone(name)
    world.start("db")
    assert world.spawns() == ["db"]
    world.run("db", "app", "front")


def test_a_stop_that_is_taken_back_spares_who_was_not_yet_stopped() -> None:
    """Only the one that is on its way down has to come back."""
    world = chain()
    world.stop("db")
    world.start("db")
    assert world.states("db", "app", "front") == [RUNNING, RUNNING, STOPPING]
    world.gone("front")
    assert world.spawns() == ["front"]


def test_a_dependent_that_is_stopped_does_not_start_again_before_its_dependency_is_stopped() -> None:
    """What is withdrawn is nothing to build on, although it still runs for somebody else."""
    world = World(spec("db"), spec("quick", needs=["db"]), spec("slow", needs=["db"])).run(
        "db", "quick", "slow"
    )
    world.stop("db")
    world.gone("quick")
    assert world.states("db", "quick", "slow") == [RUNNING, WAITING, STOPPING]
    assert world.machine.waits_for(world["quick"]) == ["db to be ready (it is RUNNING, and is to stop)"]


def test_a_failure_breaks_the_order_of_a_stop() -> None:
    """Who ends before its turn is stopped, and does not come back."""
    world = chain()
    world.stop("db")
    world.exited("db")
    assert world.states("db", "app", "front") == [STOPPED, RUNNING, STOPPING]
    world.gone("front")
    world.gone("app")
    assert world.states("db", "app", "front") == [STOPPED, WAITING, WAITING]


def test_an_unhealthy_dependency_does_not_wait_for_who_needs_the_dependent() -> None:
    """Going on without health is what was not wanted; READY dependents of the dependent run on."""
    world = World(spec("db", health=HEALTH), spec("app", needs={"db": HEALTHY}), spec("front", needs=["app"]))
    world.run("db")
    world.take(CheckPassed("db"))
    world.run("app", "front")
    world.take(CheckFailed("db", "x", final=True))
    assert world.states("app", "front") == [STOPPING, RUNNING]


def test_a_stuck_dependent_does_not_hold_the_stop_back() -> None:
    """It is not waited for forever."""
    world = World(spec("db"), spec(needs=["db"])).run("db").run()
    world.stop("db")
    world.take_deadline("web")
    world.take_deadline("web")
    assert world.states("db", "web") == [STOPPING, FATAL]


def test_shutdown_stops_everything_in_reverse_and_starts_nothing() -> None:
    """STARTED and COMPLETED count for that order too."""
    world = World(spec("db"), spec("app", needs={"db": STARTED}), spec("front", needs=["app"]))
    world.run("db", "app", "front")
    world.shutdown()
    assert world.states("db", "app", "front") == [RUNNING, RUNNING, STOPPING]
    world.gone("front")
    world.gone("app")
    world.gone("db")
    assert world.machine.at_rest()
    for request in (world.start, world.restart):
        assert request("db") == []
    world.take(Add(spec("new"), ASKED, start=True), ScheduleDue("db"))
    assert world.spawns() == []


@pytest.mark.parametrize("state", [STOPPED, WAITING, BACKOFF, EXITED, FATAL, STARTING, RUNNING, STOPPING])
def test_shutdown_ends_in_every_state(state: State) -> None:
    """Nothing is left that wants to run."""
    never = state in {EXITED, FATAL}
    world = World(
        spec(needs=["ghost"] if state is WAITING else (), restart=Restart.NEVER if never else Restart.ALWAYS),
        start=state is not STOPPED,
    )
    if state in {RUNNING, STOPPING, EXITED}:
        world.run()
    if state is STOPPING:
        world.restart()
    elif state is EXITED:
        world.exited()
    elif state in {BACKOFF, FATAL}:
        world.take(SpawnFailed("web", "x"))
    elif state is STARTING:
        world.spawned()
    assert world.state() is state
    world.shutdown()
    if not world.machine.at_rest():
        world.gone()
    assert world.machine.at_rest()
    assert world.machine.next_deadline() is None
    world.shutdown()
    assert world.machine.at_rest()


# A manual stop


def stopped_by_hand() -> World:
    """A database that somebody has stopped, and what needs it."""
    nightly = oneshot("nightly", needs=["db"], schedule="0 3 * * *")
    world = World(spec("db"), spec(needs=["db"]), nightly).run("db").run()
    world.stop("db")
    world.gone()
    world.gone("db")
    return world


def test_a_schedule_does_not_undo_a_manual_stop() -> None:
    """What is due waits, and the next time is skipped and counted."""
    world = stopped_by_hand()
    world.take(ScheduleDue("nightly"))
    assert world.states("db", "nightly") == [STOPPED, WAITING]
    world.take(ScheduleDue("nightly"))
    assert world["nightly"].skipped == 1


def test_a_new_dependent_does_not_undo_a_manual_stop() -> None:
    """A reload is nobody's start of the database."""
    world = stopped_by_hand()
    world.take(Add(spec("new", needs=["db"]), BOOT, start=True))
    assert world.states("db", "new") == [STOPPED, WAITING]


def test_a_dependent_that_ends_does_not_undo_a_manual_stop() -> None:
    """It waits."""
    world = World(spec("db", kind=Kind.ONESHOT), spec(needs=["db"])).complete("db").run()
    world.stop("db")
    world.exited()
    assert world.states("db", "web") == [STOPPED, WAITING]
    world.pass_time(1e6)
    assert world.states("db", "web") == [STOPPED, WAITING]


# Coming and going


def test_scaling_down_touches_no_dependent() -> None:
    """An instance that is removed is nobody's dependency any more."""
    world = World(spec("app@0"), spec("app@1"), spec(needs=["app"])).run("app@0", "app@1", "web")
    world.take(Remove("app@1", ASKED))
    assert world.states("app@0", "app@1", "web") == [RUNNING, STOPPING, RUNNING]
    world.exited()
    assert world.spawns() == ["web"]


def test_scaling_up_touches_no_dependent_and_brings_the_new_instance_up() -> None:
    """Also where it is only started because it is needed."""
    world = World(spec("app@0"), spec(needs=["app"])).run("app@0", "web")
    world.take(Add(spec("app@1"), BOOT, start=False))
    assert world.spawns() == ["app@1"]
    assert world.state() is RUNNING


def test_a_dependency_that_is_removed_with_its_dependent_is_stopped_after_it() -> None:
    """In reverse, as ever."""
    world = World(spec("db"), spec(needs=["db"])).run("db").run()
    world.take(Remove("db", ASKED), Remove("web", ASKED))
    assert world.states("db", "web") == [RUNNING, STOPPING]
    world.gone()
    assert world.state("db") is STOPPING


def test_who_loses_its_dependency_for_good_runs_on_and_waits_when_it_ends() -> None:
    """The reason names what does not exist."""
    world = World(spec("db"), spec(needs=["db"])).run("db").run()
    world.take(Remove("db", ASKED))
    world.gone("db")
    assert world.state() is RUNNING
    world.exited()
    assert world.state() is WAITING
    assert world.machine.waits_for(world["web"]) == ["db does not exist"]
    world.take(Add(spec("db"), BOOT, start=True))
    world.run("db")
    assert world.spawns() == ["web"]


def test_the_last_instance_that_is_removed_is_missed_while_it_stops() -> None:
    """And the other instances of the name are still known when one has gone."""
    world = World(spec("app@0"), spec("app@1"), spec(needs=["app"])).run("app@0", "app@1", "web")
    world.take(Remove("app@1", ASKED))
    world.gone("app@1")
    world.take(Remove("app@0", ASKED))
    world.exited()
    assert world.machine.waits_for(world["web"]) == ["app does not exist"]
    world.gone("app@0")
    assert world.machine.waits_for(world["web"]) == ["app does not exist"]


def test_two_requests_in_one_plan_are_settled_together() -> None:
    """What is stopped and started at once was never gone."""
    world = chain()
    world.take(Stop("db", ASKED), Start("db", ASKED))
    assert world.of(Spawn) == []
    assert world.states("db", "app", "front") == [RUNNING, RUNNING, RUNNING]
