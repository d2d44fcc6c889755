"""Stopped means empty: signals, steps, SIGKILL, and what does not die even of that."""

from __future__ import annotations

import pytest

from procd.config.spec import Hooks, StopScope, StopStep
from procd.core import (
    AwaitEmpty,
    DeadlinePassed,
    Desired,
    Exit,
    Forget,
    Hook,
    KillTree,
    Remove,
    RunHook,
    Signal,
    Spawn,
    SpawnFailed,
    State,
    TimeoutExtended,
)
from procd.core.lives import KILL_GRACE_S
from tests.unit.core.world import ASKED, World, spec

STEPS = (StopStep(2, 5.0), StopStep(15, 7.0))


def stuck(world: World | None = None, name: str = "web") -> World:
    """A program whose process does not die of SIGKILL."""
    world = world or World(spec()).run()
    world.stop(name)
    world.take_deadline(name)
    assert world.of(KillTree) == [KillTree(name)]
    world.take_deadline(name)
    assert world.state(name) is State.FATAL
    assert world[name].stuck
    return world


def test_a_stop_signals_the_group_and_waits_for_emptiness() -> None:
    """The exit is not the end of it."""
    world = World(spec(stop_signal=3)).run()
    world.stop()
    assert world.of(Signal) == [Signal("web", 3, group=True)]
    assert world.state() is State.STOPPING
    world.exited("web", 0)
    assert world.of(AwaitEmpty) == [AwaitEmpty("web")]
    assert world.state() is State.STOPPING
    world.emptied()
    assert world.state() is State.STOPPED
    assert world["web"].exit == Exit(code=0)
    assert world.machine.at_rest()
    assert world.machine.next_deadline() is None


def test_scope_process_spares_the_group_the_first_signal_only() -> None:
    """Later steps are for everybody."""
    world = World(spec(stop_scope=StopScope.PROCESS, stop_steps=STEPS)).run()
    world.stop()
    assert world.of(Signal) == [Signal("web", 2, group=False)]
    world.pass_time(5)
    assert world.of(Signal) == [Signal("web", 15, group=True)]


def test_each_step_has_its_time_and_then_everything_is_killed() -> None:
    """INT, TERM, KILL; the reason says that it had to be."""
    world = World(spec(stop_steps=STEPS)).run()
    world.stop()
    assert world.signals() == [("web", 2)]
    world.pass_time(4.9)
    assert world.actions == []
    world.pass_time(0.1)
    assert world.signals() == [("web", 15)]
    world.pass_time(7)
    assert world.of(KillTree) == [KillTree("web")]
    assert world.why() == "asked; did not stop within 12s, killed"
    world.exited("web", None, 9)
    world.emptied("web", "sleep (pid 7)")
    assert world.state() is State.STOPPED
    assert world.why() == "asked; did not stop within 12s, killed; killed what was left: sleep (pid 7)"


def test_what_the_main_process_leaves_behind_has_the_rest_of_the_time() -> None:
    """Then it is killed like the rest."""
    world = World(spec(stop_timeout_s=10)).run()
    world.stop()
    world.pass_time(4)
    world.exited("web", 0)
    world.pass_time(5.9)
    assert world.of(KillTree) == []
    world.pass_time(0.1)
    assert world.of(KillTree) == [KillTree("web")]


def test_hundred_programs_that_ignore_the_signal_stop_at_once() -> None:
    """One stop_timeout for all, not one for each."""
    names = [f"p{number}" for number in range(100)]
    world = World(*(spec(name) for name in names)).run(*names)
    world.shutdown()
    assert len(world.of(Signal)) == 100
    world.pass_time(10)
    assert len(world.of(KillTree)) == 100


def test_a_start_while_it_stops_begins_when_it_is_empty() -> None:
    """Never beside the old life."""
    world = World(spec()).run()
    world.stop()
    world.start()
    assert (world.state(), world["web"].desired) == (State.STOPPING, Desired.UP)
    world.exited("web", 0)
    assert world.spawns() == []
    world.emptied()
    assert world.spawns() == ["web"]


def test_the_last_word_counts() -> None:
    """Stop, start, stop: it stays stopped."""
    world = World(spec()).run()
    world.stop()
    world.start()
    world.stop()
    world.gone()
    assert world.state() is State.STOPPED
    world.restart()
    assert world.spawns() == ["web"]


