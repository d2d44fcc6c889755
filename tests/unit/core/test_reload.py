"""Programs that come, go and change under the machine, in every state."""

from __future__ import annotations

import pytest

from procd.config.spec import Check, CheckKind, Health, Kind, Restart, StartLimit
from procd.core import (
    Add,
    AwaitReady,
    BecameReady,
    Cause,
    Change,
    CheckPassed,
    Desired,
    Forget,
    Remove,
    SpawnFailed,
    Start,
    State,
    Stop,
    WatchHealth,
)
from tests.unit.core.world import ASKED, World, oneshot, spec

STOPPED, WAITING, STARTING, RUNNING, STOPPING, BACKOFF, EXITED, FATAL = State
PLAN = Cause("configuration changed")
NEW = spec(description="new")
NOTIFY = Check(kind=CheckKind.NOTIFY)


def world_in(state: State) -> World:
    """A program that is wanted, but for STOPPED, in a state."""
    keys = {"needs": ["ghost"]} if state is WAITING else {}
    never = state in {EXITED, FATAL}
    world = World(spec(restart=Restart.NEVER if never else Restart.ALWAYS, **keys), start=state is not STOPPED)
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
    return world


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_a_program_is_removed_from_every_state(state: State) -> None:
    """At once if there is nothing of it, else when it is empty; nothing can start it meanwhile."""
    world = world_in(state)
    world.take(Remove("web", PLAN))
    if "web" in world.machine.programs:
        for request in (world.start, world.restart):
            request()
            assert world["web"].desired is Desired.DOWN
        world.gone()
    assert "web" not in world.machine.programs
    assert world.of(Forget) == [Forget("web")]
    assert world.actions[-1] == Forget("web")
    assert world.machine.at_rest()
    assert world.machine.next_deadline() is None
    with pytest.raises(KeyError):
        world.start()


@pytest.mark.parametrize("together", [True, False], ids=["one plan", "two plans"])
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_what_is_removed_and_added_again_runs_with_the_new_spec(state: State, together: bool) -> None:
    """Never beside the old life, and not with the old spec."""
    world = world_in(state)
    events = (Remove("web", PLAN), Add(NEW, PLAN, start=True))
    if together:
        world.take(*events)
    else:
        for event in events:
            world.take(event)
    if world.state() is STOPPING:
        assert world.spawns() == []
        world.gone()
    assert world.spawns() == ["web"]
    assert world["web"].spec is NEW


def test_what_is_removed_and_added_without_a_start_stays_stopped() -> None:
    """With the new spec."""
    world = world_in(RUNNING)
    world.take(Remove("web", PLAN))
    world.take(Add(NEW, PLAN, start=False))
    world.gone()
    assert (world.state(), world["web"].spec) == (STOPPED, NEW)
    world.start()
    assert world.spawns() == ["web"]


def test_what_is_added_again_without_a_start_takes_its_dependents_down_as_a_stop_does() -> None:
    """While it was being removed they had nothing to do with it."""
    world = World(spec("db"), spec(needs=["db"])).run("db").run()
    world.take(Remove("db", PLAN))
    assert world.states("db", "web") == [STOPPING, RUNNING]
    world.take(Add(spec("db", description="new"), PLAN, start=False))
    assert world.states("db", "web") == [STOPPING, STOPPING]


def test_what_is_removed_is_stopped_when_a_stopping_dependent_needs_it_no_more() -> None:
    """A new spec lets it go."""
    world = World(spec("db"), spec(needs=["db"])).run("db").run()
    world.take(Change(NEW, PLAN, restart=True))
    world.take(Remove("db", PLAN))
    assert world.states("db", "web") == [RUNNING, STOPPING]
    world.gone()
    assert world.states("db", "web") == [STOPPING, STARTING]


def test_a_start_and_a_change_of_needs_in_one_plan_count_both() -> None:
    """Whatever is to be looked at already."""
    world = World(spec("db"), spec(needs=["db"]), start=False)
    world.take(Start("web", ASKED), Change(spec(), PLAN, restart=False))
    assert world.spawns() == ["web"]


def test_a_stuck_program_that_is_removed_and_added_again_starts_when_it_is_gone() -> None:
    """With the new spec."""
    world = world_in(RUNNING)
    world.stop()
    world.take_deadline("web")
    world.take_deadline("web")
    world.take(Remove("web", PLAN))
    world.take(Add(NEW, PLAN, start=True))
    assert (world.state(), world.spawns()) == (FATAL, [])
    world.exited("web", None, 9)
    world.emptied()
    assert world.spawns() == ["web"]
    assert world["web"].spec is NEW


