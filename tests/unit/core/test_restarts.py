"""Ends that nobody asked for: restart, backoff, start limit, and the end for good."""

from __future__ import annotations

import pytest

from procd.config.spec import Backoff, Check, CheckKind, Kind, Restart, StartLimit, Success
from procd.core import (
    AwaitReady,
    BecameReady,
    Cause,
    Change,
    Desired,
    Died,
    Exit,
    Exited,
    IllegalTransition,
    Publish,
    Shutdown,
    SpawnFailed,
    State,
    TimeoutExtended,
)
from procd.core.outcome import Final
from tests.unit.core.world import ANA, ASKED, World, oneshot, spec

READY = Check(kind=CheckKind.NOTIFY)


def crash(world: World, name: str = "web", code: int = 1) -> None:
    """A start that fails at once, from BACKOFF too."""
    if world.state(name) is State.BACKOFF:
        world.take_deadline(name)
    world.spawned(name)
    world.exited(name, code)


# A start


def test_a_program_that_need_not_wait_is_executed_at_once() -> None:
    """WAITING is passed through, and told of all the same."""
    world = World(spec())
    assert world.spawns() == ["web"]
    assert [act.transition.new for act in world.of(Publish)] == [State.WAITING, State.STARTING]
    assert world["web"].desired is Desired.UP


def test_without_a_check_running_for_min_uptime_is_ready() -> None:
    """Not a moment sooner."""
    world = World(spec(min_uptime_s=3))
    world.spawned()
    world.pass_time(2.9)
    assert world.state() is State.STARTING
    world.pass_time(0.1)
    assert world.state() is State.RUNNING
    assert world.why() == "ready"


def test_with_no_min_uptime_a_program_is_ready_when_it_is_executed() -> None:
    """And any end is the end of a good run."""
    world = World(spec(min_uptime_s=0))
    world.spawned()
    assert world.state() is State.RUNNING
    world.exited()
    assert world.spawns() == ["web"]
    assert world["web"].failures == 0


def test_with_a_check_only_its_answer_makes_a_program_ready() -> None:
    """However long it has been up."""
    world = World(spec(ready=READY, start_timeout_s=60))
    world.spawned()
    assert world.of(AwaitReady) == [AwaitReady("web")]
    world.pass_time(59)
    assert world.state() is State.STARTING
    world.take(BecameReady("web"))
    assert world.state() is State.RUNNING
    assert world["web"].deadline_s is None


def test_readiness_of_a_program_without_a_check_is_no_news() -> None:
    """`min_uptime` is what it is measured by."""
    world = World(spec())
    world.spawned()
    world.take(BecameReady("web"))
    assert world.state() is State.STARTING


def test_a_program_that_is_not_ready_in_time_is_stopped_and_has_failed_to_start() -> None:
    """It is emptied first; then the backoff begins."""
    world = World(spec(ready=READY, start_timeout_s=5))
    world.spawned()
    world.pass_time(5)
    assert world.state() is State.STOPPING
    assert world.why() == "not ready within 5s"
    world.gone()
    assert world.state() is State.BACKOFF
    assert world["web"].failures == 1
    assert world.why() == "not ready within 5s"


def test_a_program_that_asks_for_time_to_start_gets_it() -> None:
    """From the moment at which it asks, and never less than it had."""
    world = World(spec(ready=READY, start_timeout_s=10))
    world.spawned()
    world.pass_time(8)
    world.take(TimeoutExtended("web", 1))
    assert world["web"].deadline_s == 110
    world.take(TimeoutExtended("web", 30))
    world.pass_time(29)
    assert world.state() is State.STARTING
    world.pass_time(1)
    assert world.state() is State.STOPPING


@pytest.mark.parametrize("keys", [{}, {"max_runtime_s": 5.0}])
def test_only_a_start_with_a_check_and_a_stop_can_be_extended(keys: dict[str, float]) -> None:
    """`min_uptime` and `max_runtime` are not the program's to change."""
    world = World(spec(**keys))
    world.take(TimeoutExtended("web", 1000))
    world.spawned()
    world.take(TimeoutExtended("web", 1000))
    assert world["web"].deadline_s == 101
    world.pass_time(1)
    before = world["web"].deadline_s
    world.take(TimeoutExtended("web", 1000))
    assert world["web"].deadline_s == before


