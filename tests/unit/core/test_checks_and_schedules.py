"""Health, schedules, and facts that come when they do not matter."""

from __future__ import annotations

import pytest

from procd.config.spec import Check, CheckKind, Health
from procd.core import (
    BecameReady,
    CheckFailed,
    CheckPassed,
    DeadlinePassed,
    Emptied,
    Event,
    Exit,
    Exited,
    Hook,
    HookEnded,
    IllegalTransition,
    MainChanged,
    ScheduleDue,
    SpawnFailed,
    SpawnSucceeded,
    State,
    TimeoutExtended,
    WatchHealth,
)
from tests.unit.core.test_reload import world_in
from tests.unit.core.world import World, oneshot, snapshot, spec

STOPPED, WAITING, STARTING, RUNNING, STOPPING, BACKOFF, EXITED, FATAL = State
CHECK = Check(kind=CheckKind.NOTIFY)
NIGHTLY = "0 3 * * *"


def sick(*, restart: bool = True, after_s: float = 10, final: bool = False) -> World:
    """A program whose health check has failed once too often, so long after it was ready."""
    world = World(spec(health=Health(check=CHECK, failures=3, restart=restart), min_uptime_s=5)).run()
    world.pass_time(after_s)
    for _ in range(1 if final else 3):
        assert world["web"].health is None
        world.take(CheckFailed("web", "refused", final=final))
    return world


# Health


def test_health_is_asked_for_when_a_program_is_ready() -> None:
    """And not known before the first answer."""
    world = World(spec(health=Health(check=CHECK)))
    world.spawned()
    assert world.of(WatchHealth) == []
    world.take_deadline("web")
    assert world.of(WatchHealth) == [WatchHealth("web")]
    assert world["web"].health is None
    world.take(CheckPassed("web"))
    assert world["web"].health is True


def test_so_many_failures_in_a_row_make_a_program_unhealthy_and_restart_it() -> None:
    """After a good run at once."""
    world = sick()
    assert (world.state(), world.why()) == (STOPPING, "unhealthy: refused")
    world.gone()
    assert world.spawns() == ["web"]
    assert (world["web"].restarts, world["web"].health) == (1, None)


def test_one_final_failure_is_enough() -> None:
    """A watchdog that was not fed."""
    assert sick(final=True).state() is STOPPING


def test_a_check_that_passes_ends_the_row() -> None:
    """Two failures, a success, two failures: nothing."""
    world = World(spec(health=Health(check=CHECK, failures=3))).run()
    for _ in range(10):
        world.take(CheckFailed("web", "x"), CheckFailed("web", "x"), CheckPassed("web"))
    assert (world.state(), world["web"].health, world["web"].health_reason) == (RUNNING, True, "")


def test_unhealthy_before_it_had_a_good_run_is_a_failed_start() -> None:
    """Else it would restart as fast as the check can fail."""
    world = World(spec(ready=CHECK, min_uptime_s=60, health=Health(check=CHECK, failures=1))).run()
    world.take(CheckFailed("web", "refused"))
    world.gone()
    assert world.state() is BACKOFF
    assert world["web"].failures == 1


def test_with_action_none_an_unhealthy_program_runs_on() -> None:
    """And is known to be unhealthy until a check passes."""
    world = sick(restart=False)
    assert (world.state(), world["web"].health, world["web"].health_reason) == (RUNNING, False, "refused")
    world.take(CheckFailed("web", "again"))
    assert world["web"].health_reason == "again"
    world.take(CheckPassed("web"))
    assert world["web"].health is True


# Schedules


def test_a_scheduled_program_is_not_started_but_armed() -> None:
    """It starts when its time comes."""
    world = World(oneshot(schedule=NIGHTLY))
    assert (world.state("job"), world.spawns()) == (STOPPED, [])
    world.take(ScheduleDue("job"))
    assert world.spawns() == ["job"]
    assert world["job"].wish.text == "schedule '0 3 * * *'"
    world.complete()
    world.take(ScheduleDue("job"))
    assert world.spawns() == ["job"]


def test_an_overlap_is_skipped_and_counted() -> None:
    """Also in its backoff: it is still about the last time."""
    world = World(oneshot(schedule=NIGHTLY))
    world.take(ScheduleDue("job"))
    world.spawned("job")
    world.take(ScheduleDue("job"))
    world.exited("job")
    assert world.state("job") is BACKOFF
    world.take(ScheduleDue("job"))
    assert world["job"].skipped == 2