def test_a_restart_is_a_stop_and_a_start() -> None:
    """And not one of those that nobody asked for."""
    world = World(spec()).run()
    world.restart()
    assert world.signals() == [("web", 15)]
    world.gone()
    assert world.spawns() == ["web"]
    assert world["web"].restarts == 0


def test_a_stop_in_the_middle_of_procds_own_stop_cancels_what_was_to_follow() -> None:
    """The operator's wish wins."""
    world = World(spec(max_runtime_s=5)).run()
    world.pass_time(5)
    assert world.state() is State.STOPPING
    world.stop()
    world.gone()
    assert world.state() is State.STOPPED


@pytest.mark.parametrize("state", [State.WAITING, State.BACKOFF, State.EXITED, State.FATAL, State.STOPPED])
def test_a_stop_at_rest_is_done_at_once(state: State) -> None:
    """There is nothing to wait for."""
    world = World(spec(needs=["ghost"]) if state is State.WAITING else spec())
    if state is State.BACKOFF:
        world.spawned()
        world.exited()
    elif state is State.STOPPED:
        world.stop()
        world.take(SpawnFailed("web", "too late"))
    elif state is not State.WAITING:
        world.run()
        world["web"].state = state
    assert world.state() is state
    world.stop()
    assert (world.state(), world["web"].deadline_s) == (State.STOPPED, None)


# A stop that overtakes the spawn


def test_a_stop_that_overtakes_the_spawn_signals_what_was_spawned() -> None:
    """Not before there is somebody to signal, and with all of its time."""
    world = World(spec())
    world.stop()
    assert (world.state(), world.actions[1:]) == (State.STOPPING, [])
    world.pass_time(60)
    assert world.actions == []
    world.spawned()
    assert world.signals() == [("web", 15)]
    assert world["web"].deadline_s == world.now + 10
    world.gone()
    assert world.state() is State.STOPPED


def test_a_stop_that_overtakes_a_spawn_that_fails_is_done() -> None:
    """Nothing was ever there; how the life before had ended is still known."""
    world = World(spec()).run()
    world.exited()
    world.stop()
    world.take(SpawnFailed("web", "stopped before it was started"))
    assert world.state() is State.STOPPED
    assert world["web"].exit == Exit(code=1)


def test_a_restart_that_overtakes_the_spawn_is_another_start() -> None:
    """When the first is over."""
    world = World(spec())
    world.restart()
    assert world.state() is State.STOPPING
    world.take(SpawnFailed("web", "stopped before it was started"))
    assert world.spawns() == ["web"]


# Time


def test_a_program_that_asks_for_time_to_stop_gets_it_until_it_is_killed() -> None:
    """SIGKILL does not negotiate."""
    world = World(spec(stop_timeout_s=10)).run()
    world.stop()
    world.take(TimeoutExtended("web", 30))
    world.pass_time(29)
    assert world.of(KillTree) == []
    world.pass_time(1)
    assert world.of(KillTree) == [KillTree("web")]
    due = world["web"].deadline_s
    world.take(TimeoutExtended("web", 30))
    assert world["web"].deadline_s == due


def test_a_deadline_can_be_hurried() -> None:
    """Who asks twice for the end does not wait for the timeout."""
    world = World(spec()).run()
    world.stop()
    world.take(DeadlinePassed("web"))
    assert world.of(KillTree) == [KillTree("web")]


def test_what_was_killed_has_its_time_to_die() -> None:
    """Hurrying does not make it stuck."""
    world = World(spec()).run()
    world.stop()
    world.take(DeadlinePassed("web"))
    world.take(DeadlinePassed("web"))
    assert world.state() is State.STOPPING
    world.pass_time(KILL_GRACE_S)
    assert world.state() is State.FATAL


def test_hurrying_without_a_deadline_is_nothing() -> None:
    """The deadline and the hurry may cross."""
    world = World(spec()).run()
    world.take(DeadlinePassed("web"))
    assert (world.state(), world.actions) == (State.RUNNING, [])


def test_hurrying_a_backoff_starts_at_once() -> None:
    """Its deadline is the start."""
    world = World(spec())
    world.spawned()
    world.exited()
    world.take(DeadlinePassed("web"))
    assert world.spawns() == ["web"]