# An end


def test_the_first_restart_after_a_good_run_is_immediate() -> None:
    """And counted, and told with its reason."""
    world = World(spec()).run()
    world.pass_time(59)
    world.exited()
    assert world.spawns() == ["web"]
    assert world.state() is State.STARTING
    assert world.why() == "exited with status 1 after 1m"
    assert world["web"].restarts == 1
    assert world["web"].exit == Exit(code=1)


def test_failed_starts_wait_longer_and_longer_up_to_the_maximum() -> None:
    """100 ms, then twice that each time; the jitter is what chance says."""
    world = World(spec(backoff=Backoff(0.1, 2.0, 1.0, 0.1)), chance=lambda: 0.0)
    delays = []
    for _ in range(6):
        crash(world)
        assert world.state() is State.BACKOFF
        delays.append((world["web"].deadline_s or 0) - world.now)
    assert delays == pytest.approx([0.09, 0.18, 0.36, 0.72, 0.9, 0.9])
    assert world.why() == "exited with status 1 after 0ms; failed start 6 in a row"


def test_ten_thousand_failures_are_no_more_than_the_longest_delay() -> None:
    """Nothing overflows, nothing is given up without a limit, and nothing grows."""
    world = World(spec())
    for _ in range(10_000):
        crash(world)
    assert (world["web"].deadline_s or 0) - world.now == pytest.approx(30)
    assert world["web"].failures == 10_000
    assert world["web"].restarts == 9_999
    assert world["web"].failed_at_s == ()


def test_a_good_run_ends_a_row_of_failures() -> None:
    """The next failure is the first again."""
    world = World(spec())
    crash(world)
    crash(world)
    world.take_deadline("web")
    world.run()
    world.exited()
    assert world.state() is State.STARTING
    crash(world)
    assert (world["web"].deadline_s or 0) - world.now == pytest.approx(0.1)
    assert world["web"].failures == 1


def test_ready_but_shorter_than_min_uptime_is_not_a_good_run() -> None:
    """Nor is a long time without being ready."""
    quick = World(spec(ready=READY, min_uptime_s=10)).run()
    quick.exited()
    assert quick.state() is State.BACKOFF
    late = World(spec(ready=READY, min_uptime_s=1))
    late.spawned()
    late.pass_time(30)
    late.exited()
    assert late.state() is State.BACKOFF


def test_a_program_that_cannot_be_executed_costs_one_try_for_each_step_of_the_backoff() -> None:
    """The reason is told, and there is no exit to report."""
    world = World(spec())
    world.spawned()
    world.exited()
    world.take_deadline("web")
    world.take(SpawnFailed("web", "exec: no such file"))
    assert world.state() is State.BACKOFF
    assert world.why() == "exec: no such file; failed start 2 in a row"
    assert world["web"].exit is None
    assert world.spawns() == []


@pytest.mark.parametrize(("code", "signal"), [(0, None), (None, 15), (3, None)])
def test_on_failure_does_not_restart_what_succeeded(code: int | None, signal: int | None) -> None:
    """By exit code or by signal, as `success_exit_status` says."""
    success = Success(frozenset({0, 3}), frozenset({15}))
    world = World(spec(restart=Restart.ON_FAILURE, success=success)).run()
    world.exited("web", code, signal)
    assert world.state() is State.EXITED
    assert world["web"].desired is Desired.UP


def test_on_failure_restarts_what_failed() -> None:
    """A signal that is not named is a failure."""
    world = World(spec(restart=Restart.ON_FAILURE)).run()
    world.exited("web", None, 9)
    assert world.spawns() == ["web"]


def test_never_restarts_nothing() -> None:
    """Neither an end nor a start that failed."""
    ended, failed = World(spec(restart=Restart.NEVER)).run(), World(spec(restart=Restart.NEVER))
    ended.exited()
    assert ended.state() is State.EXITED
    failed.take(SpawnFailed("web", "exec: no such file"))
    assert failed.state() is State.FATAL
    assert failed.why() == "exec: no such file"


def test_more_failed_starts_than_the_limit_within_its_time_are_fatal() -> None:
    """The reason says the limit and the last failure."""
    world = World(spec(start_limit=StartLimit(2, 60)))
    crash(world)
    crash(world)
    assert world.state() is State.BACKOFF
    crash(world)
    assert world.state() is State.FATAL
    assert world.why() == "more than 2 failed starts within 1m; the last: exited with status 1 after 0ms"
    assert world["web"].deadline_s is None