def test_a_stop_disarms_a_schedule_and_a_start_arms_it() -> None:
    """A start is also a run at once."""
    world = World(oneshot(schedule=NIGHTLY))
    world.stop("job")
    world.take(ScheduleDue("job"))
    assert (world.state("job"), world["job"].skipped) == (STOPPED, 0)
    world.start("job")
    world.complete()
    assert world["job"].armed


def test_a_scheduled_program_that_is_stuck_is_not_due() -> None:
    """The last time is not over."""
    world = World(oneshot(schedule=NIGHTLY, max_runtime_s=5))
    world.take(ScheduleDue("job"))
    world.run("job")
    world.pass_time(5 + 10 + 5)
    assert world.state("job") is FATAL
    world.take(ScheduleDue("job"))
    assert (world.state("job"), world["job"].skipped) == (FATAL, 1)


def test_a_scheduled_program_that_is_added_without_a_start_is_not_armed() -> None:
    """`autostart = false` means that somebody has to begin."""
    world = World(oneshot(schedule=NIGHTLY), start=False)
    world.take(ScheduleDue("job"))
    assert world.state("job") is STOPPED


# Every fact in every state

RACING: list[Event] = [
    BecameReady("web"),
    CheckPassed("web"),
    CheckFailed("web", "x"),
    CheckFailed("web", "x", final=True),
    *(HookEnded("web", hook, failure) for hook in Hook for failure in ("", "x")),
    ScheduleDue("web"),
    TimeoutExtended("web", 60),
]
ANSWERS: list[tuple[Event, set[State]]] = [
    (SpawnSucceeded("web", 7), set()),
    (SpawnFailed("web", "x"), set()),
    (Exited("web", Exit(code=0)), {STARTING, RUNNING, STOPPING}),
    (Emptied("web"), {STOPPING}),
]


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
@pytest.mark.parametrize("event", RACING, ids=lambda event: type(event).__name__)
def test_a_fact_that_comes_late_is_without_effect(state: State, event: Event) -> None:
    """Nobody asked for it in this state."""
    world = world_in(state)
    before = snapshot(world["web"])
    world.take(event)
    assert world.actions == []
    after = snapshot(world["web"])
    if state is STOPPING and isinstance(event, TimeoutExtended):
        assert after.pop("deadline_s") == world.now + 60
        del before["deadline_s"]
    assert after == before


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
@pytest.mark.parametrize(("event", "states"), ANSWERS, ids=lambda value: type(value).__name__)
def test_an_answer_that_nothing_asked_for_is_refused_with_nothing_changed(
    state: State, event: Event, states: set[State]
) -> None:
    """It would be a second life, or a second end."""
    world = world_in(state)
    before = snapshot(world["web"])
    if state in states:
        world.take(event)
        return
    with pytest.raises(IllegalTransition):
        world.machine.handle(event, world.now)
    assert snapshot(world["web"]) == before
    assert world.take(BecameReady("web")) == []


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_a_deadline_can_be_hurried_in_every_state(state: State) -> None:
    """Where there is none it is without effect."""
    world = world_in(state)
    had_one = world["web"].deadline_s is not None
    world.take(DeadlinePassed("web"))
    assert (world.actions != []) is had_one


def test_a_deadline_in_a_state_that_has_none_is_a_mistake_of_the_machine() -> None:
    """Not something to pass over."""
    world = world_in(EXITED)
    world.machine._lives.deadlines.set(world["web"], 1.0)
    with pytest.raises(AssertionError, match="web has no deadline in state EXITED"):
        world.pass_time(1)


def test_a_program_that_names_another_main_process_is_followed_there() -> None:
    """And its uptime goes on; a program without a process has nobody to follow."""
    world = World(spec())
    world.take(MainChanged("web", 77))
    assert {world["web"].pid} == {None}
    world.run()
    world.take(MainChanged("web", 77))
    assert (world.state(), world["web"].uptime_s(world.now)) == (RUNNING, 1)
    assert world["web"].pid == 77
    world.exited()
    assert {world["web"].pid} == {None}


def test_a_program_is_told_that_it_is_empty_once() -> None:
    """The second time would end its hook, or its next life."""
    from procd.config.spec import Hooks  # noqa: PLC0415

    world = World(spec(hooks=Hooks(after_stop=("x",)))).run()
    world.stop()
    world.gone()
    with pytest.raises(IllegalTransition):
        world.emptied()
    world.ended("web", Hook.AFTER_STOP)
    assert world.state() is STOPPED