def test_a_stop_whose_steps_are_changed_while_it_goes_on_still_ends_with_a_kill() -> None:
    """Also if there are fewer now than it has behind it."""
    from procd.core import Change  # noqa: PLC0415

    world = World(spec(stop_steps=STEPS)).run()
    world.stop()
    world.pass_time(5)
    world.take(Change(spec(), ASKED, restart=False))
    world.pass_time(7)
    assert world.of(KillTree) == [KillTree("web")]
    assert world.state() is State.STOPPING


# What does not die


def test_what_does_not_die_of_sigkill_is_reported_and_not_waited_for() -> None:
    """FATAL, with the process named."""
    world = stuck()
    assert world.why() == "asked; did not stop within 10s, killed, but process 1000 does not die"
    assert world.machine.at_rest()
    assert world.machine.next_deadline() is None


def test_something_that_is_left_and_does_not_die_is_stuck_too() -> None:
    """Its main process is gone, it is not empty."""
    world = World(spec()).run()
    world.stop()
    world.exited("web", 0)
    world.pass_time(15)
    assert world.why().endswith("but something of it does not die")
    world.emptied()
    assert world.state() is State.STOPPED


def test_nothing_is_started_beside_a_process_that_does_not_die() -> None:
    """Not by a request, not by a schedule, not by a new spec."""
    world = stuck()
    for request in (world.start, world.restart):
        request()
        assert world.spawns() == []
        assert world.state() is State.FATAL
        assert world["web"].desired is Desired.UP


def test_a_stuck_program_that_is_wanted_starts_when_it_is_gone_at_last() -> None:
    """It recovers by itself, and its next stop is a whole one."""
    world = stuck()
    world.start()
    world.exited("web", None, 9)
    assert world.of(AwaitEmpty) == [AwaitEmpty("web")]
    assert world.spawns() == []
    world.emptied()
    assert world.spawns() == ["web"]
    world.run()
    world.stop()
    assert world.signals() == [("web", 15)]
    world.gone()
    assert world.state() is State.STOPPED


def test_a_stuck_program_that_is_not_wanted_is_stopped_when_it_is_gone_at_last() -> None:
    """Asking again for the stop changes nothing."""
    world = stuck()
    world.stop()
    assert world.state() is State.FATAL
    world.exited("web", None, 9)
    world.emptied()
    assert world.state() is State.STOPPED


def test_a_stuck_program_that_is_removed_is_forgotten_when_it_is_gone_at_last() -> None:
    """And not a moment sooner: its name is still taken by a process."""
    world = stuck()
    world.take(Remove("web", ASKED))
    assert world.of(Forget) == []
    world.exited("web", None, 9)
    world.emptied()
    assert world.of(Forget) == [Forget("web")]


def test_a_verdict_outlives_being_stuck() -> None:
    """What was to follow the stop follows it, however late."""
    world = World(spec(max_runtime_s=5)).run()
    world.pass_time(5 + 10 + KILL_GRACE_S)
    assert world.state() is State.FATAL
    world.exited("web", None, 9)
    world.emptied()
    assert world.state() is State.STARTING
    assert world["web"].restarts == 1


def test_a_shutdown_does_not_wait_for_what_does_not_die() -> None:
    """Nor does it start it when it is gone."""
    world = stuck()
    world.start()
    world.shutdown()
    assert world.machine.at_rest()
    world.exited("web", None, 9)
    world.emptied()
    assert (world.state(), world.spawns()) == (State.STOPPED, [])


def test_no_after_stop_for_a_program_that_was_stuck() -> None:
    """Its stop was over when it was given up."""
    world = World(spec(hooks=Hooks(after_stop=("x",)))).run()
    stuck(world)
    world.exited("web", None, 9)
    world.emptied()
    assert world.of(RunHook) == []
    assert world.state() is State.STOPPED


def test_the_hook_that_a_stop_waits_for_is_no_excuse() -> None:
    """A stop has an end also when nothing at all answers."""
    hooks = Hooks(before_stop=("x",), after_stop=("y",), timeout_s=30)
    world = World(spec(hooks=hooks)).run()
    world.stop()
    assert world.of(RunHook) == [RunHook("web", Hook.BEFORE_STOP)]
    world.pass_time(30 + KILL_GRACE_S + KILL_GRACE_S + 10 + KILL_GRACE_S)
    assert world.state() is State.FATAL
    assert world.of(Spawn) == []