def test_failed_starts_that_are_long_ago_do_not_count_for_the_limit() -> None:
    """The window moves."""
    world = World(spec(start_limit=StartLimit(1, 10), backoff=Backoff(20, 1, 20, 0)))
    for _ in range(20):
        crash(world)
        assert world.state() is State.BACKOFF


def test_good_runs_in_between_do_not_hide_failed_starts_from_the_limit() -> None:
    """The limit is about time, the backoff about a row."""
    world = World(spec(start_limit=StartLimit(1, 60)))
    crash(world)
    world.take_deadline("web")
    world.run()
    world.exited()
    world.spawned()
    world.exited()
    assert world.state() is State.FATAL


def test_somebody_who_starts_a_program_gives_it_all_its_tries_again() -> None:
    """FATAL is left by a request, and the count begins anew."""
    world = World(spec(start_limit=StartLimit(1, 1000)))
    crash(world)
    crash(world)
    assert world.state() is State.FATAL
    world.start()
    assert world.spawns() == ["web"]
    world.spawned()
    world.exited()
    assert world.state() is State.BACKOFF
    assert world["web"].failures == 1


# Oneshots


def test_a_oneshot_is_done_when_it_succeeds() -> None:
    """Whatever `restart` says."""
    for restart in Restart:
        assert World(oneshot(restart=restart)).complete()["job"].state is State.EXITED


def test_a_oneshot_that_fails_is_tried_again_after_the_backoff_however_long_it_ran() -> None:
    """There is no good run that fails."""
    world = World(oneshot()).run("job")
    world.pass_time(3600)
    world.exited("job")
    assert world.state("job") is State.BACKOFF
    world.take_deadline("job")
    assert world.spawns() == ["job"]


def test_a_oneshot_that_fails_and_is_never_restarted_has_ended() -> None:
    """Its exit says how."""
    world = World(oneshot(restart=Restart.NEVER))
    world.spawned("job")
    world.exited("job", 7)
    assert world.state("job") is State.EXITED
    assert world["job"].exit == Exit(code=7)


# max_runtime


def test_a_service_that_runs_longer_than_max_runtime_gets_a_new_life() -> None:
    """At once, and not as a failure."""
    world = World(spec(max_runtime_s=60)).run()
    world.pass_time(59)
    assert world.state() is State.STOPPING
    assert world.why() == "ran for 1m, longer than its max_runtime"
    world.gone()
    assert world.state() is State.STARTING
    assert (world["web"].failures, world["web"].restarts) == (0, 1)


@pytest.mark.parametrize(("restart", "state"), [(Restart.ALWAYS, State.BACKOFF), (Restart.NEVER, State.FATAL)])
def test_a_oneshot_that_runs_longer_than_max_runtime_has_failed(restart: Restart, state: State) -> None:
    """Also when it exits with 0 on being told to stop: nobody may take it for completed."""
    world = World(oneshot(max_runtime_s=60, restart=restart), spec(needs=["job"])).run("job")
    world.pass_time(60)
    world.gone("job", 0)
    assert world.state("job") is state
    assert world.state("web") is State.WAITING


# essential


@pytest.mark.parametrize("how", ["exited", "gave up"])
def test_when_an_essential_program_ends_for_good_everything_is_stopped(how: str) -> None:
    """`final` is the one whose status procd exits with."""
    essential = spec("main", essential=True, restart=Restart.NEVER)
    world = World(essential, spec()).run("web")
    if how == "exited":
        world.spawned("main")
        world.exited("main", 3)
    else:
        world.take(SpawnFailed("main", "exec: no such file"))
    assert world.machine.closing
    assert world.machine.final == Final("main", Exit(code=3) if how == "exited" else None)
    assert world.state() is State.STOPPING
    assert world.why().startswith("main, which is essential, ended: ")
    world.gone()
    assert world.machine.at_rest()


def test_an_essential_program_that_is_restarted_has_not_ended_for_good() -> None:
    """Nor has one in its backoff."""
    world = World(spec(essential=True)).run()
    world.exited()
    world.spawned()
    world.exited()
    assert world.state() is State.BACKOFF
    assert not world.machine.closing