@pytest.mark.parametrize(
    ("state", "then"),
    [
        (STOPPED, STOPPED),
        (WAITING, STARTING),
        (STARTING, STOPPING),
        (RUNNING, STOPPING),
        (STOPPING, STOPPING),
        (BACKOFF, STARTING),
        (EXITED, EXITED),
        (FATAL, STARTING),
    ],
)
def test_a_change_that_needs_a_restart(state: State, then: State) -> None:
    """Who has a life gets another one; who tries in vain tries anew; who is at rest, as wanted, stays there."""
    world = world_in(state)
    world.take(Change(NEW, PLAN, restart=True))
    assert world.state() is then
    if then is STOPPING:
        assert world["web"].spec is not NEW
        world.gone()
        assert world.spawns() == ["web"]
    assert world["web"].spec is NEW


@pytest.mark.parametrize(
    "state", [state for state in State if state is not WAITING], ids=lambda state: state.name
)
def test_a_change_in_place_leaves_a_program_where_it_is(state: State) -> None:
    """The life goes on under the new spec."""
    world = world_in(state)
    world.take(Change(NEW, PLAN, restart=False))
    assert (world.state(), world["web"].spec) == (state, NEW)
    assert world.actions == []


def test_a_change_does_not_undo_a_stop() -> None:
    """Neither at rest, nor while it waits for its dependents to go."""
    world = World(spec("db"), spec(needs=["db"])).run("db").run()
    world.stop("db")
    world.take(Change(spec("db", description="new"), PLAN, restart=True))
    world.gone()
    world.gone("db")
    assert (world.state("db"), world["db"].spec.description) == (STOPPED, "new")
    world.take(Change(spec("db"), PLAN, restart=True))
    assert (world.state("db"), world.spawns()) == (STOPPED, [])


def test_a_start_of_what_waits_to_stop_with_a_new_spec_is_a_restart() -> None:
    """Else the old spec would run on for ever."""
    world = World(spec("db"), spec(needs=["db"])).run("db").run()
    world.stop("db")
    world.take(Change(spec("db", description="new"), PLAN, restart=True))
    world.start("db")
    assert world.state("db") is STOPPING
    world.gone("db")
    assert world["db"].spec.description == "new"
    assert world.spawns() == ["db"]


def test_the_last_change_counts() -> None:
    """Also if it could have been made in place, had the one before not been waiting."""
    world = world_in(RUNNING)
    world.take(Change(spec(description="first"), PLAN, restart=True))
    world.take(Change(NEW, PLAN, restart=False))
    world.gone()
    assert world["web"].spec is NEW


def test_a_change_gives_up_the_verdict_on_the_old_spec() -> None:
    """What was not ready in time may be, now."""
    world = World(spec(ready=NOTIFY, start_timeout_s=5, restart=Restart.NEVER))
    world.spawned()
    world.pass_time(5)
    world.take(Change(NEW, PLAN, restart=True))
    world.gone()
    assert world.spawns() == ["web"]


def test_a_change_forgets_failures_of_the_old_spec() -> None:
    """The new one has all its tries."""
    world = World(spec(start_limit=StartLimit(1, 1000)))
    world.spawned()
    world.exited()
    world.take(Change(spec(start_limit=StartLimit(1, 1000), description="new"), PLAN, restart=True))
    world.spawned()
    world.exited()
    assert world.state() is BACKOFF


# What changes in place


def test_health_that_is_changed_is_asked_anew() -> None:
    """What the old check said does not count; None ends the asking."""
    first, second = (Health(check=NOTIFY, failures=failures) for failures in (1, 2))
    world = World(spec(health=first)).run()
    world.take(CheckPassed("web"))
    world.take(Change(spec(health=second), PLAN, restart=False))
    assert world["web"].health is None
    assert world.actions == [WatchHealth("web")]
    world.take(Change(spec(health=second, description="x"), PLAN, restart=False))
    assert world.actions == []
    world.take(Change(spec(), PLAN, restart=False))
    assert world.actions == [WatchHealth("web")]