def test_an_essential_program_that_somebody_stops_ends_nothing_else() -> None:
    """Also if it dies before it was its turn to be stopped."""
    world = World(spec("db", essential=True, restart=Restart.NEVER), spec(needs=["db"])).run("db").run()
    world.stop("db")
    world.exited("db")
    assert not world.machine.closing
    assert world.state("db") is State.STOPPED
    world.gone()
    assert world.machine.final is None


def test_a_run_of_a_scheduled_program_is_not_its_end_for_good() -> None:
    """The next one comes."""
    world = World(oneshot(essential=True, schedule="* * * * *"))
    world.start("job")
    world.complete()
    assert not world.machine.closing


def test_the_second_essential_program_does_not_take_the_place_of_the_first() -> None:
    """What ends while everything is stopped is no cause."""
    world = World(*(spec(name, essential=True, restart=Restart.NEVER) for name in ("a", "b"))).run("a").run("b")
    world.take(Exited("a", Exit(code=3)))
    world.take(Exited("b", Exit(code=4)))
    assert world.machine.final == Final("a", Exit(code=3))


def test_of_two_essential_programs_that_end_at_once_the_first_counts() -> None:
    """And none, if somebody asked for the end of everything in the same plan."""
    for shutdown, final in (((), "a"), ((Shutdown(ASKED),), None)):
        world = World(*(spec(name, essential=True, restart=Restart.NEVER) for name in ("a", "b"))).run("a", "b")
        world.take(Exited("a", Exit(code=3)), Exited("b", Exit(code=4)), *shutdown)
        assert (world.machine.final and world.machine.final.name) == final
        assert world.machine.closing


def test_a_cause_keeps_who_asked() -> None:
    """The actor is in the transition."""
    world = World(spec()).run()
    world.stop()
    assert world["web"].cause == ASKED
    assert world["web"].history[-1].cause.actor == ANA
    world.gone()
    assert world["web"].cause == Cause("asked", ANA)


def test_kind_of_program_does_not_matter_for_the_spawn() -> None:
    """Oneshots are executed as services are."""
    assert World(oneshot()).spawns() == ["job"]
    assert World(spec(kind=Kind.SERVICE)).spawns() == ["web"]


def test_a_run_ends_when_its_main_process_dies_whatever_its_group_still_waits_for() -> None:
    """It is not up, and not a good run, because others of its group took long to let go."""
    world = World(spec(min_uptime_s=1.0))
    world.spawned()
    world.pass_time(0.4)
    world.take(Died("web"))
    world.pass_time(5.0)
    assert world["web"].state is State.STARTING
    world.exited(code=1)
    assert world["web"].state is State.BACKOFF
    assert world["web"].failures == 1
    assert "after 400ms" in str(world["web"].cause)


def test_a_program_that_is_dead_is_not_ready_any_more() -> None:
    """Neither by an answer that was under way, nor by another spec, nor does it get more time."""
    world = World(spec(ready=READY, min_uptime_s=0))
    world.spawned()
    world.take(Died("web"))
    world.take(BecameReady("web"), TimeoutExtended("web", 5.0))
    world.take(Change(spec(min_uptime_s=0, max_runtime_s=3.0), ASKED, restart=False))
    assert (world["web"].state, world["web"].deadline_s) == (State.STARTING, None)


def test_a_good_run_that_has_died_gets_no_deadline_from_a_reload() -> None:
    """Its `max_runtime` is not exceeded by a dead process; the run was as long as it was."""
    world = World(spec(min_uptime_s=1.0)).run()
    world.take(Died("web"))
    world.take(Change(spec(min_uptime_s=1.0, max_runtime_s=3.0), ASKED, restart=False))
    world.pass_time(10.0)
    assert world["web"].state is State.RUNNING
    world.exited(code=0)
    assert "after 1s" in str(world["web"].cause)


def test_the_death_of_nobody_is_a_mistake() -> None:
    """As its exit would be."""
    world = World(spec(), start=False)
    with pytest.raises(IllegalTransition):
        world.take(Died("web"))


def test_a_death_in_a_stop_changes_nothing() -> None:
    """The stop has its own clock."""
    world = World(spec()).run()
    world.stop()
    due = world["web"].deadline_s
    world.take(Died("web"))
    assert world["web"].deadline_s == due is not None