def test_max_runtime_that_is_changed_counts_from_the_start() -> None:
    """Longer, shorter than it has run already, or none any more."""
    world = World(spec(max_runtime_s=100)).run()
    world.pass_time(50)
    world.take(Change(spec(max_runtime_s=200), PLAN, restart=False))
    assert world.machine.next_deadline() == 300
    world.take(Change(spec(), PLAN, restart=False))
    assert world.machine.next_deadline() is None
    world.take(Change(spec(max_runtime_s=10), PLAN, restart=False))
    world.pass_time(0)
    assert world.state() is STOPPING


def test_the_time_to_start_that_is_changed_counts_from_the_start() -> None:
    """And so does `min_uptime`; a check that is changed is asked anew."""
    world = World(spec(ready=NOTIFY, start_timeout_s=10))
    world.spawned()
    world.take(Change(spec(ready=NOTIFY, start_timeout_s=20), PLAN, restart=False))
    assert (world.actions, world["web"].deadline_s) == ([], 120)
    world.take(Change(spec(ready=Check(kind=CheckKind.FD), start_timeout_s=30), PLAN, restart=False))
    assert (world.actions, world["web"].deadline_s) == ([AwaitReady("web")], 130)
    world.take(Change(spec(min_uptime_s=5), PLAN, restart=False))
    assert world["web"].deadline_s == 105
    world.take(Change(spec(min_uptime_s=0), PLAN, restart=False))
    assert world.state() is RUNNING


def test_a_dependency_that_is_added_in_place_is_wanted() -> None:
    """Whoever wants a program wants what it needs."""
    world = World(spec(), start=True).run()
    world.take(Add(spec("db"), PLAN, start=False), Change(spec(needs=["db"]), PLAN, restart=False))
    assert world.spawns() == ["db"]
    assert world.state() is RUNNING


def test_a_dependency_that_is_dropped_in_place_need_not_wait_any_more() -> None:
    """Its stop goes on."""
    world = World(spec("db"), spec("app", needs=["db"]), spec(needs=["app"])).run("db", "app", "web")
    world.stop("db")
    assert world.states("db", "app") == [RUNNING, RUNNING]
    world.take(Change(spec("app"), PLAN, restart=False))
    assert world.states("db", "app") == [STOPPING, RUNNING]


def test_a_schedule_that_is_added_to_what_is_wanted_is_obeyed() -> None:
    """And one that is taken away is not."""
    world = World(oneshot()).complete()
    world.take(Change(oneshot(schedule="0 3 * * *"), PLAN, restart=False))
    assert world["job"].armed
    world.take(Change(oneshot(), PLAN, restart=False))
    assert not world["job"].armed


def test_a_schedule_that_is_changed_is_obeyed_if_the_old_one_was() -> None:
    """A stop has disarmed it for good."""
    world = World(oneshot(schedule="0 3 * * *"))
    world.take(Change(oneshot(schedule="0 4 * * *"), PLAN, restart=False))
    assert world["job"].armed
    world.stop("job")
    world.take(Change(oneshot(schedule="0 5 * * *"), PLAN, restart=True))
    assert not world["job"].armed


def test_a_change_of_what_is_to_be_removed_brings_nothing_back() -> None:
    """The remove stands."""
    world = world_in(RUNNING)
    world.take(Remove("web", PLAN))
    world.take(Change(NEW, PLAN, restart=True))
    world.gone()
    assert world.of(Forget) == [Forget("web")]


def test_an_essential_key_that_comes_after_the_end_ends_nothing() -> None:
    """A reload is no end of a program."""
    world = world_in(EXITED)
    world.take(Change(spec(essential=True), PLAN, restart=False))
    assert not world.machine.closing


def test_adding_what_exists_replaces_it() -> None:
    """With a restart, as if it had been removed before."""
    world = world_in(RUNNING)
    world.take(Add(NEW, PLAN, start=True))
    assert world.state() is STOPPING
    world.gone()
    assert world["web"].spec is NEW


def test_a_plan_with_a_mistake_loses_nothing_of_what_came_before_it() -> None:
    """The events before are settled with the next."""
    world = World(spec(), start=False)
    with pytest.raises(KeyError):
        world.take(Start("web", ASKED), Stop("ghost", ASKED))
    world.take(BecameReady("web"))
    assert world.spawns() == ["web"]


def test_a_oneshot_that_has_run_is_not_run_again_by_a_change() -> None:
    """It has ended, and should be."""
    world = World(oneshot()).complete()
    world.take(Change(oneshot(description="new"), PLAN, restart=True))
    assert (world.state("job"), world["job"].spec.kind) == (EXITED, Kind.ONESHOT)
